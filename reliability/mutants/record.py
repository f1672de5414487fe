"""What happened to each fault: a file of results that a run goes on from, the faults that change nothing, a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

EQUIVALENT = Path(__file__).with_name("equivalent.txt")
OUTCOMES = ("killed", "equivalent", "survived", "unreached")


class Result(NamedTuple):
    """A fault and what became of it."""

    module: str
    key: str
    line: int
    source: int  # a checksum of the module's text: the line may lie elsewhere in another
    outcome: str  # killed, equivalent, survived; unreached: no test runs it
    by: str  # the test that failed
    seconds: float


def read(path: Path) -> list[Result]:
    """The last result of each fault."""
    rows = [Result(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    return list({(row.module, row.key): row for row in rows}.values())


def write(path: Path, result: Result) -> None:
    with path.open("a") as file:
        file.write(json.dumps(result._asdict()) + "\n")


def equivalents(text: str) -> dict[tuple[str, str], str]:
    """(module, key) -> why no test can tell the fault from the original.

    A line ``# module`` says whose the faults below it are; under each stands its reason, indented, and may hold for
    several above it.
    """
    found: dict[tuple[str, str], str] = {}
    module, waiting = "", list[str]()
    reason = False
    for line in text.splitlines():
        if line.startswith("# "):
            module = line[2:].strip()
        elif line.startswith(" "):
            for key in waiting:
                found[module, key] = " ".join([found.get((module, key), ""), line.strip()]).strip()
            reason = True
        elif line.strip():
            if reason:
                waiting.clear()
            reason = False
            waiting.append(line.rstrip())
    return found


def table(results: Iterable[Result]) -> Iterator[str]:
    """Markdown: a row a module."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result.module, Counter())[result.outcome] += 1
    yield "| module | faults | killed | equivalent | left |"
    yield "|---|---:|---:|---:|---:|"
    total: Counter[str] = Counter()
    for module, count in [*sorted(counts.items()), ("all", total)]:
        left = count["survived"] + count["unreached"]
        yield f"| {module} | {count.total()} | {count['killed']} | {count['equivalent']} | {left} |"
        total.update(count)
