"""Where data sets are looked for, and where downloads go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from normcore.data import DataNotFoundError, cache_dir
from normcore.data.places import candidates, download_root, roots


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No folder of whoever runs the tests is looked at."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "NORMCORE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "platform, folder",
    [
        ("linux", ".cache/normcore"),
        ("freebsd14", ".cache/normcore"),
        ("darwin", "Library/Caches/normcore"),
        ("win32", "AppData/Local/normcore"),
    ],
)
def test_the_cache_is_where_each_system_keeps_caches(home, monkeypatch, platform, folder):
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == home / folder


def test_the_cache_can_be_moved(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert cache_dir() == home / "elsewhere" / "normcore"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_dir() == home / ".cache" / "normcore"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(home / "local"))
    assert cache_dir() == home / "local" / "normcore"


def test_the_order_is_argument_environment_cache(home, monkeypatch):
    assert roots(None) == [cache_dir()]
    monkeypatch.setenv("NORMCORE_DATA", "~/data")
    assert roots(None) == [home / "data", cache_dir()]
    assert roots("~/mine") == [home / "mine", home / "data", cache_dir()]
    assert roots(Path("mine")) == [Path("mine"), home / "data", cache_dir()]
    monkeypatch.setenv("NORMCORE_DATA", "")
    assert roots(None) == [cache_dir()]


def test_without_a_home_there_is_no_cache(home, monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert roots(home / "mine") == [home / "mine"]
    with pytest.raises(DataNotFoundError, match="no home folder to keep data sets in; pass data_dir, or set NORMCORE_"):
        roots(None)


def test_what_is_no_path_is_refused():
    with pytest.raises(TypeError, match="data_dir must be None or a path, got 5; pass the folder"):
        roots(5)
    with pytest.raises(ValueError, match="data_dir must be None or a path, got an empty string; pass the folder"):
        roots("")


def test_a_folder_of_the_set_comes_before_the_folder_around_it(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, first / "set", second / "set"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (second / "set" / "file.gz").touch()
    found = candidates([first, second], ["set", "other/raw"], ["file.gz", "file"])
    assert found == [first / "set/file", first / "file", second / "set/file.gz", second / "set/file"]


def test_downloads_go_to_the_folder_given_else_to_the_first_that_can_be_written_to(tmp_path, monkeypatch):
    shared, cache = tmp_path / "shared", tmp_path / "not/yet/made"
    shared.mkdir()
    assert download_root([shared, cache], None) == shared
    # root may write everywhere, whatever a folder's mode says
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != shared)
    assert download_root([shared, cache], None) == cache
    assert download_root([shared, cache], str(shared)) == shared
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert download_root([shared, cache], None) == cache
