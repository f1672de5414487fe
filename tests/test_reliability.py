"""The long searches of reliability/ run, find nothing in a short run, and do find what is wrong."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reliability.patience import patience

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.skipif(not (ROOT / "reliability").is_dir(), reason="reliability/ is only in a checkout"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the searches fork a process for each reader and fault"),
]


def run(program, *options):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"reliability.{program}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience(300),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "FAILED " not in done.stdout.split("\n", 1)[1]
    return done.stdout


def test_no_reader_breaks():
    pytest.importorskip("safetensors", reason="safetensors, one of the formats, is not installed")
    printed = run("files", "--cases", "12")
    assert printed.count(" bytes, ") == 11


def test_no_save_breaks():
    printed = run("saves", "--kills", "2", "--seconds", "0.1", "--only", "History.to_json")
    assert "'killed': 2" in printed
    assert printed.count(", 0 failures") >= 3


def test_a_reader_that_lies_is_seen(tmp_path, monkeypatch):
    """What the search is worth: each kind of failure, by a reader that fails so."""
    monkeypatch.syspath_prepend(str(ROOT))
    from reliability import file_readers, files

    intact = b"intact and more"
    path = tmp_path / "a.bin"

    def verdict(read, **options):
        reader = file_readers.Reader("a", "a.bin", intact, read, True, "none", **options)
        return files.judge(reader, path, b"damaged", "intact", blind=True)[:2]

    def raises(error):
        def read(_):
            raise error

        return read

    def leaves(path):
        path.with_name("left").touch()
        return "intact"

    assert verdict(lambda _: "intact") == ("same", "")
    assert verdict(raises(ValueError("a.bin is damaged"))) == ("refused", "")
    assert verdict(lambda _: "other") == ("FAILED", "read to other values")
    assert verdict(raises(KeyError("a.bin")))[0] == "FAILED"
    assert verdict(raises(ValueError("a.bin is\ndamaged")))[1].startswith("not one line")
    assert verdict(raises(ValueError("it is damaged")))[1].startswith("the file is not named")
    assert verdict(leaves) == ("FAILED", "left ['left']")
    assert verdict(lambda _: str(len(bytearray(8 << 20))))[1].startswith("took 8")


def test_damage_is_the_same_for_the_same_seed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from reliability import file_damage, file_forgeries, file_readers

    content = bytes(range(50))
    assert len(list(file_damage.truncations(content, 100, random.Random(0)))) == 50
    flips = [changed for _, changed in file_damage.flips(content, 1000, random.Random(0))]
    assert len(set(flips)) == 400
    assert all(np.unpackbits(np.frombuffer(a, np.uint8) ^ np.frombuffer(content, np.uint8)).sum() == 1 for a in flips)
    (history,) = [reader for reader in file_readers.readers() if reader.name == "history"]
    first, second = (list(file_forgeries.by_structure(history, 50, random.Random(7))) for _ in range(2))
    assert first == second
    assert len({content for _, content in first}) > 50
