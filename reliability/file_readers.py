"""Every reader of the package with an intact file, and what reading it gave, as text that can be compared."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import normcore as nc
from normcore._npz import NpzError, read_npz
from normcore.data import load_mnist, read_cifar10, read_idx
from normcore.training import EarlyStopping, History, ModelCheckpoint, Trainer
from normcore.training._archive import _as_npz, _as_safetensors

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = X.argmax(axis=1)
TEXT = "normcore.json"


class ChangedError(Exception):
    """A reader that failed left something changed."""


class Reader(NamedTuple):
    """A way from a file to values.

    `has_checksum`: damage never gives other values. `pieces` and `build` take the file apart into arrays and a JSON
    tree, and make one of them again whose checksums are right; None where there is nothing of the kind.
    """

    name: str
    file: str
    intact: bytes
    read: Callable[[Path], str]
    has_checksum: bool
    kind: str  # of the container: which damage by structure it gets
    pieces: Callable[[], tuple[dict[str, Any], Any]] | None = None
    build: Callable[[Mapping[str, Any], str], bytes] | None = None
    use: Callable[[Path], object] | None = None  # goes on with what was read
    errors: tuple[type[Exception], ...] = (ValueError,)
    names_the_file: bool = True


def fingerprint(*values: Any) -> str:
    """A text that differs where a bit of an array, a type or a number does."""
    return hashlib.sha256("\n".join(map(_shown, values)).encode()).hexdigest()[:16]


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(_shown, value))})"
    return repr(value)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def make(seed: int = 0) -> Trainer:
    """A trainer with everything that a checkpoint holds, as small as it can be."""
    rng = np.random.Generator(np.random.MT19937(seed)) if seed > 1 else np.random.default_rng(seed)
    model = nc.nn.Sequential(nc.nn.Linear(3, 2, rng=rng), nc.nn.BatchNorm1d(2), nc.nn.Dropout(0.1, rng=seed))
    model = nc.nn.Sequential(*model, nc.nn.Linear(2, 3, rng=seed))
    optimizer = nc.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Trainer(model, optimizer, scheduler=nc.optim.StepLR(optimizer, 1))


def stopping() -> EarlyStopping:
    """The callback whose state is in the files."""
    return EarlyStopping("loss", patience=9, restore_best_weights=True)


def state(t: Trainer) -> str:
    """Everything that `load_checkpoint` may change."""
    layers = [layer for layer in t.model.modules() if isinstance(layer, nc.nn.Dropout)]
    return fingerprint(
        t.model.state_dict(),
        t.optimizer.state_dict(),
        t.scheduler.state_dict(),  # type: ignore[union-attr] # it has one
        t.history.to_dict(),
        t.stop_training,
        [layer.rng.bit_generator.state for layer in layers],
        [getattr(layer, "frozen", None) for layer in t.model.modules()],
        None if t._run is None else (t._run.generator.bit_generator.state, t._run.split_seed, t._run.states()),
    )


class _Target:
    """A trainer that has another state than the file, made anew when it has been read into."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None

    def load(self, path: Path) -> str:
        if self.trainer is None:
            self.trainer = make(1)
            self.before = state(self.trainer)
        t = self.trainer
        try:
            t.load_checkpoint(path)
        except BaseException:
            if state(t) != self.before:
                self.trainer = None
                raise ChangedError("the trainer is not what it was") from None
            raise
        self.trainer = None
        return state(t)


def go_on(path: Path) -> None:
    """Train on with what was read, and save it again."""
    t = make(1)
    t.load_checkpoint(path)
    copy = path.with_name("again.npz")
    try:
        t.fit(X, Y, 3, 4, resume=True, validation_split=0.25, callbacks=[stopping(), ModelCheckpoint(copy)])
    except nc.training.DivergenceError:  # values that no training gets over are values all the same
        pass
    finally:
        copy.unlink(missing_ok=True)


def _checkpoint(suffix: str) -> Reader:
    import tempfile

    t = make(0)
    t.fit(X, Y, 2, 4, seed=np.random.Generator(np.random.MT19937(3)), validation_split=0.25, callbacks=[stopping()])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        t.save_checkpoint(path)
        intact = path.read_bytes()
    with np.load(io.BytesIO(intact)) if suffix == ".npz" else _opened(intact) as found:
        arrays = dict(found)
    text = arrays.pop(TEXT).tobytes().decode()

    def build(arrays: Mapping[str, Any], text: str) -> bytes:
        if suffix == ".npz":
            return _as_npz({**arrays, TEXT: np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)})
        return _as_safetensors(arrays, text)

    target = _Target()
    return Reader(
        f"checkpoint{suffix}", f"a{suffix}", intact, target.load, True, suffix[1:],
        lambda: (dict(arrays), json.loads(text)), build, go_on,
    )  # fmt: skip


class _opened:  # noqa: N801 - stands beside np.load
    def __init__(self, content: bytes) -> None:
        from safetensors.numpy import load

        length = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + length])["__metadata__"]
        self.arrays = {**load(content), TEXT: np.frombuffer(about[TEXT].encode(), np.uint8)}

    def __enter__(self) -> dict[str, Any]:
        return self.arrays

    def __exit__(self, *_: object) -> None:
        pass


# --- the others -------------------------------------------------------------------------------------------------------


