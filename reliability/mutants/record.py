"""What happened to each fault: a file of results that a run goes on from, the faults that change nothing, a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

EQUIVALENT = Path(__file__).with_name("equivalent.txt")


class Result(NamedTuple):
    """A fault and what became of it."""

    module: str
    key: str
    line: int
    source: int  # a checksum of the function's text
    outcome: str  # killed, equivalent or survived
    by: str  # the test that failed
    seconds: float


def read(path: Path) -> list[Result]:
    """The last result of each fault."""
    rows = [Result(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    return list({(row.module, row.key): row for row in rows}.values())


def write(path: Path, result: Result) -> None:
    with path.open("a") as file:
        file.write(json.dumps(result._asdict()) + "\n")


def judged(
    results: Iterable[Result], exist: Container[tuple[str, str]], known: Container[tuple[str, str]]
) -> list[Result]:
    """The results of faults that still `exist`; what changes nothing is what is `known` to today, if nobody noticed."""
    return [
        result
        if result.outcome == "killed"
        else result._replace(outcome="equivalent" if (result.module, result.key) in known else "survived")
        for result in results
        if (result.module, result.key) in exist
    ]


def to_try(results: Iterable[Result], left: bool) -> Callable[[str, str, int], bool]:
    """Whether to try a fault, by module, key and source: not again what was killed in the same text of its function.

    With `left` none but those that survived, in whichever text.
    """
    before = {(result.module, result.key): result for result in results}

    def wanted(module: str, key: str, source: int) -> bool:
        found = before.get((module, key))
        if left:
            return found is not None and found.outcome == "survived"
        return found is None or found.outcome != "killed" or found.source != source

    return wanted


def equivalents(text: str) -> dict[tuple[str, str], str]:
    """(module, key) -> why no test can tell the fault from the original.

    All before the first line ``# module`` is for readers. It says whose the faults below it are; under each stands its
    reason, indented, which may hold for several above it.
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
        elif line.strip() and module:
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
        yield f"| {module} | {count.total()} | {count['killed']} | {count['equivalent']} | {count['survived']} |"
        total.update(count)
