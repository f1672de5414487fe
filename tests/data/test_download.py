"""Downloads from a server that misbehaves: the whole file in its place, or nothing and the reason."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
import time

import numpy as np
import pytest
from servers import serving

from normcore.data import download as module
from normcore.data.download import DownloadError, download

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.001)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def running():
    with serving() as server:
        yield server


@pytest.fixture
def server(running):
    running.files = {"file": CONTENT, "mirror/file": CONTENT}
    running.behaviour = {}
    running.requests = []
    return running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new" / "folder" / "file"


def get(server, target, *paths, **options):
    download([server.url(path) for path in paths or ["file"]], target, len(CONTENT), SHA256, **options)


def complete(target):
    """The file is there and nothing beside it."""
    assert target.read_bytes() == CONTENT
    return list(target.parent.iterdir()) == [target]


def test_a_file_arrives_whole_in_a_folder_that_is_made(server, target):
    get(server, target)
    assert complete(target)
    assert server.ranges() == [None]


@pytest.mark.parametrize(
    "behaviour, ranges",
    [
        ([("cut", 100_000)], [None, "bytes=100000-"]),
        ([("cut", 100_000), ("cut", 150_000)], [None, "bytes=100000-", "bytes=250000-"]),
        ([500], [None, None]),
        ([503, 429, 408], [None] * 4),
        ([("cut", 90_000), 502], [None, "bytes=90000-", "bytes=90000-"]),
        ([("cut", 90_000), ("whole", None)], [None, "bytes=90000-"]),
        ([("cut", 90_000), ("shifted", 1)], [None, "bytes=90000-", None]),
        ([("cut", 90_000), 416], [None, "bytes=90000-", None]),
        ([("unsized", None)], [None]),
        # never the same failure four times in a row without gain
        ([500, 500, 500, ("cut", 100_000), 500, 500, 500], [None] * 4 + ["bytes=100000-"] * 4),
    ],
)
def test_what_is_missing_is_asked_for_again(server, target, behaviour, ranges):
    server.behaviour["file"] = list(behaviour)
    get(server, target)
    assert complete(target)
    assert server.ranges() == ranges


@pytest.mark.parametrize(
    "behaviour, reason, requests",
    [
        ([404], "HTTP 404 Not Found", 1),
        ([403], "HTTP 403 Forbidden", 1),
        ([500] * 4, "HTTP 500 Internal Server Error, 4 times", 4),
        ([("page", b"<html>Please log in")], "the file there has 19 bytes, not 300000", 1),
        ([("page", bytes(len(CONTENT)))], "the file there is another one, its checksum is wrong", 1),
        ([("endless", None)], "the file there has more than 300000 bytes", 1),
        ([("cut", 10)] * 4, "the connection ended after 40 of 300000 bytes, 4 times", 4),
        # cannot resume and always breaks: the same bytes again are no gain
        ([("cut", 100_000), *[("cut whole", 100_000)] * 4], "the connection ended after 100000 of", 5),
        ([("cut", 100_000), *[("cut whole", n) for n in (9, 100_000, 9, 100_000)]], "the connection ended after", 5),
    ],
)
def test_a_mirror_that_does_not_give_the_file_is_left_for_the_next(server, target, behaviour, reason, requests):
    server.behaviour["file"] = list(behaviour)
    get(server, target, "file", "mirror/file")
    assert complete(target)
    assert len(server.requests) == requests + 1

    target.unlink()
    server.behaviour["file"] = list(behaviour)
    with pytest.raises(DownloadError) as caught:
        get(server, target, "file", "nothing")
    first, second = str(caught.value).split("; ")
    assert first.startswith(f"{server.url('file')}: {reason}")
    assert second == f"{server.url('nothing')}: HTTP 404 Not Found"
    assert not target.exists()


def test_a_server_says_how_long_to_wait(server, target, monkeypatch):
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    monkeypatch.setattr(module, "PAUSE", 0.5)
    server.behaviour["file"] = [("later", 7), ("later", 10_000), 500]
    get(server, target)
    assert pauses == [7, module.LONGEST_PAUSE, 2.0]


def test_pauses_grow_and_begin_anew_after_a_gain(server, target, monkeypatch):
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    monkeypatch.setattr(module, "PAUSE", 0.5)
    server.behaviour["file"] = [500, 500, ("cut", 100_000), 500]
    get(server, target)
    assert pauses == [0.5, 1.0, 0.5, 0.5]


def test_a_server_that_falls_silent_is_asked_for_the_rest(server, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    monkeypatch.setattr(module, "ATTEMPTS", 50)  # on a busy machine a good answer may take as long
    server.behaviour["file"] = [("hang", 70_000)]
    get(server, target)
    assert complete(target)
    assert "bytes=70000-" in server.ranges()


def test_a_server_that_stays_silent_is_left(server, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    server.behaviour["file"] = [("hang", 0), ("hang", 0)]
    with pytest.raises(DownloadError, match=r"file: no answer for 0\.2 seconds, 2 times$"):
        get(server, target)


def test_nobody_there_is_known_at_once(target, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("there is nothing to wait for"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match=f"^http://127.0.0.1:{port}/file: .*refused"):
        download([f"http://127.0.0.1:{port}/file"], target, len(CONTENT), SHA256)

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match=r"^http://example\.invalid/file: Name or service not known$"):
        download(["http://example.invalid/file"], target, len(CONTENT), SHA256)
    assert not target.parent.exists()


class StopError(BaseException):
    """As Ctrl-C."""


def interrupted(server, target, monkeypatch, after):
    def at(_, position):
        if position >= after:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(module.DownloadProgress, "at", at)
        with pytest.raises(StopError):
            get(server, target)


def test_an_interrupted_download_is_resumed_by_the_next_call(server, target, monkeypatch):
    interrupted(server, target, monkeypatch, after=150_000)
    assert not target.exists()
    (left,) = target.parent.iterdir()
    assert left.name == ".file.part"
    assert CONTENT.startswith(left.read_bytes())
    size = left.stat().st_size
    assert size >= 150_000
    get(server, target)
    assert complete(target)
    assert server.ranges() == [None, f"bytes={size}-"]


@pytest.mark.parametrize(
    "remains, ranges",
    [
        (CONTENT, []),
        (CONTENT[:1000], ["bytes=1000-"]),
        (bytes(1000), ["bytes=1000-", None]),
        (bytes(len(CONTENT)), [None]),
        (CONTENT + b"x", [None]),
        (b"", [None]),
    ],
)
def test_remains_are_used_if_they_are_right(server, target, remains, ranges):
    target.parent.mkdir(parents=True)
    target.with_name(".file.part").write_bytes(remains)
    get(server, target)
    assert complete(target)
    assert server.ranges() == ranges


def test_what_a_killed_process_left_is_taken_over_when_nobody_writes_to_it(server, target):
    target.parent.mkdir(parents=True)
    living, dead = target.with_name(".file.00aa.part"), target.with_name(".file.00bb.part")
    for path in (living, dead):
        path.write_bytes(CONTENT[:5000])
    os.utime(dead, (time.time() - 7200,) * 2)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.ranges() == ["bytes=5000-"]
    assert sorted(target.parent.iterdir()) == [living, target]


def test_several_at_once_do_not_disturb_one_another(server, target):
    target.parent.mkdir(parents=True)
    target.with_name(".file.part").write_bytes(CONTENT[:5000])
    server.behaviour["file"] = [("cut", 80_000), ("cut", 10_000), ("cut", 1), 500]
    errors = []

    def run():
        try:
            get(server, target)
            assert target.read_bytes() == CONTENT
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert complete(target)


def test_what_another_one_gave_up_meanwhile_is_cleared_away(server, target, monkeypatch):
    at = module.DownloadProgress.at

    def given_up(bar, position):
        if position:
            target.with_name(".file.part").write_bytes(CONTENT[:10])
        at(bar, position)

    monkeypatch.setattr(module.DownloadProgress, "at", given_up)
    get(server, target)
    assert complete(target)


def test_nothing_is_seen_in_its_place_before_it_is_complete(server, target, monkeypatch):
    seen = []
    at = module.DownloadProgress.at
    monkeypatch.setattr(
        module.DownloadProgress, "at", lambda bar, position: (seen.append(target.exists()), at(bar, position))
    )
    get(server, target)
    assert len(seen) > 4
    assert not any(seen)


@pytest.mark.skipif(os.name == "nt", reason="a folder's mode does not keep anybody out on Windows")
def test_a_folder_that_cannot_be_written_to_is_the_systems_own_error(server, tmp_path):
    (tmp_path / "file").write_bytes(b"in the way of a folder")
    with pytest.raises(OSError, match="file") as caught:
        get(server, tmp_path / "file" / "file")
    assert not isinstance(caught.value, DownloadError)


def test_progress_is_a_bar(server, target, capsys):
    pytest.importorskip("tqdm", reason="without tqdm there is no bar; the next test has the lines")
    server.behaviour["file"] = [("cut", 200_000), ("whole", None)]
    get(server, target, progress=True)
    shown = capsys.readouterr()
    assert "file: 100%" in shown.err
    assert "300k/300k" in shown.err
    assert shown.out == ""


def test_progress_without_tqdm_is_a_line_for_each_tenth(server, target, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    get(server, target, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "file: 100 % of 300000 bytes"
    assert 4 <= len(lines) <= 10


def test_no_progress_is_silence(server, target, capfd):
    get(server, target)
    assert capfd.readouterr() == ("", "")
