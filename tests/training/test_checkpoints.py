"""Checkpoints: going on gives the bits of never having stopped; what is damaged or foreign changes nothing."""

from __future__ import annotations

import json
import os
import re
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import python
from trainers import PerEpoch, PerStep, bits, data, trainer, with_dropout

from normcore.nn import MLP, Dropout, Linear, Sequential
from normcore.optim import SGD, AdamW, OneCycleLR
from normcore.training import (
    Callback,
    Diagnostics,
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    Trainer,
    _archive,
)
from normcore.training._archive import _as_safetensors
from normcore.training._checkpoint import _check_run
from normcore.training._random import from_state, state_of
from normcore.training._tree import pack, unpack

X, y = data()
FORMATS = ["npz", "safetensors"]


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    if request.param == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors, the optional format of checkpoints, is not installed")
    return tmp_path / f"checkpoint.{request.param}"


def by_steps():
    t = with_dropout()
    t.scheduler = PerStep(t.optimizer, 0.99)
    return t


def by_epochs():
    t = with_dropout()
    t.scheduler = PerEpoch(t.optimizer)
    return t


def one_cycle():
    model = MLP([4, 8, 8, 3], norm=["batch", "layer"], seed=0)
    optimizer = AdamW(model.parameters(), lr=0.01)
    return Trainer(model, optimizer, scheduler=OneCycleLR(optimizer, max_lr=0.1, total_steps=100), clip_norm=0.5)


def nesterov():
    model = MLP([4, 8, 3], seed=0, dtype=np.float64)
    return Trainer(model, SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True))


def half():
    model = MLP([4, 8, 3], seed=0, dtype=np.float16)
    return Trainer(model, SGD(model.parameters(), lr=0.05, momentum=0.9), metrics=["f1"])


