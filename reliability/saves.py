"""Break off saves: ``python -m reliability.saves --seed 0``. Who reads the path finds the old content or the new one.

Every writer of the package, in a process that is killed before and after each call of the system that it makes and at
bytes in the middle of its write, that gets an error from each of these calls, or a disk that is full, or SIGKILL at any
time; several that write the same path at once. Afterwards what is at the path is read, the next save works, and what
the killed left goes away an hour later. POSIX alone. The exit code is 1 after a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from normcore.studies._writing import write
from normcore.training import History
from reliability.file_readers import make, state

CALLS = (
    "open",
    "stat",
    "access",
    "fstat",
    "fchown",
    "fchmod",
    "fsync",
    "replace",
    "unlink",
    "close",
)  # those of a save
ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EROFS)
LIMITS = (0, 1, 100, 4096, 5000)  # bytes at which a write ends

Save = Callable[[Path, int], object]  # to a path, one of two contents


def history(which: int) -> History:
    """One of two, of another length."""
    found = History()
    for epoch in range(100 + 50 * which):
        found.append({"loss": epoch + which / 2}, 0.5)
    return found


TRAINERS = [make(0), make(1)]
WRITERS: dict[str, tuple[str, Save]] = {
    "save_checkpoint, npz": ("a.npz", lambda path, which: TRAINERS[which].save_checkpoint(path)),
    "save_checkpoint, safetensors": ("a.safetensors", lambda path, which: TRAINERS[which].save_checkpoint(path)),
    "History.to_json": ("a.json", lambda path, which: history(which).to_json(path)),
    "History.to_csv": ("a.csv", lambda path, which: history(which).to_csv(path)),
    "a study's file": ("result.json", lambda path, which: write(path.parent, path.name, b"%d" % which * 9000)),
}


def contents(name: str) -> tuple[bytes, bytes]:
    """What the two saves write, and what reading it gives is checked here once."""
    file, save = WRITERS[name]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for which in (0, 1):
            path = Path(folder, file)
            save(path, which)
            found.append(path.read_bytes())
            if name.startswith("save_checkpoint"):
                again = make(1 - which)
                again.load_checkpoint(path)
                assert state(again) == state(TRAINERS[which])
            if name == "History.to_json":
                assert History.from_json(path).to_dict() == history(which).to_dict()
    return found[0], found[1]


def child(run: Callable[[], object]) -> int:
    """Run in a process of its own; its exit code, negative for a signal, 1 for an OSError, 2 for another error."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            run()
            code = 0
        except OSError:
            code = 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def break_at(number: int, after: bool, broken: Callable[[], object]) -> Counter[str]:
    """Let the `number`-th call of the system, of those that are listed, be broken; counts the calls."""
    count: Counter[str] = Counter()

    def patched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count["calls"] += 1
            hit = count["calls"] == number
            if hit and not after:
                broken()
            result = original(*arguments, **options)
            if hit and after:
                broken()
            return result

        return call

    for name in CALLS:
        setattr(os, name, patched(getattr(os, name)))
    return count


def kill() -> None:
    """As the system does when there is no memory, or a batch system when the time is over."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> Callable[[], None]:
    """An error of the system."""

    def raised() -> None:
        raise OSError(number, os.strerror(number))

    return raised


def limited(size: int, dies: bool) -> None:
    """A write past `size` bytes is a signal that kills, or an error."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if dies else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def faults(size: int) -> Iterator[tuple[str, Callable[[], object], bool]]:
    """Name, what to do in the child before it saves, and whether it may leave a temporary file."""
    for number in range(1, 17):  # a save makes eleven
        for after in (False, True):
            when = "after" if after else "before"
            yield f"killed {when} call {number}", lambda n=number, a=after: break_at(n, a, kill), True  # type: ignore[misc]
        for error in ERRORS:
            label = f"{errno.errorcode[error]} from call {number}"
            yield label, lambda n=number, e=error: break_at(n, False, fail(e)), False  # type: ignore[misc]
    for limit in (*LIMITS, size - 1):
        if limit < size:
            yield f"killed at byte {limit}", lambda n=limit: limited(n, True), True  # type: ignore[misc]
            yield f"EFBIG at byte {limit}", lambda n=limit: limited(n, False), False  # type: ignore[misc]


class Check:
    """What must hold of a folder after a save was broken off."""

    def __init__(self, path: Path, old: bytes | None, new: bytes) -> None:
        self.path, self.old, self.new = path, old, new
        self.failures: list[str] = []
        self.outcomes: Counter[str] = Counter()

    def judge(self, label: str, code: int, may_leave: bool) -> None:
        """Look at the file, and at what lies beside it; then put the old one back."""
        there = self.path.read_bytes() if self.path.exists() else None
        left = [item for item in self.path.parent.iterdir() if item != self.path]
        if there not in (self.old, self.new):
            self.failures.append(f"{label}: the file is neither the old nor the new one")
        if code == 0 and there != self.new:
            self.failures.append(f"{label}: the save said nothing, but the file is the old one")
        if code == 2:
            self.failures.append(f"{label}: no OSError")
        if left and not (may_leave and code < 0):
            self.failures.append(f"{label}: {left[0].name} was left")
        self.outcomes["killed" if code < 0 else "error" if code else "done"] += 1
        self.outcomes["new" if there == self.new else "old"] += 1
        self.outcomes["left"] += len(left)
        for item in left:
            item.unlink()