def _history() -> Reader:
    history = History()
    for loss in (1.5, float("nan"), -0.25):
        history.append({"loss": loss, "val_accuracy": 0.5}, 0.125)
    history.append({"loss": float("inf")}, 0.5)
    text = history.to_json()
    return Reader(
        "history", "a.json", (text + "\n").encode(), lambda path: fingerprint(History.from_json(path).to_dict()),
        False, "json", lambda: ({}, json.loads(text)), lambda _, text: text.encode("utf-8", "surrogatepass"),
        lambda path: (found := History.from_json(path), found.to_json(), found.to_csv(), repr(found)),
    )  # fmt: skip


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """An IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.random.default_rng(1).integers(0, 256, (3, 4, 5), np.uint8)


def _idx(packed: bool) -> Reader:
    content = gzip.compress(idx(IMAGES), mtime=0) if packed else idx(IMAGES)
    name = "read_idx, gzip" if packed else "read_idx"
    kind = "idx.gz" if packed else "idx"
    return Reader(name, "a-idx3-ubyte", content, lambda path: fingerprint(read_idx(path)), packed, kind)


BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def tar(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """An archive as the published one is laid out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.USTAR_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def records() -> dict[str, bytes]:
    """The six files, of one record each."""
    rng = np.random.default_rng(2)
    return {name: bytes([number]) + rng.bytes(3072) for number, name in enumerate(BATCHES)}


def _cifar(packed: bool) -> Reader:
    content = tar(records())
    content = gzip.compress(content, mtime=0) if packed else content
    name, kind = ("read_cifar10, tar.gz", "tar.gz") if packed else ("read_cifar10, tar", "tar")
    return Reader(name, "a.tar", content, lambda path: fingerprint(*read_cifar10(path)), packed, kind)


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _mnist() -> Reader:
    """One of the four files is damaged, the three beside it are intact."""
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (2, 28, 28), np.uint8), np.array([3, 1], np.uint8)

    def read(path: Path) -> str:
        for name in NAMES:
            file = path.with_name(name)
            if not file.exists():
                file.write_bytes(idx(images if "images" in name else labels))
        try:
            found = load_mnist(data_dir=path.parent, download=False, verify=False)
        finally:
            for name in NAMES:
                if name != path.name:
                    path.with_name(name).unlink()
        return fingerprint(found.train.X, found.train.y, found.test.X, found.test.y)

    return Reader("load_mnist, verify=False", NAMES[1], idx(labels), read, False, "idx")


def _npz() -> Reader:
    """What `load_digits` reads its own file with."""
    arrays = {"images": IMAGES, "labels": np.arange(3, dtype=np.uint8)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type] # one of the keywords is a bool

    def read(path: Path) -> str:
        with path.open("rb") as file:
            return fingerprint(read_npz(file, 1 << 16))

    return Reader(
        "digits.npz", "a.npz", buffer.getvalue(), read, True, "npz", lambda: (dict(arrays), None),
        lambda arrays, _: _as_npz(dict(arrays)), errors=(NpzError,), names_the_file=False,
    )  # fmt: skip


def _state_dict() -> Reader:
    """`model.load_state_dict(np.load(path))`, as the docstring of `state_dict` says."""
    buffer = io.BytesIO()
    saved = make(0).model.state_dict()
    np.savez(buffer, **saved)  # type: ignore[arg-type] # one of the keywords is a bool
    model = make(1).model
    before = {name: value.copy() for name, value in model.state_dict().items()}

    def read(path: Path) -> str:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            try:
                model.load_state_dict(found)
            except BaseException:
                if fingerprint(model.state_dict()) != fingerprint(before):
                    raise ChangedError("the model is not what it was") from None
                raise
        read = fingerprint(model.state_dict())
        model.load_state_dict(before)
        return read

    # np.load is NumPy's: before load_state_dict is called it may raise what it likes.
    import zipfile

    errors = (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
    return Reader(
        "load_state_dict(np.load)", "a.npz", buffer.getvalue(), read, True, "npz-of-numpy", errors=errors,
        names_the_file=False,
    )  # fmt: skip


def _moments() -> Reader:
    """A state dict of RunningMoments that somebody keeps as JSON."""
    moments = nc.RunningMoments()
    moments.update(X)
    content = {key: np.asarray(value).tolist() for key, value in moments.state_dict().items()}

    def read(path: Path) -> str:
        found = nc.RunningMoments()
        before = fingerprint(found.state_dict())
        try:
            found.load_state_dict(json.loads(path.read_bytes()))
        except BaseException:
            if fingerprint(found.state_dict()) != before:
                raise ChangedError("the moments are not what they were") from None
            raise
        return fingerprint(found.state_dict())

    return Reader(
        "RunningMoments, JSON", "a.json", json.dumps(content).encode(), read, False, "json-of-python",
        lambda: ({}, json.loads(json.dumps(content))), lambda _, text: text.encode("utf-8", "surrogatepass"),
        errors=(ValueError, TypeError, RecursionError), names_the_file=False,
    )  # fmt: skip


def readers() -> list[Reader]:
    """All of them."""
    return [
        _checkpoint(".npz"), _checkpoint(".safetensors"), _history(), _idx(False), _idx(True), _cifar(False),
        _cifar(True), _mnist(), _npz(), _state_dict(), _moments(),
    ]  # fmt: skip
