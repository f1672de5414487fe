"""Fuzz every reader of files: ``python -m reliability.files --cases 20000 --seed 0``.

For each reader: an intact file cut at every byte, every bit of it flipped, random splices, and files damaged by
structure whose checksums are right. Each must be read to exactly the values that were written, or be refused with one
error of the documented class and one line that names the file; a refusal leaves model, optimiser and trainer with the
bits they had. Memory and time are bounded, nothing is warned of, no file is left.

Runs in a process for each reader: one that crashes is a failure with the case that it died of. The exit code is 1 after
a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reliability.file_damage import MEGABYTE, Case, flips, splice, truncations
from reliability.file_forgeries import by_structure
from reliability.file_readers import Reader, readers
from reliability.patience import patience

SECONDS = patience(10)  # for one file
ADDRESSES = 6 << 30  # a file that asks for more gets a MemoryError, and not the machine


class Verdict(NamedTuple):
    """What became of a damaged file."""

    outcome: str  # "same", "refused", "other values" or "FAILED"
    why: str = ""
    memory: int = 0


def allowed(size: int) -> int:
    """How much memory reading a file of `size` bytes may take: Python's lists are thirty times their JSON."""
    return 40 * size + 4 * MEGABYTE


def judge(reader: Reader, path: Path, content: bytes, want: str, blind: bool) -> Verdict:
    """Read a damaged file and say what happened."""
    path.write_bytes(content)
    tracemalloc.start()
    signal.alarm(SECONDS)
    refusal: BaseException | None = None
    got = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = reader.read(path)
    except BaseException as error:
        refusal = error
    finally:
        signal.alarm(0)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    left = sorted(item.name for item in path.parent.iterdir() if item != path)
    for name in left:
        path.with_name(name).unlink()
    if left:
        return Verdict("FAILED", f"left {left}", memory)
    if memory > allowed(len(content)) and reader.kind != "npz-of-numpy":
        return Verdict("FAILED", f"took {memory} bytes for a file of {len(content)}", memory)
    if refusal is not None:
        return Verdict(*_refused(reader, path, refusal), memory)
    if got == want:
        return Verdict("same", "", memory)
    if blind and reader.has_checksum:
        return Verdict("FAILED", "read to other values", memory)
    if reader.use is not None:
        problem = _used(reader, path)
        if problem:
            return Verdict("FAILED", problem, memory)
    return Verdict("other values", "", memory)


def _refused(reader: Reader, path: Path, error: BaseException) -> tuple[str, str]:
    said = str(error)
    if not isinstance(error, reader.errors):
        return "FAILED", f"{type(error).__name__}: {said[:300]}"
    if "\n" in said or len(said) > 3000:
        return "FAILED", f"not one line: {said[:300]!r}"
    if reader.names_the_file and path.name not in said:
        return "FAILED", f"the file is not named: {said[:300]}"
    return "refused", ""


def _used(reader: Reader, path: Path) -> str:
    """Go on with what was read: it works, or is refused in a line."""
    assert reader.use is not None
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.use(path)
    except ValueError as error:
        return f"not one line: {error!r:.300}" if "\n" in str(error) else ""
    except BaseException as error:
        return f"taken, but then {type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    return ""


def cases(reader: Reader, count: int, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Kind of damage, its name, and the damaged file."""
    yield from (("cut", case) for case in truncations(reader.intact, count, rng))
    yield from (("bit", case) for case in flips(reader.intact, count, rng))
    yield from (("splice", splice(reader.intact, rng)) for _ in range(count // 2))
    yield from (("structure", case) for case in by_structure(reader, count // 2, rng))


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds")


def search(name: str, count: int, seed: int, send: Any) -> None:
    """All cases of a reader, each told before it is tried."""
    if "ASAN_OPTIONS" not in os.environ:  # AddressSanitizer itself has taken terabytes of addresses
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    signal.signal(signal.SIGALRM, _too_slow)
    reader = next(reader for reader in readers() if reader.name == name)
    rng = random.Random(f"{seed} {name}")
    memory_disk = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk takes longer to truncate than we to read
    with tempfile.TemporaryDirectory(dir=memory_disk) as folder:
        path = Path(folder, reader.file)
        path.write_bytes(reader.intact)
        want = reader.read(path)
        for kind, (label, content) in cases(reader, count, rng):
            send.send(("try", kind, label))
            send.send(("end", *judge(reader, path, content, want, blind=kind != "structure")))
    send.send(("done",))


def searched(name: str, count: int, seed: int, most: int) -> tuple[dict[str, Counter[str]], Counter[str], int]:
    """Run `search` in a process; return outcomes by kind of damage, failures, and the most memory that a file took."""
    outcomes: dict[str, Counter[str]] = {}
    failures: Counter[str] = Counter()
    memory = 0
    receive, send = multiprocessing.Pipe(duplex=False)
    worker = multiprocessing.get_context("fork").Process(target=search, args=(name, count, seed, send))
    worker.start()
    send.close()
    tried = ("", "")
    with contextlib.suppress(EOFError):
        while (message := receive.recv())[0] != "done":
            if message[0] == "try":
                tried = message[1:]
                continue
            _, outcome, why, took = message
            memory = max(memory, took)
            outcomes.setdefault(tried[0], Counter())[outcome] += 1
            if outcome == "FAILED":
                failures[why] += 1
                if failures.total() <= most:
                    print(f"FAILED {name}, {tried[0]}, {tried[1]}: {why}", flush=True)
    worker.join()
    if worker.exitcode:
        print(f"FAILED {name}, {tried[0]}, {tried[1]}: the process ended with {worker.exitcode}", flush=True)
        failures["crash"] += 1
    return outcomes, failures, memory


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m reliability.files", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--cases",
        type=int,
        default=20_000,
        help="for each reader: so many cuts and flips at most, half as many splices and as many trees",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--most", type=int, default=20, help="failures shown for each reader")
    options = parser.parse_args(argv)
    failed = False
    print(f"{'reader':28} {'damage':10} {'cases':>8} {'same':>8} {'refused':>8} {'other':>8} {'FAILED':>7}")
    for reader in readers():
        if options.only not in reader.name:
            continue
        began = time.perf_counter()
        outcomes, failures, memory = searched(reader.name, options.cases, options.seed, options.most)
        for kind, found in outcomes.items():
            row = [found[name] for name in ("same", "refused", "other values", "FAILED")]
            cells = " ".join(f"{n:{width}}" for n, width in zip(row, (8, 8, 8, 7), strict=True))
            print(f"{reader.name:28} {kind:10} {sum(row):8} {cells}")
        took = f"{time.perf_counter() - began:.0f} s, at most {memory / MEGABYTE:.1f} MB"
        print(f"{reader.name:28} {len(reader.intact)} bytes, {took}", flush=True)
        failed = failed or bool(failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