class TestResuming:
    @pytest.mark.parametrize("make", [trainer, with_dropout, by_steps, by_epochs, one_cycle, nesterov, half])
    @pytest.mark.parametrize("split", [0.0, 0.25])
    def test_gives_the_bits_of_never_having_stopped(self, make, split, path):
        options = {"batch_size": 16, "validation_split": split, "class_weight": "balanced"}
        whole = make()
        whole.fit(X, y, 5, seed=7, **options)
        first = make()
        first.fit(X, y, 2, seed=7, **options)
        first.save_checkpoint(path)
        first.fit(X, y, 9)  # what happens afterwards is not in the file

        second = make()
        second.load_checkpoint(path)
        assert len(second.history) == 2
        history = second.fit(X, y, 5, resume=True, **options)
        assert history.history == whole.history.history
        assert history.epoch == [0, 1, 2, 3, 4]
        assert bits(second) == bits(whole)
        np.testing.assert_array_equal(second.predict(X), whole.predict(X))

    def test_in_a_new_process_killed_in_the_middle(self, path):
        code = (
            "import sys, os; sys.path[:0] = {!r}\n"
            "from trainers import *; from normcore.training import ModelCheckpoint, Callback\n"
            "class Kill(Callback):\n"
            "    def on_batch_begin(self, trainer, batch):\n"
            "        if len(trainer.history) == {} and batch == 1: print('killed', flush=True); os._exit(0)\n"
            "X, y = data(); t = with_dropout(); path = {!r}\n"
            "if os.path.exists(path): t.load_checkpoint(path)\n"
            "t.fit(X, y, 4, 16, seed=3, resume=True, callbacks=[Kill(), ModelCheckpoint(path)])\n"
            "import hashlib; print(hashlib.sha256(repr([bits(t), t.history.history]).encode()).hexdigest())"
        )
        here = os.path.dirname(sys.modules["trainers"].__file__)
        assert python(code.format([here], 2, str(path))) == "killed"
        assert python(code.format([here], 3, str(path))) == "killed"
        resumed = python(code.format([here], -1, str(path)))
        path.unlink()
        assert python(code.format([here], -1, str(path))) == resumed
        assert len(resumed) == 64

    def test_after_an_interrupt_in_the_middle_of_an_epoch(self, tmp_path):
        class Interrupt(Callback):
            def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
                if len(trainer.history) == 2 and batch == 1:
                    raise KeyboardInterrupt

        whole, first, second = with_dropout(), with_dropout(), with_dropout()
        whole.fit(X, y, 4, 16, seed=1)
        with pytest.raises(KeyboardInterrupt):
            first.fit(X, y, 4, 16, seed=1, callbacks=[Interrupt(), ModelCheckpoint(tmp_path / "a")])
        second.load_checkpoint(tmp_path / "a")
        second.fit(X, y, 4, 16, resume=True)
        assert bits(second) == bits(whole)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (
                (X[:50], y[:50]),
                "on X of shape (60, 4) and float32, but X is of shape (50, 4) and float32; pass the data",
            ),
            (
                (X.astype(np.float64), y),
                "on X of shape (60, 4) and float32, but X is of shape (60, 4) and float64; pass",
            ),
            ((X, np.eye(3)[y]), "on y of shape (60,) and int64, but y is of shape (60, 3) and float64; pass the data"),
        ],
    )
    def test_other_data(self, path, other, message):
        first, second = trainer(), trainer()
        first.fit(X, y, 2, seed=0)
        first.save_checkpoint(path)
        second.load_checkpoint(path)
        for t in (first, second):
            before = bits(t)
            with pytest.raises(ValueError, match="^" + re.escape("resume=True goes on with a training " + message)):
                t.fit(*other, 4, resume=True)
            assert bits(t) == before
            assert len(t.history) == 2
        # in place of what was loaded, nothing is lost
        first.fit(X, list(y), 4, resume=True)
        second.fit(X, y.astype(np.int16), 4, resume=True)
        assert bits(first) == bits(second)
        assert len(first.fit(*other, 1)) == 1

    def test_a_checkpoint_of_an_earlier_version(self, tmp_path):
        """It does not say of which data it is, and knows no amsgrad."""
        first = trainer()
        first.fit(X, y, 2, seed=0)
        first.save_checkpoint(tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz") as found:
            arrays = dict(found)
        content = json.loads(arrays.pop("normcore.json").tobytes())
        del content["run"]["data"]
        for group in content["optimizer"][1]["param_groups"]:
            del group["amsgrad"], group["maximize"]
        arrays["normcore.json"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
        np.savez(tmp_path / "b.npz", **arrays)
        second = trainer()
        second.load_checkpoint(tmp_path / "b.npz")
        second.fit(X, y, 4, resume=True)
        straight = trainer()
        straight.fit(X, y, 4, seed=0)
        assert bits(second) == bits(straight)

    def test_callbacks_remember(self, path):
        def callbacks():
            return [
                EarlyStopping("loss", patience=3, min_delta=0.05, restore_best_weights=True),
                ReduceLROnPlateau("loss", patience=1, factor=0.5, min_delta=0.05),
                EarlyStopping("val_accuracy", patience=50),
                Diagnostics(every=3),
            ]

        options = {"batch_size": 16, "validation_data": (X, y)}
        whole = trainer()
        there, after = callbacks(), callbacks()
        whole.fit(X, y, 30, seed=0, callbacks=there, **options)
        stopped = len(whole.history)
        assert 4 < stopped < 30
        for n in range(2, stopped + 3, 2):  # again and again, into its end and beyond
            second = trainer()
            if path.exists():
                second.load_checkpoint(path)
            after = callbacks()
            second.fit(X, y, min(n, 30), seed=0, resume=True, callbacks=[ModelCheckpoint(path), *after], **options)
        assert second.history.history == whole.history.history
        assert bits(second) == bits(whole)
        for a, b in zip(there, after, strict=True):
            assert repr(a.state_dict()) == repr(b.state_dict())

    def test_callbacks_without_a_state_begin_anew(self, path):
        first = trainer()
        first.fit(X, y, 2, seed=0, callbacks=[EarlyStopping("loss")])
        first.save_checkpoint(path)
        second, other = trainer(), ReduceLROnPlateau("loss")
        second.load_checkpoint(path)
        second.fit(X, y, 3, resume=True, callbacks=[other])
        assert other.state_dict()["best"] == second.history.history["loss"][-1]

    def test_what_a_callback_froze_stays_frozen(self, path):
        class Freeze(Callback):
            def on_epoch_begin(self, trainer, epoch):
                if epoch == 1:
                    trainer.model[1].freeze()

        whole, first, second = trainer(), trainer(), trainer()
        whole.fit(X, y, 4, seed=0, callbacks=[Freeze()])
        first.fit(X, y, 2, seed=0, callbacks=[Freeze()])
        first.save_checkpoint(path)
        second.load_checkpoint(path)
        second.fit(X, y, 4, resume=True)
        assert second.model[1].frozen
        assert bits(second) == bits(whole)

    def test_a_callback_that_refuses_to_begin_loses_nothing(self, path):
        first, second, stop = trainer(), trainer(), EarlyStopping("loss", patience=99)
        first.fit(X, y, 2, seed=0, callbacks=[EarlyStopping("loss", patience=99)])
        first.save_checkpoint(path)
        second.load_checkpoint(path)
        with pytest.raises(ValueError, match="monitor is 'val_loss'"):
            second.fit(X, y, 3, resume=True, callbacks=[EarlyStopping()])
        second.fit(X, y, 2, resume=True, callbacks=[stop])
        assert stop.best == min(first.history.history["loss"])

    def test_an_ended_training_stays_ended(self, path):
        first, second = trainer(), trainer()
        first.fit(X, y, 9, seed=0, callbacks=[EarlyStopping("loss", patience=1, min_delta=9)])
        assert len(first.history) == 2
        first.save_checkpoint(path)
        second.load_checkpoint(path)
        assert len(second.fit(X, y, 9, resume=True)) == 2
        second.stop_training = False
        assert len(second.fit(X, y, 9, resume=True)) == 9

    def test_a_generator_shared_with_a_layer_stays_shared(self, path):
        def make():
            rng = np.random.default_rng(5)
            model = Sequential(Dropout(0.5, rng=rng), Linear(4, 3, rng=rng))
            return Trainer(model), rng

        (whole, a), (first, b), (second, _) = make(), make(), make()
        whole.fit(X, y, 4, seed=a)
        first.fit(X, y, 2, seed=b)
        first.save_checkpoint(path)
        second.load_checkpoint(path)
        second.fit(X, y, 4, resume=True)
        assert bits(second) == bits(whole)

    @pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
    def test_every_generator_of_numpy(self, name, tmp_path):
        kind = getattr(np.random, name)
        whole, first, second = trainer(), trainer(), trainer()
        whole.fit(X, y, 3, seed=np.random.Generator(kind(1)))
        first.fit(X, y, 1, seed=np.random.Generator(kind(1)))
        first.save_checkpoint(tmp_path / "a")
        second.load_checkpoint(tmp_path / "a")
        second.fit(X, y, 3, resume=True)
        assert bits(second) == bits(whole)

    def test_before_any_training(self, path):
        first, second = trainer(seed=1), trainer(seed=2)
        first.save_checkpoint(path)
        second.load_checkpoint(path)
        assert bits(first) == bits(second)
        assert len(second.fit(X, y, 2, resume=True)) == 2

    def test_a_history_that_is_not_finite(self, path):
        first, second = trainer(), trainer()
        first.fit(X, y)
        first.history.history["loss"][0] = np.nan
        first.history.history["accuracy"][0] = -np.inf
        first.save_checkpoint(path)
        second.load_checkpoint(path)
        assert repr(second.history.history) == repr(first.history.history)


class TestFile:
    def test_is_the_same_bits_for_the_same_training(self, path):
        t = trainer()
        t.fit(X, y, seed=0)
        files = [path.with_name(f"{i}{path.suffix}") for i in range(4)]
        for file in files:
            t.save_checkpoint(file)
        assert len({file.read_bytes() for file in files}) == 1

    def test_is_read_by_numpy_without_pickle(self, tmp_path):
        t = trainer()
        t.fit(X, y)
        t.save_checkpoint(tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
            for name, value in t.model.state_dict().items():
                np.testing.assert_array_equal(found[f"model.{name}"], value)
            content = json.loads(found["normcore.json"].tobytes())
        assert content["format"] == "normcore checkpoint 1"

    def test_is_replaced_whole_or_not_at_all(self, path, monkeypatch):
        t = trainer()
        t.save_checkpoint(path)
        before = path.read_bytes()
        t.fit(X, y)

        def fail(*arguments):
            raise OSError(f"no space left, {arguments}")

        for step in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(os, step, fail)
                with pytest.raises(OSError, match="no space left"):
                    t.save_checkpoint(path)
            assert path.read_bytes() == before
            assert [item.name for item in path.parent.iterdir()] == [path.name]
        with pytest.raises(FileNotFoundError):
            t.save_checkpoint(path.parent / "nowhere" / "a.npz")

    def test_ctrl_c_while_writing_stays_ctrl_c(self, tmp_path, monkeypatch):
        def interrupted(*arguments, **options):  # noqa: ARG001 - the signature of what it stands for
            # What zipfile does when Ctrl-C comes between opening an entry and closing it.
            try:
                raise KeyboardInterrupt
            finally:
                raise ValueError("Can't close the ZIP file while there is an open writing handle on it.")

        t = trainer()
        t.save_checkpoint(tmp_path / "a.npz")
        before = (tmp_path / "a.npz").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(np, "savez", interrupted)
            with pytest.raises(KeyboardInterrupt):
                t.save_checkpoint(tmp_path / "a.npz")
        assert (tmp_path / "a.npz").read_bytes() == before

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
    def test_is_as_readable_as_any_file(self, path):
        trainer().save_checkpoint(path)
        other = path.with_name("other")
        other.write_bytes(b"")
        assert path.stat().st_mode == other.stat().st_mode

    def test_without_safetensors(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors", None)  # importing it now fails
        monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
        with pytest.raises(ImportError, match=r"save_checkpoint: a \.safetensors file needs the package safetensors"):
            trainer().save_checkpoint(tmp_path / "a.safetensors")
        t = trainer()
        before = bits(t)
        with pytest.raises(ImportError, match=r"ModelCheckpoint: a \.safetensors file needs the package safetensors"):
            t.fit(X, y, callbacks=[ModelCheckpoint(tmp_path / "a.safetensors")])
        assert bits(t) == before  # not after an epoch
        assert list(tmp_path.iterdir()) == []

    def test_is_read_without_safetensors(self, tmp_path, monkeypatch):
        pytest.importorskip("safetensors", reason="safetensors, which writes the file, is not installed")
        first, second = trainer(), trainer(seed=1)
        first.fit(X, y, 1, seed=0)
        first.save_checkpoint(tmp_path / "a.safetensors")
        monkeypatch.setitem(sys.modules, "safetensors", None)  # importing it now fails
        monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
        second.load_checkpoint(tmp_path / "a.safetensors")
        assert bits(second) == bits(first)


def refuses(t, path, message):
    before, epochs = bits(t), t.history.to_dict()
    generators = [repr(layer.rng.bit_generator.state) for layer in t.model.modules() if isinstance(layer, Dropout)]
    scheduler = None if t.scheduler is None else t.scheduler.state_dict()
    with pytest.raises(ValueError, match=message) as caught:
        t.load_checkpoint(path)
    assert str(caught.value).startswith(f"load_checkpoint: {os.fspath(path)!r}: ")
    assert str(caught.value).endswith("; nothing was changed.")
    assert bits(t) == before
    assert t.history.to_dict() == epochs
    assert generators == [
        repr(layer.rng.bit_generator.state) for layer in t.model.modules() if isinstance(layer, Dropout)
    ]
    assert scheduler == (None if t.scheduler is None else t.scheduler.state_dict())


class TestRefusals:
    def saved(self, path, make=with_dropout):
        t = make()
        t.fit(X, y, 2, seed=0)
        t.save_checkpoint(path)
        return path

    def target(self, make=with_dropout):
        t = make()
        t.fit(X, y, 1, seed=9)
        return t

    @pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.99])
    def test_a_file_that_ends_early(self, path, keep):
        content = self.saved(path).read_bytes()
        path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
        refuses(self.target(), path, "damaged")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
    def test_a_byte_that_is_another(self, path, place, change):
        intact = self.saved(path).read_bytes()
        content = bytearray(intact)
        content[int(place * len(content))] ^= change
        path.write_bytes(bytes(content))
        t = with_dropout()
        before = bits(t)
        try:
            t.load_checkpoint(path)
        except ValueError:
            assert bits(t) == before
        else:
            # Some bytes of a zip file say nothing, such as dates.
            other = with_dropout()
            path.write_bytes(intact)
            other.load_checkpoint(path)
            assert bits(t) == bits(other)
            assert t.history.to_dict() == other.history.to_dict()

    def test_other_files(self, tmp_path):
        t = self.target()
        for name, content in (("a.txt", b"hello"), ("a.npz", b"PK\x03\x04 no zip"), ("empty", b"")):
            (tmp_path / name).write_bytes(content)
            refuses(t, tmp_path / name, "damaged")
        np.savez(tmp_path / "b.npz", **t.model.state_dict())
        refuses(t, tmp_path / "b.npz", "it is an npz file, but no checkpoint; nothing")
        with (tmp_path / "c.npz").open("wb") as file:
            np.savez(file, **{"normcore.json": np.array([{"a": 1}], object)})  # a pickle
        refuses(t, tmp_path / "c.npz", "it is damaged")
        for text in ("no json", "[]", '{"format": "normcore checkpoint 2"}'):
            np.savez(tmp_path / "d.npz", **{"normcore.json": np.frombuffer(text.encode(), np.uint8)})
            refuses(t, tmp_path / "d.npz", "it is damaged|it is no checkpoint that this version reads")
        with pytest.raises(FileNotFoundError):
            t.load_checkpoint(tmp_path / "nothing.npz")

    def test_an_entry_that_says_it_is_shorter(self, tmp_path):
        # So long that NumPy, reading what the entry says, does not come to the checksum at its end.
        np.savez(tmp_path / "a.npz", **{"normcore.json": np.zeros(1_000_000, np.uint8)})
        content = (tmp_path / "a.npz").read_bytes()
        assert content.count(b"(1000000,)") == 1
        (tmp_path / "a.npz").write_bytes(content.replace(b"(1000000,)", b"(      2,)"))
        with pytest.raises(ValueError, match="it is damaged"):
            _archive.read(tmp_path / "a.npz", lambda text, _: text)

    def test_other_safetensors(self, tmp_path):
        numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
        numpy.save_file({"a": np.ones(3)}, tmp_path / "a.safetensors")
        refuses(self.target(), tmp_path / "a.safetensors", "it is a safetensors file, but no checkpoint")

    @pytest.mark.parametrize("missing", ["model", "optimizer", "scheduler", "history", "run", "layer_generators"])
    def test_a_part_that_is_missing(self, tmp_path, missing):
        with np.load(self.saved(tmp_path / "a.npz")) as found:
            arrays = dict(found)
        content = json.loads(arrays.pop("normcore.json").tobytes())
        del content[missing]
        arrays["normcore.json"] = np.frombuffer(json.dumps(content).encode(), np.uint8)
        np.savez(tmp_path / "b.npz", **arrays)
        refuses(self.target(), tmp_path / "b.npz", "it is damaged")

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: trainer(), "the random generator 3.rng is in the model or in the file but not in both"),
            (nesterov, "the random generator 3.rng is"),
            (by_steps, "its scheduler is None, but the trainer's is PerStep; make the trainer like the one saved"),
        ],
    )
    def test_another_trainer(self, path, make, message):
        self.saved(path)
        refuses(self.target(make), path, re.escape(message))

    def test_another_model_or_optimizer(self, path):
        self.saved(path, trainer)
        wider = MLP([4, 9, 3], seed=0)
        refuses(Trainer(wider), path, re.escape("MLP.load_state_dict: nothing was loaded; 0.weight: has shape (8"))
        deeper = MLP([4, 8, 8, 3], seed=0)
        refuses(Trainer(deeper), path, "missing keys: ")
        model = MLP([4, 8, 3], seed=0)
        t = Trainer(model, SGD(model.parameters(), lr=0.1))
        refuses(t, path, "its optimizer is Adam, but the trainer's is SGD; make the trainer like the one saved")
        # The model fits and the optimiser does not: the model is put back.
        t = trainer(seed=4)
        t.optimizer = type(t.optimizer)(t.model[0].parameters())
        refuses(t, path, "Adam.load_state_dict: ")

    def test_another_generator(self, path):
        self.saved(path)
        t = with_dropout()
        t.model[3].rng = np.random.Generator(np.random.SFC64(0))
        refuses(t, path, "the random generator 3.rng is PCG64 in the file, but SFC64 in the model")

    def test_a_schedule_that_cannot_be_saved(self, path):
        class Bare:
            def step(self):
                pass

        t = trainer(scheduler=Bare())
        with pytest.raises(ValueError, match=re.escape("a checkpoint needs a scheduler with state_dict(), but Bare")):
            t.save_checkpoint(path)
        assert not path.exists()

    def test_a_callback_that_cannot_be_saved(self, path):
        class Odd(Callback):
            def state_dict(self):
                return {"model": object()}

        t = trainer()
        t.fit(X, y, callbacks=[Odd()])
        with pytest.raises(TypeError, match=r"save_checkpoint: run\.callbacks\.0\.1\.model is a object, but a check"):
            t.save_checkpoint(path)
        assert not path.exists()


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.just("$"), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(TREES)
def test_what_is_packed_is_unpacked(tree):
    arrays = {}
    again = unpack(json.loads(json.dumps(pack(tree, "here", arrays))), arrays)
    assert repr(again) == repr(tree)
    assert arrays == {}


