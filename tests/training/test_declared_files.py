"""What a file declares is compared with what is expected before its arrays are read: their memory is never taken."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers import bits, data, refused_checkpoint, trainer

from normcore._npz import fill
from normcore.nn import MLP, Dropout, Linear, Sequential
from normcore.training import EarlyStopping, History, Trainer, _archive
from normcore.training._safetensors import SafetensorsReader

X, y = data()
TEXT = "normcore.json"
MEGABYTE = 1 << 20
LARGE = 2 * MEGABYTE  # numbers of float32 that nobody asked for
TYPES = {"<f4": "F32", "<f8": "F64", "|u1": "U8", "<i8": "I64", "<u4": "U32"}
FORMATS = pytest.mark.parametrize("suffix", ["npz", "safetensors"])


def with_twister():
    rng = np.random.Generator(np.random.MT19937(1))
    return Trainer(Sequential(Linear(4, 3, rng=0), Dropout(0.5, rng=rng)))


def pieces(path, make=trainer, **options):
    """The arrays and the content of a checkpoint."""
    t = make()
    t.fit(X, y, 2, seed=0, **options)
    t.save_checkpoint(path)
    with np.load(path) as found:
        arrays = dict(found)
    return arrays, json.loads(arrays.pop(TEXT).tobytes())


def as_npz(path, arrays, text, large):
    np.savez(path, **arrays, **{TEXT: np.frombuffer(text.encode(), np.uint8)})
    with zipfile.ZipFile(path, "a") as archive:
        for name, shape in large.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
                for _ in range(4 * int(np.prod(shape)) // MEGABYTE):
                    stream.write(bytes(MEGABYTE))


def as_safetensors(path, arrays, text, large):
    """Where it can be, a file with a hole: of what is large, no byte is on the disk."""
    header, body = {}, b""
    for name, array in arrays.items():
        content = array.tobytes()
        header[name] = {
            "dtype": TYPES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(content)],
        }
        body += content
    end = len(body)
    for name, shape in large.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header["__metadata__"] = {TEXT: text, "checksum": _archive._checksum(arrays, text)}
    start = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(start).to_bytes(8, "little") + start + body)
        file.truncate(8 + len(start) + end)


WRITE = {"npz": as_npz, "safetensors": as_safetensors}


def refused(path, message, make=trainer):
    """As every damaged file, and without memory for what is large."""
    peak = refused_checkpoint(make(), path, message)
    assert path.stat().st_size > 4 * LARGE
    assert peak < MEGABYTE


@FORMATS
class TestLargeArrays:
    @pytest.mark.parametrize("shape", [(LARGE,), (LARGE // 4, 4), (8, 4, LARGE // 32)])
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("model.0.weight", "MLP.load_state_dict: nothing was loaded; 0.weight: has shape {}, expected (8, 4);"),
            ("optimizer.1.state.1.exp_avg", "Adam.load_state_dict: exp_avg of parameter 1 has shape {}, expected (8,)"),
        ],
    )
    def test_of_the_model_and_the_optimiser(self, tmp_path, suffix, name, shape, message):
        arrays, content = pieces(tmp_path / "saved.npz")
        assert arrays.pop(name).size
        WRITE[suffix](tmp_path / f"a.{suffix}", arrays, json.dumps(content), {name: shape})
        refused(tmp_path / f"a.{suffix}", re.escape(message.format(shape)))

    def test_of_a_parameter_that_there_is_not(self, tmp_path, suffix):
        arrays, content = pieces(tmp_path / "saved.npz")
        content["model"]["more"] = {"$": ["array", "large"]}
        WRITE[suffix](tmp_path / f"a.{suffix}", arrays, json.dumps(content), {"large": (LARGE,)})
        refused(tmp_path / f"a.{suffix}", "unexpected keys: more")

    def test_of_no_part_of_a_checkpoint(self, tmp_path, suffix):
        arrays, content = pieces(tmp_path / "saved.npz")
        WRITE[suffix](tmp_path / f"a.{suffix}", arrays, json.dumps(content), {"large": (LARGE,)})
        refused(tmp_path / f"a.{suffix}", "it holds 'large', which is no part of a checkpoint")

    @pytest.mark.parametrize("part", ["history", "layer_generators", "frozen", "stop_training", "run"])
    def test_of_a_part_that_is_small(self, tmp_path, suffix, part):
        arrays, content = pieces(tmp_path / "saved.npz", with_twister)
        mark = {"$": ["array", "large"]}
        if part == "layer_generators":
            content[part]["1.rng"]["state"]["key"] = mark
            del arrays["layer_generators.1.rng.state.key"]
        elif part == "run":
            content[part]["generator"] = mark
        else:
            content[part] = mark
        WRITE[suffix](tmp_path / f"a.{suffix}", arrays, json.dumps(content), {"large": (LARGE,)})
        refused(tmp_path / f"a.{suffix}", "it is damaged", with_twister)

    @pytest.mark.parametrize("place", ["params", "betas", "state", "callback"])
    def test_in_the_place_of_something_else(self, tmp_path, suffix, place):
        """What makes lists and dicts of iterables would be at it for a long time."""
        arrays, content = pieces(tmp_path / "saved.npz", callbacks=[EarlyStopping("loss", patience=9)])
        mark = {"$": ["array", "large"]}
        optimizer = content["optimizer"][1]
        if place == "callback":
            content["run"]["callbacks"][0]["$"][1][1] = mark
        elif place == "state":
            optimizer["state"]["$"][1][0][1] = mark
            arrays = {name: array for name, array in arrays.items() if not name.startswith("optimizer.1.state.0.")}
        else:
            optimizer["param_groups"][0][place] = mark
        WRITE[suffix](tmp_path / f"a.{suffix}", arrays, json.dumps(content), {"large": (LARGE // 2, 2)})
        refused(tmp_path / f"a.{suffix}", 'it is damaged|state_dict must hold "state" and')

    def test_no_memory_for_what_a_callback_kept(self, tmp_path, suffix, monkeypatch):
        """What callbacks keep, nobody else can judge: that may be as large as the file."""
        stopping = EarlyStopping("loss", patience=9, restore_best_weights=True)
        arrays, content = pieces(tmp_path / "saved.npz", callbacks=[stopping])
        name = next(name for name in arrays if name.startswith("run.callbacks"))
        del arrays[name]
        path = tmp_path / f"a.{suffix}"
        WRITE[suffix](path, arrays, json.dumps(content), {name: (LARGE,)})

        def full(stream, array):
            if array.size == LARGE:
                raise MemoryError
            fill(stream, array)

        monkeypatch.setattr("normcore._npz.fill", full)
        monkeypatch.setattr("normcore.training._safetensors.fill", full)
        t = trainer()
        before = bits(t)
        with pytest.raises(MemoryError) as caught:
            t.load_checkpoint(path)
        assert str(caught.value) == (
            f"load_checkpoint: {str(path)!r}: there is not enough memory for what it holds; nothing was changed."
        )
        assert bits(t) == before


def test_a_count_from_which_counting_on_would_overflow(tmp_path):
    def make():
        return Trainer(MLP([4, 8, 3], norm="batch", seed=0))

    arrays, content = pieces(tmp_path / "a.npz", make)
    name = next(name for name in arrays if name.endswith("num_batches_tracked"))
    as_npz(tmp_path / "b.npz", {**arrays, name: np.array(2**63 - 1)}, json.dumps(content), {})
    t = make()
    before = bits(t)
    with pytest.raises(ValueError, match=r"num_batches_tracked: has counts beyond 2\*\*62, .*; nothing was changed\.$"):
        t.load_checkpoint(tmp_path / "b.npz")
    assert bits(t) == before


def test_a_message_has_at_most_a_thousand_characters_of_the_file(tmp_path):
    arrays, content = pieces(tmp_path / "saved.npz")
    for name, most in (("x" * 5000, 1000), ("\n" * 900, 1000), ("\x1b" * 3000, 1000)):
        path = tmp_path / "a.npz"
        as_npz(path, arrays, json.dumps({**content, "model": {**content["model"], name: 0}}), {})
        with pytest.raises(ValueError, match="unexpected keys: ") as caught:
            trainer().load_checkpoint(path)
        said = str(caught.value)
        start, end = f"load_checkpoint: {str(path)!r}: ", "; nothing was changed."
        assert said.isprintable()
        assert said.startswith(start)
        assert said.endswith(end)
        assert len(said) - len(start) - len(end) <= most


def test_no_memory_for_a_history(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            raise MemoryError

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("normcore.training.history.opened", lambda _: Full())
    path = str(tmp_path / "a.json")
    with pytest.raises(MemoryError, match=re.escape(f"there is not enough memory for what is in the file {path!r}.")):
        History.from_json(path)


@FORMATS
def test_arrays_take_their_own_size_once(tmp_path, suffix):
    if suffix == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors, which writes the file, is not installed")
    arrays = {str(i): np.full((256, 1024), i, np.float64) for i in range(4)}
    _archive.write(str(tmp_path / f"a.{suffix}"), arrays, "text")
    size = (tmp_path / f"a.{suffix}").stat().st_size
    tracemalloc.start()
    try:
        found, text = _archive.read(str(tmp_path / f"a.{suffix}"), lambda text, _: text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert text == "text"
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert peak < size + 3 * MEGABYTE  # a piece of 1 MB at a time, by way of the zip file's buffers


def test_a_load_state_dict_of_ones_own_decides_for_itself(tmp_path):
    """It may take other names and shapes than its model's."""

    class Renamed(MLP):
        def load_state_dict(self, state_dict, strict=True):
            return super().load_state_dict({name.removeprefix("old."): v for name, v in state_dict.items()}, strict)

    arrays, content = pieces(tmp_path / "a.npz")
    content["model"] = {f"old.{name}": value for name, value in content["model"].items()}
    as_npz(tmp_path / "b.npz", arrays, json.dumps(content), {})
    model = Renamed([4, 8, 3], seed=5)
    t = Trainer(model, type(trainer().optimizer)(model.parameters(), lr=0.01))
    t.load_checkpoint(tmp_path / "b.npz")
    np.testing.assert_array_equal(t.model[0].weight.data, arrays["model.0.weight"])


