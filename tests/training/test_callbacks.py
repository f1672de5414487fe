"""Every callback that comes with the package, and the hooks that carry them."""

from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest
from trainers import PerStep, bits, data, trainer

from normcore.nn import MLP
from normcore.optim import SGD, StepLR
from normcore.training import (
    Callback,
    CSVLogger,
    DivergenceError,
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    Trainer,
)

X, y = data()


class Script(Callback):
    """Gives the model and the logs of each epoch values of its own, so that others see them."""

    def __init__(self, values, name="val_loss"):
        self.values, self.name = values, name

    def on_epoch_end(self, trainer, epoch, logs):
        logs[self.name] = self.values[epoch]
        trainer.model[0].bias.data[...] = epoch


def run(values, callback, name="val_loss", **options):
    t = trainer()
    t.fit(X, y, epochs=len(values), validation_data=(X, y), callbacks=[Script(values, name), callback], **options)
    return t


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("values", "options", "epochs", "best"),
        [
            ([5, 4, 3, 2], {}, 4, 3),
            ([5, 4, 4, 2], {}, 3, 1),  # patience 0 and 1: the first epoch that is no better
            ([5, 4, 4, 2], {"patience": 1}, 3, 1),
            ([5, 4, 6, 4, 3, 7, 8], {"patience": 2}, 4, 1),
            ([5, 4, 6, 3, 7, 2, 9, 9, 9], {"patience": 2}, 8, 5),
            ([5, 4.5, 4.2, 3.9, 0], {"patience": 3, "min_delta": 1.0}, 5, 4),
            ([5, 4.5, 4.2, 4.1, 0], {"patience": 3, "min_delta": 1.0}, 4, 0),
            ([math.nan, 5, math.nan, 4], {"patience": 2}, 4, 3),
            ([math.nan, math.nan, 3], {"patience": 2}, 2, None),
            ([1, 2, 3, 2, 1], {"mode": "max"}, 4, 2),
            ([-math.inf, 1, 0], {"mode": "max"}, 3, 1),
        ],
    )
    def test_when_it_stops(self, values, options, epochs, best):
        stop = EarlyStopping(**options)
        t = run(values, stop)
        assert len(t.history) == epochs
        assert stop.best_epoch == best
        assert stop.stopped_epoch == (epochs - 1 if epochs < len(values) or best != epochs - 1 else None)
        assert stop.best == values[best] if best is not None else math.isnan(stop.best)

    @pytest.mark.parametrize(("restore", "expected"), [(True, 1), (False, 3)])
    def test_restores_the_best(self, restore, expected):
        t = run([5, 1, 2, 3, 0], EarlyStopping(patience=2, restore_best_weights=restore))
        assert (t.model[0].bias.data == expected).all()

    def test_restores_running_statistics_too(self):
        kept = []

        class Keep(Callback):
            def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
                kept.append(trainer.model.state_dict())

        t = trainer()
        stop = EarlyStopping(patience=2, restore_best_weights=True)
        t.fit(X, y, 4, validation_data=(X, y), callbacks=[Script([2, 1, 3, 3]), Keep(), stop])
        for name, value in t.model.state_dict().items():
            np.testing.assert_array_equal(value, kept[1][name], err_msg=name)

    @pytest.mark.parametrize("how", [KeyboardInterrupt, DivergenceError])
    def test_restores_also_when_cut_short(self, how):
        class Break(Callback):
            def on_batch_begin(self, trainer, batch):  # noqa: ARG002 - the signature of what it overrides
                if len(trainer.history) == 3:
                    if how is KeyboardInterrupt:
                        raise KeyboardInterrupt
                    trainer.model[0].weight.data[...] = np.nan

        t = trainer()
        stop = EarlyStopping(patience=5, restore_best_weights=True)
        with pytest.raises(how):
            t.fit(X, y, 9, validation_data=(X, y), callbacks=[Script([5, 1, 2]), stop, Break()])
        assert (t.model[0].bias.data == 1).all()
        assert np.isfinite(t.predict(X)).all()

    def test_begins_anew_in_every_fit(self):
        stop = EarlyStopping(patience=1, restore_best_weights=True)
        run([1, 5], stop)
        t = run([9, 8, 7], stop)
        assert len(t.history) == 3
        assert stop.best == 7
        assert stop.stopped_epoch is None
        t = run([math.nan], stop)
        assert stop.best_epoch is None
        assert (t.model[0].bias.data == 0).all()  # nothing of another training is restored

    def test_direction_by_name(self):
        for name, values in (("val_accuracy", [0.1, 0.2, 0.1]), ("loss", [3, 2, 2])):
            stop = EarlyStopping(monitor=name)
            assert len(run(values, stop, name).history) == 3
            assert stop.best_epoch == 1

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"patience": -1}, ValueError, "EarlyStopping: patience must be 0 or more, got -1."),
            ({"patience": 1.5}, TypeError, "EarlyStopping: patience must be an int, got 1.5."),
            ({"min_delta": -1}, ValueError, "EarlyStopping: min_delta must be in [0, inf), got -1."),
            (
                {"restore_best_weights": "no"},
                TypeError,
                "EarlyStopping: restore_best_weights must be True or False, got 'no'.",
            ),
            ({"mode": "up"}, ValueError, "EarlyStopping: mode must be 'auto', 'min' or 'max', got 'up'."),
            (
                {"monitor": 3},
                TypeError,
                "monitor must be a name in the logs, such as 'val_loss', got 3.",
            ),
            (
                {"monitor": "zeros"},
                ValueError,
                "EarlyStopping: whether 'zeros' should be small or large cannot be told from its name; pass mode=",
            ),
        ],
    )
    def test_errors(self, options, error, message):
        with pytest.raises(error, match=re.escape(message)):
            EarlyStopping(**options)

    def test_a_name_that_will_not_be_there(self):
        t = trainer()
        before = bits(t)
        with pytest.raises(ValueError, match="the logs will have loss, accuracy, val_loss, val_accuracy; name one"):
            trainer().fit(X, y, validation_split=0.1, callbacks=[EarlyStopping("val_f1")])
        with pytest.raises(ValueError, match="monitor is 'val_loss', but the logs will have loss, accuracy; pass"):
            t.fit(X, y, callbacks=[EarlyStopping()])
        assert bits(t) == before