def broken_off(name: str) -> Check:
    """Each fault of the list, over an old file and without one."""
    file, save = WRITERS[name]
    old, new = contents(name)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(Path(folder, file), old, new)
        for label, prepare, may_leave in faults(len(new)):
            for before in (old, None):
                check.old = before
                check.path.unlink(missing_ok=True)
                if before is not None:
                    check.path.write_bytes(before)

                def run(prepare: Callable[[], object] = prepare) -> None:
                    prepare()
                    save(check.path, 1)

                check.judge(label, child(run), may_leave)
    return check


def killed_at_random(name: str, count: int, rng: random.Random) -> Check:
    """A process that saves one content after the other, killed at any time; leftovers go with a save an hour later."""
    file, save = WRITERS[name]
    old, new = contents(name)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        aside = Path(other)
        check = Check(Path(folder, file), old, new)
        check.path.write_bytes(old)

        def saving() -> None:
            number = 0
            while True:
                save(check.path, (number := number + 1) % 2)

        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(BaseException):
                    saving()
                os._exit(2)
            time.sleep(rng.uniform(0.001, 0.03))
            os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            left = [item for item in Path(folder).iterdir() if item != check.path]
            for item in left:
                os.utime(item, (1, 1))  # an hour later, for the save below
                os.link(item, aside / item.name)
            check.judge("killed at any time", code, True)
            for item in left:
                os.rename(aside / item.name, item)
            save(check.path, 0)
            if any(item.exists() for item in left):
                check.failures.append("a save did not remove what a killed one had left an hour before")
            if check.path.read_bytes() != old:
                check.failures.append("the save after a kill did not write")
    return check


def at_once(name: str, writers: int, seconds: float) -> Check:
    """Several processes save the same path while this one reads it."""
    file, save = WRITERS[name]
    old, new = contents(name)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(Path(folder, file), old, new)
        check.path.write_bytes(old)
        end = time.monotonic() + seconds

        def saving(which: int) -> None:
            while time.monotonic() < end:
                save(check.path, which)

        pids = []
        for number in range(writers):
            pid = os.fork()
            if pid == 0:
                code = 2
                with contextlib.suppress(BaseException):
                    saving(number % 2)
                    code = 0
                os._exit(code)
            pids.append(pid)
        while time.monotonic() < end:
            check.outcomes["reads"] += 1
            if check.path.read_bytes() not in (old, new):
                check.failures.append("at once: a reader found something between old and new")
        for pid in pids:
            if os.waitpid(pid, 0)[1]:
                check.failures.append("at once: a writer failed")
        check.old, check.new = (old, new) if check.path.read_bytes() == new else (new, old)
        check.judge("at once", 0, False)
    return check


def full_disk(name: str) -> Check | None:
    """A disk of 64 kB that is nearly full; None where none may be mounted."""
    file, save = WRITERS[name]
    old, new = contents(name)
    with tempfile.TemporaryDirectory() as folder:
        if os.system(f"mount -t tmpfs -o size=64k tmpfs {folder} 2>/dev/null"):
            return None
        try:
            check = Check(Path(folder, file), old, new)
            for free in range(0, 20_000, 4096):
                check.path.write_bytes(old)
                filler = Path(folder, "filler")
                with contextlib.suppress(OSError):
                    filler.write_bytes(bytes(65536 - free - (-(-len(old) // 4096)) * 4096))
                code = child(lambda: save(check.path, 1))
                filler.unlink()
                check.judge(f"{free} bytes free", code, False)
            return check
        finally:
            os.system(f"umount {folder}")


def main(argv: Sequence[str] | None = None) -> int:
    """Break off saves, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m reliability.saves", description=__doc__.split(";")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=200, help="at any time, for each writer")
    parser.add_argument("--seconds", type=float, default=3.0, help="of four processes that write the same path")
    parser.add_argument("--only", default="", help="writers whose name holds this")
    options = parser.parse_args(argv)
    failed = False
    for name in WRITERS:
        if options.only not in name:
            continue
        for what, check in (
            ("faults", broken_off(name)),
            ("kills at any time", killed_at_random(name, options.kills, random.Random(f"{options.seed} {name}"))),
            ("four writers", at_once(name, 4, options.seconds)),
            ("a full disk", full_disk(name)),
        ):
            if check is None:
                print(f"{name:30} {what:18} left out: no disk may be mounted here")
                continue
            print(f"{name:30} {what:18} {dict(check.outcomes)}, {len(check.failures)} failures", flush=True)
            for failure, count in Counter(check.failures).most_common(20):
                print(f"FAILED {failure} ({count} times)")
            failed = failed or bool(check.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