class TestSafetensors:
    """The reader of our own, beside the package's."""

    ARRAYS = st.dictionaries(
        st.text(max_size=4).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from(["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=4,
    )

    @given(ARRAYS, st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), st.data())
    def test_reads_what_the_package_reads_and_refuses_what_it_refuses(self, kinds, about, choice):
        package = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
        rng = np.random.default_rng(len(kinds))
        arrays = {name: rng.integers(0, 2, shape).astype(dtype) for name, (dtype, shape) in kinds.items()}
        content = bytearray(package.save(arrays, about))
        if choice.draw(st.booleans()):
            place = choice.draw(st.integers(0, len(content) - 1))
            content[place] = choice.draw(st.sampled_from([*b'0123456789"{}[],: ', 0, 255]))
        if choice.draw(st.booleans()):
            del content[choice.draw(st.integers(0, len(content))) :]
        try:
            want = package.load(bytes(content))
        except Exception:  # the package has classes of its own, and lets Python's through
            want = None
        got = self.read(bytes(content))
        if want is None or got is None:
            # A key twice, say, is refused by ours alone.
            assert got is None
            return
        assert set(got) == set(want)
        for name, array in want.items():
            np.testing.assert_array_equal(got[name], array, strict=True)

    def read(self, content):
        try:
            reader = SafetensorsReader(io.BytesIO(content), len(content))
        except ValueError:
            return None
        return {name: reader.read(name) for name in reader.declared}

    def test_what_is_intact_is_read(self):
        package = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
        arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3, np.int8), "c": np.empty((0, 2), np.float16)}
        found = self.read(package.save(arrays, {"x": "y"}))
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)

    @pytest.mark.parametrize(
        ("change", "fits"),
        [
            ({}, True),
            ({"dtype": "I32"}, True),
            ({"dtype": "BF16"}, False),
            ({"dtype": None}, False),
            ({"shape": [2**62]}, False),
            ({"shape": [-3]}, False),
            ({"shape": [3.0]}, False),
            ({"shape": [True, 3]}, False),
            ({"shape": {}, "data_offsets": [0, 4]}, False),
            ({"shape": [3] + [1] * 100}, False),
            ({"shape": [0, 2**62], "data_offsets": [0, 0]}, False),
            ({"data_offsets": [0, 8]}, False),
            ({"data_offsets": [4, 16]}, False),
            ({"data_offsets": [12, 0]}, False),
            ({"data_offsets": [-12, 0]}, False),
            ({"data_offsets": [0]}, False),
        ],
    )
    def test_headers_that_lie(self, change, fits):
        entry = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12], **change}
        header = json.dumps({"a": entry}).encode()
        found = self.read(len(header).to_bytes(8, "little") + header + bytes(12))
        assert (found is not None) == fits

    @pytest.mark.parametrize(
        ("first", "second", "size", "fits"),
        [
            ([0, 12], [12, 24], 24, True),
            ([12, 24], [0, 12], 24, True),
            ([0, 12], [0, 12], 24, False),
            ([0, 12], [8, 20], 24, False),
            ([0, 12], [16, 28], 28, False),
            ([4, 16], [16, 28], 28, False),
            ([0, 12], [12, 24], 25, False),
            ([0, 12], [12, 24], 23, False),
        ],
    )
    def test_the_arrays_are_the_rest_of_the_file(self, first, second, size, fits):
        header = json.dumps(
            {name: {"dtype": "F32", "shape": [3], "data_offsets": at} for name, at in (("a", first), ("b", second))}
        ).encode()
        found = self.read(len(header).to_bytes(8, "little") + header + bytes(size))
        assert (found is not None) == fits

    def test_a_file_that_becomes_shorter_while_it_is_read(self, tmp_path):
        header = b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}'
        (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
        with (tmp_path / "a").open("r+b") as file:
            reader = SafetensorsReader(file, 8 + len(header) + 12)
            file.truncate(8 + len(header) + 5)
            with pytest.raises(ValueError, match="it is damaged"):
                reader.read("a")

    def test_the_checksum_is_that_of_names_dtypes_shapes_and_bytes(self):
        """As it is in files that there are."""
        array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
        want = zlib.crc32(b"text" + b"a float32 (2, 3)" + array.tobytes())
        assert _archive._checksum({"a": array}, "text") == str(want)
