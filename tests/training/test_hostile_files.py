"""Files made to do harm: one sentence, little memory, nothing changed. `reliability.files` looks for more of them."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import socket
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from trainers import bits, data, refused_checkpoint, trainer, with_dropout

from normcore._npz import NpzError, read_npz
from normcore.nn import MLP, Dropout, Linear, Sequential
from normcore.training import EarlyStopping, History, ReduceLROnPlateau, Trainer

X, y = data()
TEXT = "normcore.json"
MEGABYTE = 1 << 20


@functools.cache
def file_of(make):
    t = make()
    t.fit(X, y, 2, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        t.save_checkpoint(Path(folder, "a.npz"))
        return Path(folder, "a.npz").read_bytes()


def saved(folder, make=with_dropout):
    """The arrays and the content of a checkpoint, which is saved.npz."""
    (folder / "saved.npz").write_bytes(file_of(make))
    with np.load(folder / "saved.npz") as found:
        arrays = dict(found)
    return arrays, json.loads(arrays.pop(TEXT).tobytes())


def written(path, arrays, content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    np.savez(path, **arrays, **{TEXT: np.frombuffer(text, np.uint8)})
    return path


def zipped(path, entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def npy(shape, body=bytes(12), descr="'<f4'"):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def refused(path, message, make=with_dropout):
    """As every damaged file, with memory for the file alone; returns the peak."""
    peak = refused_checkpoint(make(), path, message)
    assert peak < 40 * path.stat().st_size + 2 * MEGABYTE
    return peak


class TestArchives:
    @pytest.mark.parametrize(
        "entry",
        [
            npy("(4611686018427387904,)"),
            npy("(1099511627776, 1099511627776)"),
            npy("(-1,)"),
            npy("(__import__('os').getpid(),)"),
            npy("(" * 3000 + ")" * 3000),
            npy("3"),
            npy("(3,)", descr="'|O'"),
            npy("(3,)", descr="[('a', '<f4')]"),
            npy("(3,)", descr="'<U1000000000'"),
            npy("(3,)")[:-1],
            npy("(3,)") + b"x",
            b"no array",
            b"",
        ],
        ids=lambda entry: repr(entry[10:70]),
    )
    def test_an_entry_that_is_no_array_of_numbers(self, tmp_path, entry):
        refused(zipped(tmp_path / "a.npz", {f"{TEXT}.npy": entry}), "it is damaged")

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_ways_to_compress_that_may_ask_for_gigabytes(self, tmp_path, method):
        refused(
            zipped(tmp_path / "a.npz", {f"{TEXT}.npy": npy("(300,)", bytes(1200))}, method), "it is damaged|it holds"
        )

    def test_a_bomb_is_not_unpacked(self, tmp_path):
        bomb = npy(f"({2 * MEGABYTE},)", bytes(8 * MEGABYTE))
        path = zipped(tmp_path / "a.npz", {"bomb.npy": bomb}, zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 20_000
        assert refused(path, "it holds more than [0-9]+ bytes of arrays") < MEGABYTE

    def test_entries_that_lie_one_over_another(self, tmp_path):
        content = zipped(tmp_path / "a.npz", {"a.npy": npy(f"({MEGABYTE // 4},)", bytes(MEGABYTE))}).read_bytes()
        start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
        directory = 50 * content[start:end]
        record = bytearray(content[end:])
        record[8:12] = 2 * (50).to_bytes(2, "little")
        record[12:16] = len(directory).to_bytes(4, "little")
        (tmp_path / "a.npz").write_bytes(content[:start] + directory + bytes(record))
        refused(tmp_path / "a.npz", "it holds more than")

    def test_a_directory_that_swallows_entries(self, tmp_path):
        """The length of a comment is no part of any checksum, and an array could be missing unseen."""
        np.savez(tmp_path / "a.npz", first=np.ones(3), second=np.zeros(3))
        content = bytearray((tmp_path / "a.npz").read_bytes())
        first = content.index(b"PK\1\2")
        second = content.index(b"PK\1\2", first + 1)
        content[first + 32] = content.index(b"PK\5\6") - second  # where the entry says how long its comment is
        (tmp_path / "a.npz").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "a.npz") as archive:
            assert archive.namelist() == ["first.npy"]
        with pytest.raises(NpzError, match="is damaged"), (tmp_path / "a.npz").open("rb") as file:
            read_npz(file, MEGABYTE)

    def test_an_entry_twice(self, tmp_path):
        arrays, content = saved(tmp_path)
        path = written(tmp_path / "a.npz", arrays, content)
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
            archive.writestr("model.0.weight.npy", npy("(3,)"))
        refused(path, "it is damaged")

    @pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "C:\\x", "more", "\x1b[31m"])
    def test_an_entry_that_is_no_part_of_it(self, tmp_path, name):
        arrays, content = saved(tmp_path)
        path = written(tmp_path / "a.npz", {**arrays, name: np.ones(3)}, content)
        refused(path, re.escape(f"it holds {name!r}, which is no part of a checkpoint"))
        assert sorted(item.name for item in tmp_path.iterdir()) == ["a.npz", "saved.npz"]

    def test_fortran_order_and_other_byte_order_are_read(self, tmp_path):
        arrays, content = saved(tmp_path)
        other = {name: np.array(array, array.dtype.newbyteorder(">"), order="F") for name, array in arrays.items()}
        first, second = with_dropout(), with_dropout()
        first.load_checkpoint(tmp_path / "saved.npz")
        second.load_checkpoint(written(tmp_path / "a.npz", other, content))
        assert bits(first) == bits(second)


class TestContent:
    @pytest.mark.parametrize("text", [b"[" * 20_000, b'{"a":' * 20_000, b"\xff", b"1" * 5000, b"[]", b"", b"null"])
    def test_what_is_no_json_of_ours(self, tmp_path, text):
        refused(written(tmp_path / "a.npz", {}, text), "it is damaged|it is no checkpoint that this version reads")

    @pytest.mark.parametrize(
        ("version", "more"),
        [
            (
                "normcore checkpoint 2",
                ", but 'normcore checkpoint 2'; load it with the version of normcore-cpu that wrote it",
            ),
            ("normcore checkpoint -1", ", but 'normcore checkpoint -1'; load"),
            (1, "; nothing"),
            (True, "; nothing"),
            (None, "; nothing"),
        ],
    )
    def test_another_version(self, tmp_path, version, more):
        arrays, content = saved(tmp_path)
        path = written(tmp_path / "a.npz", arrays, {**content, "format": version})
        refused(path, re.escape("it is no checkpoint that this version reads (normcore checkpoint 1)" + more))

    def test_a_key_twice(self, tmp_path):
        arrays, content = saved(tmp_path)
        text = json.dumps(content)
        refused(written(tmp_path / "a.npz", arrays, ('{"run": null, ' + text[1:]).encode()), "it is damaged")

    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("stop_training", "no"),
            ("frozen", {"1": 1}),
            ("frozen", [True]),
            ("history", {"epoch": [0], "seconds": [10**400], "history": {}}),
            ("layer_generators", {"3.rng": 3}),
            ("model", 3),
            ("optimizer", []),
            ("run", {"callbacks": 3}),
            ("scheduler", 7),
        ],
    )
    def test_a_part_that_is_something_else(self, tmp_path, part, value):
        arrays, content = saved(tmp_path)
        refused(written(tmp_path / "a.npz", arrays, {**content, part: value}), None)

    @pytest.mark.parametrize("seed", ["1", -1, 1.0, True, 2**63])
    def test_a_seed_that_is_none(self, tmp_path, seed):
        arrays, content = saved(tmp_path)
        content["run"]["split_seed"] = seed
        refused(written(tmp_path / "a.npz", arrays, content), "it is damaged")

    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            ("MT19937", "pos", 10**8),
            ("MT19937", "pos", -1),
            ("Philox", "buffer_pos", 10**8),
            ("Philox", "buffer_pos", -5),
        ],
    )
    def test_a_generator_that_would_read_other_memory(self, tmp_path, kind, name, value):
        """NumPy takes such a state, and the next number is a crash."""

        def make():
            rng = np.random.Generator(getattr(np.random, kind)(1))
            return Trainer(Sequential(Linear(4, 3, rng=0), Dropout(0.5, rng=rng)))

        arrays, content = saved(tmp_path, make)
        state = content["layer_generators"]["1.rng"]
        (state["state"] if name == "pos" else state)[name] = value
        refused(written(tmp_path / "a.npz", arrays, content), r"the random generator 1\.rng is no state", make)

    def test_a_message_is_short_and_plain_whatever_is_in_the_file(self, tmp_path):
        arrays, content = saved(tmp_path)
        content["model"] = {f"\x1b[31m{i}\n": 0 for i in range(5000)}
        path = written(tmp_path / "a.npz", {}, {**content, "optimizer": ["Adam", {}], "run": None})
        with pytest.raises(ValueError, match=r"nothing was loaded") as caught:
            with_dropout().load_checkpoint(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1500
        assert arrays


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices with names")
class TestPlaces:
    """What has the name of a file and is none. A pipe would wait for ever, and a device never end."""

    READERS = pytest.mark.parametrize("read", [lambda path: trainer().load_checkpoint(path), History.from_json])

    @READERS
    def test_a_pipe(self, tmp_path, read):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="It is a pipe or a device; copy it to a file first") as caught:
            read(tmp_path / "pipe")
        assert caught.value.filename == str(tmp_path / "pipe")

    @READERS
    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
    def test_a_device(self, read, path):
        with pytest.raises(OSError, match="It is a pipe or a device; copy it to a file first"):
            read(path)

    @READERS
    def test_a_folder_a_socket_and_a_link_to_itself(self, tmp_path, read, monkeypatch):
        with pytest.raises(IsADirectoryError):
            read(tmp_path)
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(OSError, match="symbolic links"):
            read(tmp_path / "loop")
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
            with pytest.raises(OSError, match=r"socket"):
                read("socket")

    @READERS
    def test_names_that_are_not_utf_8_and_files_that_are_empty(self, tmp_path, read):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.npz")
        open(path, "wb").close()
        with pytest.raises(ValueError, match=re.escape(repr(path))):
            read(path)


class TestHistories:
    @pytest.mark.parametrize(
        "change",
        [
            {"epoch": [0.0]},
            {"epoch": [False]},
            {"seconds": [None]},
            {"seconds": [float("nan")]},
            {"seconds": ["1"]},
            {"seconds": [True]},
            {"history": {"loss": [10**400]}},
            {"history": {"loss": "1"}},
            {"history": {"loss": ["1"]}},
            {"history": {"loss": ["nan"]}},
            {"history": {"loss": [True]}},
            {"history": {"loss": [[]]}},
        ],
        ids=repr,
    )
    def test_what_is_nearly_one(self, tmp_path, change):
        content = {"epoch": [0], "seconds": [1.0], "history": {"loss": [1.0]}, **change}
        with pytest.raises(ValueError, match=r"^History: content must have"):
            History.from_dict(content)
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(
            ValueError, match=re.escape(f"as to_dict() returns (the file is {str(tmp_path / 'a.json')!r}).")
        ):
            History.from_json(tmp_path / "a.json")

    @pytest.mark.parametrize("content", [b"\xff{}", b"[" * 100_000, b'{"epoch": [], "epoch": []}', b"1" * 5000, b""])
    def test_what_is_no_json(self, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(f"wrote (the file is {str(tmp_path / 'a.json')!r}).")):
            History.from_json(tmp_path / "a.json")


class TestCallbacks:
    """What a checkpoint keeps of them is handed out when training goes on."""

    def resumed(self, tmp_path, callback, change):
        first = trainer()
        first.fit(X, y, 2, seed=0, callbacks=[callback()])
        first.save_checkpoint(tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz") as found:
            arrays = dict(found)
        content = json.loads(arrays.pop(TEXT).tobytes())
        content["run"]["callbacks"][0]["$"][1][1].update(change)
        second = trainer()
        second.load_checkpoint(written(tmp_path / "b.npz", arrays, content))
        before = bits(second)
        name = type(callback()).__name__
        with pytest.raises(ValueError, match=rf"^resume=True: what was kept of {name} is not what its state_dict\(\)"):
            second.fit(X, y, 4, resume=True, callbacks=[callback()])
        assert bits(second) == before

    @pytest.mark.parametrize(
        "change", [{"wait": "x"}, {"wait": None}, {"best": []}, {"best_epoch": "x"}, {"best": 10**400}]
    )
    def test_early_stopping(self, tmp_path, change):
        self.resumed(tmp_path, lambda: EarlyStopping("loss", patience=9), change)

    @pytest.mark.parametrize("change", [{"wait": "x"}, {"cooling": 1.5}, {"best": "x"}])
    def test_reduce_lr(self, tmp_path, change):
        self.resumed(tmp_path, lambda: ReduceLROnPlateau("loss"), change)

    def test_the_weights_of_another_model(self):
        callback = EarlyStopping("loss", patience=9, restore_best_weights=True)
        t = trainer()
        t.fit(X, y, 1, callbacks=[callback])
        kept = callback.state_dict()
        for weights in (3, {}, {name: value.reshape(-1)[:0] for name, value in kept["weights"].items()}):
            with pytest.raises((ValueError, AttributeError)):
                callback.load_state_dict({**kept, "weights": weights})
        callback.load_state_dict(kept)


class TestStateDicts:
    def test_a_damaged_npz_is_one_sentence_and_nothing_is_loaded(self):
        """np.load reads an array when it is asked for it, the last one after the first ones were read."""
        model = MLP([4, 8, 3], seed=0)
        buffer = io.BytesIO()
        np.savez(buffer, **MLP([4, 8, 3], seed=1).state_dict())
        content = bytearray(buffer.getvalue())
        content[content.rindex(b"\x93NUMPY") + 130] ^= 1
        before = {name: value.tobytes() for name, value in model.state_dict().items()}
        with (
            np.load(io.BytesIO(bytes(content))) as found,
            pytest.raises(
                ValueError, match=r"nothing was loaded; .* cannot be read \(BadZipFile: Bad CRC-32"
            ) as caught,
        ):
            model.load_state_dict(found)
        assert str(caught.value).isprintable()
        assert {name: value.tobytes() for name, value in model.state_dict().items()} == before

    def test_keys_that_are_no_words_are_shown_on_one_line(self):
        model = MLP([4, 8, 3], seed=0)
        with pytest.raises(ValueError, match=r"unexpected keys: \\n\\x1b\[31m, é \(strict=False") as caught:
            model.load_state_dict({**model.state_dict(), "\n\x1b[31m": 0, "é": 0})
        assert str(caught.value).isprintable()

    def test_a_parameter_that_is_read_only_is_seen_before_anything_is_written(self):
        model = MLP([4, 8, 3], seed=0)
        last = list(model.parameters())[-1]
        last.data.flags.writeable = False
        before = {name: value.tobytes() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match=r"nothing was loaded; .*: the array of this module is read-only"):
            model.load_state_dict(MLP([4, 8, 3], seed=1).state_dict())
        assert {name: value.tobytes() for name, value in model.state_dict().items()} == before