def test_arrays_and_numpy_numbers_are_packed():
    arrays = {}
    tree = {"a": [np.arange(3), {1: np.float32(0.5)}], "b": np.int64(7)}
    again = unpack(json.loads(json.dumps(pack(tree, "here", arrays))), arrays)
    assert list(arrays) == ["here.a.0"]
    np.testing.assert_array_equal(again["a"][0], [0, 1, 2])
    assert again["a"][1] == {1: 0.5}
    assert again["b"] == 7
    with pytest.raises(TypeError, match="here is an array of object, but a checkpoint keeps arrays of numbers alone"):
        pack(np.array([None]), "here", {})
    with pytest.raises(ValueError, match="unknown mark"):
        unpack({"$": ["pickle", "x"]}, {})


@pytest.mark.parametrize(("seed", "fits"), [(0, True), (2**63 - 1, True), (-1, False), (2**63, False), (1.0, False)])
def test_the_seed_of_a_split(seed, fits):
    generator = state_of(np.random.default_rng(3))
    content = {"callbacks": [], "shared": None, "split_seed": seed, "generator": generator}
    if fits:
        run = _check_run(content, {})
        assert run.split_seed == seed
        assert run.generator.random() == np.random.default_rng(3).random()
    else:
        with pytest.raises(TypeError):
            _check_run(content, {})


@pytest.mark.parametrize("name", ["RandomState", "seed", "Generator", "nothing", "", 3, None])
def test_a_generator_is_one_of_five(name):
    """What a file names is looked up in numpy.random, where there are functions that change everybody's state."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state is what must not change
    with pytest.raises(ValueError, match=r"^the state is no state of one of NumPy's generators$"):
        from_state(state_of(np.random.default_rng(3)) | {"bit_generator": name}, "the state")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - as above


@pytest.mark.parametrize("length", range(8))
def test_numbers_of_a_safetensors_file_begin_at_a_multiple_of_eight(length):
    pytest.importorskip("safetensors", reason="safetensors, for such files, is not installed")
    content = _as_safetensors({"a": np.arange(3.0)}, "x" * length)
    header = int.from_bytes(content[:8], "little")
    assert header % 8 == 0
    np.testing.assert_array_equal(np.frombuffer(content[8 + header :]), np.arange(3.0))
