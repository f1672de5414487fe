"""History, callbacks, the progress display, and training that is cut short."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import normcore as nc
from normcore.nn import MLP
from normcore.training import Callback, History, Trainer
from normcore.training.history import format_value

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
y = X[:, :3].argmax(axis=1)


def trainer():
    return Trainer(MLP([4, 8, 3], seed=0))


class Log(Callback):
    """Writes the name of every call to a shared list."""

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def on_train_begin(self, trainer):
        assert trainer.model.training
        self.calls.append(f"{self.name} begin")

    def on_epoch_begin(self, trainer, epoch):
        assert len(trainer.history) == epoch
        self.calls.append(f"{self.name} epoch {epoch}")

    def on_batch_end(self, trainer, batch, logs):
        assert trainer.model.training
        assert list(logs) == ["loss", "accuracy"]
        self.calls.append(f"{self.name} batch {batch}")

    def on_epoch_end(self, trainer, epoch, logs):
        assert len(trainer.history) == epoch + 1
        assert list(logs) == ["loss", "accuracy", "val_loss", "val_accuracy"]
        self.calls.append(f"{self.name} end {epoch}")

    def on_train_end(self, trainer):
        assert trainer.model.training
        self.calls.append(f"{self.name} over")


class TestCallbacks:
    def test_order(self):
        calls = []
        trainer().fit(
            X, y, epochs=2, batch_size=20, validation_data=(X, y), callbacks=[Log("a", calls), Log("b", calls)]
        )
        assert calls == [
            "a begin", "b begin",
            "a epoch 0", "b epoch 0", "a batch 0", "b batch 0", "a batch 1", "b batch 1", "a end 0", "b end 0",
            "a epoch 1", "b epoch 1", "a batch 0", "b batch 0", "a batch 1", "b batch 1", "a end 1", "b end 1",
            "b over", "a over",
        ]  # fmt: skip

    def test_the_base_class_does_nothing(self):
        t = trainer()
        assert len(t.fit(X, y, callbacks=(Callback(),))) == 1

    def test_stop_training(self):
        class Stop(Callback):
            def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
                trainer.stop_training = len(trainer.history) == 2

        t = trainer()
        assert t.fit(X, y, epochs=9, batch_size=20, callbacks=[Stop()]).epoch == [0, 1, 2]
        assert len(t.fit(X, y, epochs=2)) == 2  # the wish is forgotten

    def test_changing_the_learning_rate(self):
        class Halve(Callback):
            def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
                trainer.optimizer.lr /= 2

        t = trainer()
        t.fit(X, y, epochs=3, callbacks=[Halve()])
        assert t.optimizer.lr == 1e-3 / 8

    def test_an_exception_ends_every_callback_that_began(self):
        calls = []

        class Fail(Callback):
            def on_train_begin(self, trainer):  # noqa: ARG002 - the signature of what it overrides
                raise RuntimeError("no disk")

            def on_train_end(self, trainer):  # noqa: ARG002 - the signature of what it overrides
                calls.append("fail over")

        class FailAtEnd(Callback):
            def on_train_end(self, trainer):  # noqa: ARG002 - the signature of what it overrides
                raise RuntimeError("no disk")

        t = trainer()
        t.model.eval()
        with pytest.raises(RuntimeError, match="no disk"):
            t.fit(X, y, callbacks=[Fail(), Log("late", calls)])
        assert calls == ["fail over"]
        assert not t.model.training
        calls.clear()
        with pytest.raises(RuntimeError, match="no disk"):
            t.fit(X, y, validation_data=(X, y), callbacks=[Log("first", calls), FailAtEnd()])
        assert calls[-1] == "first over"


class Interrupt(Callback):
    """Ctrl-C in the third batch of the third epoch."""

    def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
        if len(trainer.history) == 2 and batch == 2:
            raise KeyboardInterrupt


class TestInterrupt:
    def check(self, t):
        assert len(t.history) == 2
        assert all(len(values) == 2 and np.isfinite(values).all() for values in t.history.history.values())
        assert not t.model.training  # as it was
        assert np.isfinite(t.predict(X)).all()
        assert np.isfinite(t.evaluate(X, y)["loss"])
        assert len(t.fit(X, y)) == 1

    @pytest.mark.parametrize("progress", [True, False])
    def test_from_a_callback(self, progress):
        t, calls = trainer(), []
        t.model.eval()
        with pytest.raises(KeyboardInterrupt):
            t.fit(X, y, 9, 10, (X, y), callbacks=[Log("a", calls), Interrupt()], progress=progress)
        assert calls[-1] == "a over"
        assert t.model[1].num_batches_tracked == 2 * 4 + 3
        self.check(t)

    @pytest.mark.skipif(sys.platform == "win32", reason="signals are not delivered like this on Windows")
    def test_as_a_signal(self):
        class Press(Callback):
            def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
                if epoch == 1:
                    signal.raise_signal(signal.SIGINT)

        if threading.current_thread() is not threading.main_thread():
            pytest.skip("Python runs signal handlers in the main thread only")
        t = trainer()
        t.model.eval()
        with pytest.raises(KeyboardInterrupt):
            t.fit(X, y, 9, callbacks=[Press()])
        self.check(t)


class TestProgress:
    def test_with_tqdm(self, capsys):
        pytest.importorskip("tqdm", reason="tqdm, the optional progress bar, is not installed")
        trainer().fit(X, y, epochs=3, batch_size=10, progress=True, validation_data=(X, y))
        out, err = capsys.readouterr()
        assert out == ""
        assert "epoch 3/3: 100%" in err
        assert "12/12" in err
        assert all(f"{name}=" in err for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
        assert err.endswith("\n")

    def test_the_bar_is_closed_when_training_fails(self, capsys, monkeypatch):
        tqdm = pytest.importorskip("tqdm", reason="tqdm, the optional progress bar, is not installed")
        bars = []

        class Bar(tqdm.tqdm):
            def __init__(self, **options):
                super().__init__(**options)
                bars.append(self)  # kept, so that no destructor closes it

        monkeypatch.setattr(tqdm, "tqdm", Bar)
        with pytest.raises(KeyboardInterrupt):
            trainer().fit(X, y, epochs=9, batch_size=10, progress=True, callbacks=[Interrupt()])
        (bar,) = bars
        assert bar.disable  # what tqdm's close sets
        assert bar.n == 10
        assert bar.unit == "batch"
        assert capsys.readouterr().err.endswith("\n")

    def test_without_tqdm(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm", None)  # importing it now fails
        t = trainer()
        history = t.fit(X, y, epochs=3, progress=True).history
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert out == ""
        assert len(lines) == 3
        for i, line in enumerate(lines):
            loss, accuracy = (format_value(history[name][i]) for name in ("loss", "accuracy"))
            assert line.startswith(f"epoch {i + 1}/3  loss {loss}  accuracy {accuracy}  ")
            assert line.endswith(" s")

    @pytest.mark.parametrize("missing", [True, False])
    def test_silent_unless_asked(self, capsys, monkeypatch, missing):
        if missing:
            monkeypatch.setitem(sys.modules, "tqdm", None)
        trainer().fit(X, y, epochs=2)
        assert capsys.readouterr() == ("", "")

    def test_does_not_change_the_numbers(self):
        one, two = trainer(), trainer()
        assert one.fit(X, y, 3, seed=0, progress=True).history == two.fit(X, y, 3, seed=0).history

    def test_tqdm_is_imported_only_when_used(self):
        code = (
            "import sys, numpy as np, normcore as nc\n"
            "t = nc.Trainer(nc.MLP([4, 3]))\n"
            "t.fit(np.ones((8, 4), np.float32), np.zeros(8, int))\n"
            "print('tqdm' in sys.modules)\n"
        )
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"


class TestHistory:
    def test_what_it_holds(self):
        t = trainer()
        history = t.fit(X, y, epochs=3)
        assert history is t.history
        assert isinstance(history, nc.History)
        assert history.epoch == [0, 1, 2]
        assert len(history) == len(history.seconds) == 3
        assert all(seconds > 0 for seconds in history.seconds)
        assert all(type(value) is float for values in history.history.values() for value in values)

    def test_to_dict_is_ready_for_json_and_a_copy(self):
        history = trainer().fit(X, y, epochs=2)
        copied = history.to_dict()
        assert json.loads(json.dumps(copied)) == copied
        copied["history"]["loss"].clear()
        copied["epoch"].clear()
        assert len(history.history["loss"]) == len(history) == 2

    def test_repr_is_a_table(self):
        history = History()
        assert repr(history) == "History(0 epochs, 0.00 s)"
        history.append({"loss": 12.34567, "accuracy": np.float32(0.5)}, 1.25)
        assert repr(history) == (
            "History(1 epoch, 1.25 s)\n"
            "epoch     loss  accuracy  seconds\n"
            "    1  12.3457    0.5000     1.25"
        )  # fmt: skip
        for i in range(20):
            history.append({"loss": 1e-5 * i, "accuracy": 1.0}, 0.5)
        lines = repr(history).splitlines()
        assert lines[0] == "History(21 epochs, 11.25 s)"
        assert [line.split()[0] for line in lines[1:]] == [
            "epoch", "1", "2", "3", "4", "5", "...", "17", "18", "19", "20", "21"
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0.0000"),
            (0.93121, "0.9312"),
            (-0.5, "-0.5000"),
            (3.2123e-5, "3.21e-05"),
            (123456.0, "1.23e+05"),
            (np.nan, "nan"),
            (np.inf, "inf"),
        ],
    )
    def test_numbers(self, value, text):
        assert format_value(value) == text