class TestReduceLROnPlateau:
    @pytest.mark.parametrize(
        ("values", "options", "rates"),
        [
            ([5, 4, 3], {}, [1, 1, 1]),
            ([5, 5, 5, 5, 5], {"patience": 2, "factor": 0.5}, [1, 1, 1, 0.5, 0.5]),
            ([5, 5, 5, 5], {"patience": 1, "factor": 0.5}, [1, 1, 0.5, 0.25]),
            ([5, 5, 4, 5, 5], {"patience": 2, "factor": 0.5}, [1, 1, 1, 1, 1]),
            ([5, 4.95, 4.9], {"patience": 1, "factor": 0.5, "min_delta": 0.1}, [1, 1, 0.5]),
            ([5, 5, 5, 5, 5, 5], {"patience": 1, "factor": 0.5, "cooldown": 2}, [1, 1, 0.5, 0.5, 0.25, 0.25]),
            # the last epoch of a pause is the first that counts again
            ([5] * 9, {"patience": 3, "factor": 0.5, "cooldown": 2}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
            ([5, 5, 5, 5], {"patience": 1, "factor": 0.1, "min_lr": 0.3}, [1, 1, 0.3, 0.3]),
            ([1, 2, 2, 2], {"patience": 1, "factor": 0.5, "mode": "max"}, [1, 1, 1, 0.5]),
        ],
    )
    def test_rates(self, values, options, rates):
        t = trainer(lr=1.0)
        t.fit(X, y, len(values), validation_data=(X, y), callbacks=[Script(values), ReduceLROnPlateau(**options)])
        np.testing.assert_allclose(t.history.history["lr"], rates, rtol=1e-12)

    def test_every_group_has_its_own_rate(self):
        model = MLP([4, 3], seed=0)
        optimizer = SGD([{"params": [model[0].weight], "lr": 0.1}, {"params": [model[0].bias], "lr": 0.02}], lr=1.0)
        callbacks = [Script([1, 1]), ReduceLROnPlateau(patience=1, min_lr=0.05)]
        Trainer(model, optimizer).fit(X, y, 2, validation_data=(X, y), callbacks=callbacks)
        # 0.02 is below min_lr already, and is not raised
        np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], [0.05, 0.02], rtol=1e-12)

    @pytest.mark.parametrize("name", ["wait", "cooling"])
    def test_a_count_is_an_int(self, name):
        callback = ReduceLROnPlateau()
        with pytest.raises(TypeError, match=f"^ReduceLROnPlateau: {name} must be an int, got 'x'.$"):
            callback.load_state_dict(callback.state_dict() | {name: "x"})

    def test_not_beside_a_schedule(self):
        t = trainer()
        t.scheduler = PerStep(t.optimizer)
        with pytest.raises(ValueError, match="ReduceLROnPlateau: the trainer has a scheduler, which would set the"):
            t.fit(X, y, callbacks=[ReduceLROnPlateau("loss")])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"factor": 1}, "ReduceLROnPlateau: factor must be in (0, 1), got 1."),
            ({"cooldown": -1}, "ReduceLROnPlateau: patience and cooldown must be 0 or more, got 10 and -1."),
            ({"min_lr": -1}, "ReduceLROnPlateau: min_lr must be in [0, inf), got -1."),
        ],
    )
    def test_errors(self, options, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            ReduceLROnPlateau(**options)


class TestModelCheckpoint:
    def test_names_and_every(self, tmp_path):
        folder = tmp_path / "deep" / "er"
        callback = ModelCheckpoint(folder / "run-{epoch:02d}-{val_loss:.2f}.npz", every=2)
        run([0.5, 0.25, 0.125, 2, 7], callback)
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["run-02-0.25.npz", "run-04-2.00.npz"]
        assert callback.last_path == str(folder / "run-04-2.00.npz")

    def test_best_only(self, tmp_path):
        callback = ModelCheckpoint(tmp_path / "best.npz", save_best_only=True)
        run([5, 3, 4, 2, 9], callback)
        t = trainer()
        t.load_checkpoint(tmp_path / "best.npz")
        assert (t.model[0].bias.data == 3).all()
        assert len(t.history) == 4

    def test_runs_after_the_others(self, tmp_path):
        t = trainer()
        t.fit(X, y, 1, validation_data=(X, y), callbacks=[ModelCheckpoint(tmp_path / "a.npz"), Script([7])])
        other = trainer(seed=1)
        other.load_checkpoint(tmp_path / "a.npz")
        assert bits(other) == bits(t)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"path": "a-{nothing}.npz"}, ValueError, "ModelCheckpoint: path is 'a-{nothing}.npz', whose fields"),
            ({"path": "a-{epoch.of}.npz"}, ValueError, "ModelCheckpoint: path is 'a-{epoch.of}.npz', whose fields"),
            ({"path": "a-{}.npz"}, ValueError, "there are epoch, loss, accuracy."),
            ({"path": "a.npz", "every": 0}, ValueError, "ModelCheckpoint: every must be a positive int, got 0."),
            ({"path": "a.npz", "save_best_only": True}, ValueError, "ModelCheckpoint: monitor is 'val_loss', but"),
            ({"path": b"a.npz"}, TypeError, "ModelCheckpoint: path must be a str or a path, got b'a.npz'."),
        ],
    )  # fmt: skip
    def test_errors(self, options, error, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        t = trainer()
        before = bits(t)
        with pytest.raises(error, match=re.escape(message)):
            t.fit(X, y, callbacks=[ModelCheckpoint(**options)])
        assert list(tmp_path.iterdir()) == []
        assert bits(t) == before  # it is said before anything is trained


class TestCSVLogger:
    def test_is_there_after_every_epoch(self, tmp_path):
        path, lines = tmp_path / "log.csv", []
        deep = tmp_path / "runs" / "one" / "log.csv"

        class Count(Callback):
            def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
                lines.append(len(path.read_text().splitlines()))

        t = trainer()
        t.fit(X, y, 3, validation_data=(X, y), callbacks=[CSVLogger(path), CSVLogger(deep), Count()])
        assert lines == [2, 3, 4]
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
        for name, values in t.history.history.items():
            assert [float(row[name]) for row in rows] == values
        assert deep.read_bytes() == path.read_bytes()


class TestHooks:
    def test_all_of_them_in_order(self):
        calls = []

        class All(Callback):
            def on_train_begin(self, trainer):
                calls.append(("train begin", trainer.log_names))

            def on_epoch_begin(self, trainer, epoch):  # noqa: ARG002 - the signature of what it overrides
                calls.append(("epoch begin", epoch))

            def on_batch_begin(self, trainer, batch):  # noqa: ARG002 - the signature of what it overrides
                calls.append(("batch begin", batch))

            def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
                calls.append(("batch end", batch, list(logs)))

            def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
                calls.append(("epoch end", epoch, list(logs)))

            def on_train_end(self, trainer):  # noqa: ARG002 - the signature of what it overrides
                calls.append("train end")

        trainer(metrics=["accuracy", "f1"]).fit(X, y, batch_size=30, callbacks=[All()])
        names = ["loss", "accuracy", "f1"]
        assert calls == [
            ("train begin", tuple(names)), ("epoch begin", 0),
            ("batch begin", 0), ("batch end", 0, names), ("batch begin", 1), ("batch end", 1, names),
            ("epoch end", 0, names), "train end",
        ]  # fmt: skip

    def test_only_what_is_overridden_is_called(self, monkeypatch):
        def fail(*arguments):
            raise AssertionError(f"called with {arguments}")

        class EpochsAlone(Callback):
            def on_epoch_end(self, trainer, epoch, logs):
                pass

        for hook in ("on_batch_begin", "on_batch_end", "on_epoch_begin"):
            monkeypatch.setattr(Callback, hook, fail)
        trainer().fit(X, y, callbacks=[EpochsAlone()])

    def test_a_hook_may_be_an_attribute(self):
        calls = []
        callback = Callback()
        callback.on_batch_begin = lambda trainer, batch: calls.append(batch)  # noqa: ARG005 - the signature of the hook
        trainer().fit(X, y, batch_size=20, callbacks=[callback])
        assert calls == [0, 1, 2]

    def test_schedules_of_the_package(self):
        model = MLP([4, 3], seed=0)
        optimizer = SGD(model.parameters(), lr=1.0)
        t = Trainer(model, optimizer, scheduler=StepLR(optimizer, step_size=2, gamma=0.5))
        assert t.fit(X, y, 5).history["lr"] == [1, 1, 0.5, 0.5, 0.25]
        optimizer.lr = 1.0
        t = Trainer(model, optimizer, scheduler=StepLR(optimizer, step_size=3, gamma=0.5, per_epoch=False))
        assert t.fit(X, y, 2, batch_size=20).history["lr"] == [1, 0.5]

    def test_clipping_is_that_of_the_loop(self):
        from normcore.nn import CrossEntropyLoss
        from normcore.optim import clip_grad_norm_

        t = trainer(clip_norm=0.05)
        t.fit(X, y, 2, batch_size=20, shuffle=False)
        other = trainer()
        criterion = CrossEntropyLoss()
        for _ in range(2):
            for rows in np.split(np.arange(60), 3):
                criterion(other.model(X[rows]), y[rows])
                other.model.backward(criterion.backward())
                assert clip_grad_norm_(other.model.parameters(), 0.05) > 0.05
                other.optimizer.step()
        assert bits(t) == bits(other)

    def test_a_norm_that_is_not_finite_stops_before_the_step(self):
        class Steep:
            def __call__(self, output, target):  # noqa: ARG002 - what a loss is called with
                self.dy = np.full_like(output, np.inf)
                return 1.0

            def backward(self):
                return self.dy

        model = MLP([4, 3], seed=0)
        before = model[0].bias.data.copy()
        with np.errstate(invalid="ignore"), pytest.raises(DivergenceError, match="the norm of the gradients is "):
            Trainer(model, loss=Steep(), clip_norm=1.0).fit(X, y)
        np.testing.assert_array_equal(model[0].bias.data, before)

    @pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
    def test_clip_norm_must_be_a_norm(self, value):
        with pytest.raises(ValueError, match=re.escape("Trainer: clip_norm must be in (0, inf), got ")):
            trainer(clip_norm=value)
