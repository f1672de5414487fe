"""Names of files: what is none is refused in a sentence, before anything is written."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from trainers import data, trainer

from normcore.training import CSVLogger, History, ModelCheckpoint
from normcore.training._files import write_atomically

X, y = data()
CALLS = {
    "save_checkpoint": lambda path: trainer().save_checkpoint(path),
    "load_checkpoint": lambda path: trainer().load_checkpoint(path),
    "ModelCheckpoint": ModelCheckpoint,
    "CSVLogger": CSVLogger,
    "History.to_json": lambda path: History().to_json(path),
    "History.to_csv": lambda path: History().to_csv(path),
    "History.from_json": History.from_json,
}
calls = pytest.mark.parametrize(("owner", "call"), CALLS.items(), ids=CALLS)


@calls
@pytest.mark.parametrize(
    ("path", "got"),
    [
        (3, "3"),
        (None, "None"),
        (b"a.npz", "b'a.npz'"),
        (True, "True"),
        (["a.npz"], "list"),
        (np.ones(3), "ndarray"),
        (str, "the class str"),
    ],
)
def test_what_is_no_path(owner, call, path, got):
    if path is None and owner in ("History.to_json", "History.to_csv"):
        return  # the text alone is asked for
    name = "source" if owner == "History.from_json" else "path"
    with pytest.raises(TypeError, match="^" + re.escape(f"{owner}: {name} must be a str or a path, got {got}.") + "$"):
        call(path)


@calls
@pytest.mark.parametrize("path", ["", ".", "/", "runs/"])
def test_what_names_no_file(owner, call, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "source" if owner == "History.from_json" else "path"
    with pytest.raises(ValueError, match=re.escape(f"{owner}: {name} must be the name of a file, got {path!r}.") + "$"):
        call(path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    for write in (trainer().save_checkpoint, History().to_json, History().to_csv):
        with pytest.raises(FileNotFoundError, match="There is no such folder; make it first") as caught:
            write(tmp_path / "runs" / "a.npz")
        assert caught.value.filename == str(tmp_path / "runs")
    with pytest.raises(FileNotFoundError) as caught:
        trainer().load_checkpoint(tmp_path / "runs" / "a.npz")
    assert caught.value.filename == str(tmp_path / "runs" / "a.npz")


def test_a_file_where_a_folder_is(tmp_path):
    (tmp_path / "runs").mkdir()
    for call in (trainer().save_checkpoint, trainer().load_checkpoint):
        with pytest.raises(OSError, match=r"directory|denied"):  # the system's words
            call(tmp_path / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "run[1].bin"
    old, new, other = (tmp_path / f".{name}.0123abcd.tmp" for name in ("run[1].bin", "run[1].bin.x", "run1.bin"))
    for file in (old, new, other):
        file.write_bytes(b"half")
    recent = tmp_path / ".run[1].bin.89abcdef.tmp"
    recent.write_bytes(b"somebody is writing this now")
    for file in (old, new, other):
        os.utime(file, (1, 1))
    write_atomically(str(path), b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == sorted([path, recent, new, other])
