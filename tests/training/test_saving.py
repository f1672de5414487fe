"""Saving: links, permissions, devices and long names as any program does; one that is broken off leaves the old file.

`reliability.saves` breaks off more of them.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from devices import needs_full_disk
from processes import python

from normcore.training import History
from normcore.training._files import write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="links, permissions and devices as POSIX has them")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def own_folder():
    """A folder that everybody may reach: pytest's are closed to others than who runs it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@posix
class TestWhatIsThere:
    @pytest.mark.parametrize("before", [b"old", None])
    def test_a_link_stays_and_what_it_leads_to_is_written(self, tmp_path, before):
        (tmp_path / "runs").mkdir()
        target, link = tmp_path / "runs" / "3.json", tmp_path / "latest.json"
        if before is not None:
            target.write_bytes(before)
        link.symlink_to("runs/3.json")
        write_atomically(str(link), b"new")
        assert link.is_symlink()
        assert target.read_bytes() == b"new"
        assert [item.name for item in target.parent.iterdir()] == ["3.json"]

    def test_a_link_to_itself_and_one_into_nowhere(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "nowhere").symlink_to("runs/3.json")
        with pytest.raises(OSError, match="symbolic links"):
            write_atomically(str(tmp_path / "loop"), b"new")
        with pytest.raises(FileNotFoundError, match="There is no such folder; make it first"):
            write_atomically(str(tmp_path / "nowhere"), b"new")
        assert sorted(item.name for item in tmp_path.iterdir()) == ["loop", "nowhere"]

    @pytest.mark.parametrize("permissions", [0o600, 0o640, 0o664, 0o755])
    def test_permissions_stay(self, tmp_path, permissions):
        path = tmp_path / "a.json"
        path.write_bytes(b"old")
        path.chmod(permissions)
        write_atomically(str(path), b"new")
        assert path.read_bytes() == b"new"
        assert mode(path) == permissions

    @pytest.mark.parametrize(("mask", "permissions"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_a_new_file_has_those_that_the_umask_says(self, tmp_path, mask, permissions):
        before = os.umask(mask)
        try:
            write_atomically(str(tmp_path / "a.json"), b"new")
        finally:
            os.umask(before)
        assert mode(tmp_path / "a.json") == permissions

    def test_a_device_and_a_pipe_are_written_to_and_stay(self, tmp_path):
        History().to_csv("/dev/null")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            text = History().to_csv(tmp_path / "pipe")
            assert os.read(reader, 100).decode() == text
        finally:
            os.close(reader)
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    @needs_full_disk
    def test_a_disk_that_is_full(self):
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            History().to_json("/dev/full")

    def test_what_is_protected_stays(self, own_folder):
        """In a process of its own: root may write everything, and so gives that up."""
        protected, folder = own_folder / "a.json", own_folder / "folder"
        protected.write_bytes(b"old")
        protected.chmod(0o444)
        folder.mkdir(mode=0o555)
        code = (
            "import os\nfrom normcore.training._files import write_atomically\n"
            "if os.geteuid() == 0: os.seteuid(65534)\n"
            "for path in ({!r}, {!r}):\n"
            "    try: write_atomically(path, b'new')\n"
            "    except PermissionError as error: print(error)\n"
            "os.seteuid(os.getuid())"  # what is written at the end, by a sanitizer say, is written as before
        ).format(str(protected), str(folder / "b.json"))
        assert python(code).splitlines() == [
            f"[Errno 13] Permission denied: {str(protected)!r}",
            "[Errno 13] The folder must be writable, for a new file is made in it and put in its place: "
            f"{str(folder / 'b.json')!r}",
        ]
        assert protected.read_bytes() == b"old"
        assert list(folder.iterdir()) == []
        folder.chmod(0o755)


@pytest.mark.parametrize("name", ["x" * 250, "é" * 120, "a.json"])
def test_every_name_that_the_system_takes(tmp_path, name):
    path = tmp_path / name
    for content in (b"old", b"new"):
        write_atomically(str(path), content)
        assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("path", ["a\0.json", "a\ud800.json"])
def test_what_no_system_takes_is_refused_in_a_sentence(path):
    with pytest.raises(ValueError, match=r"^History\.to_json: path must be the name of a file, got "):
        History().to_json(path)


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def full(*arguments):  # noqa: ARG001 - the signature of what it stands for
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = str(tmp_path / "a.json")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(path, b"new")
    assert caught.value.filename == path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="fork, and a limit of the size of files that kills")
def test_killed_in_the_middle_of_a_write(tmp_path):
    """The system kills the process at that byte; the next save an hour later removes what it left."""
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    code = (
        "import os, resource, signal\nfrom normcore.training._files import write_atomically\n"
        "for size in (0, 1, 4096, 5000):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        f"        write_atomically({str(path)!r}, bytes(9000)); os._exit(0)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGXFSZ)"
    )
    assert python(code).split() == ["True"] * 4
    assert path.read_bytes() == b"old"
    left = [item for item in tmp_path.iterdir() if item != path]
    assert len(left) == 4
    for item in left:
        os.utime(item, (1, 1))
    write_atomically(str(path), b"new")
    assert list(tmp_path.iterdir()) == [path]
