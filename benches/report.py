"""The last table as Markdown, between two marks in benches/RESULTS.md; what is written around them stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benches import markdown as pages
from benches import table
from benches.results import OURS, Result
from benches.targets import Outcome

FILE = Path(__file__).resolve().parent / "RESULTS.md"
PROGRAM = "benches.peers"


def write(
    file: Path, command: str, about: Mapping[str, Any], results: Sequence[Result], outcomes: Sequence[Outcome],
    columns: Sequence[str],
) -> None:  # fmt: skip
    """Put a run's tables into a file, in place of those of the run before.

    Parameters
    ----------
    file : Path
        Made when it is not there.
    command : str
        How to do it again.
    about : mapping
        From `environment.describe`.
    results, outcomes
        What was measured and what became of the targets.
    columns : sequence of str
        The contenders besides normcore and the copy.

    Raises
    ------
    ValueError
        If the file is there but has no marks.
    """
    lines = markdown(command, about, results, outcomes, columns)
    pages.replace(file, PROGRAM, lines, "Results")


def markdown(
    command: str, about: Mapping[str, Any], results: Sequence[Result], outcomes: Sequence[Outcome],
    columns: Sequence[str],
) -> Iterator[str]:  # fmt: skip
    """The lines."""
    yield f"`{command}`, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC.\n"
    yield f"CPU: {about['cpu']}, {about['cpus']} CPUs, {about['threads']} threads."
    rest = [f"{name} {value}" for name, value in about.items() if name not in ("cpu", "cpus", "threads")]
    yield f"Versions: {', '.join(rest)}.\n"
    yield "## Targets\n"
    yield from pages.table(
        ("target", "bound", "measured", "", "notes"), [table.verdict(outcome) for outcome in outcomes]
    )
    yield "\n## Measurements\n"
    yield "Time of normcore, how many copies that is, and how many times as long the others take.\n"
    heads = ("", OURS, "x copy", *columns)
    yield from pages.table(
        heads, [[result.name + table.mark(result), *table.cells(result, columns)] for result in results]
    )
    why = list(table.reasons(results))
    if why:
        yield "\nMissing:\n"
        yield from (f"- {reason}" for reason in why)
