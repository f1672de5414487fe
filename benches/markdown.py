"""Pages that a program writes a part of: tables, and what stands between two marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def marks(program: str) -> tuple[str, str]:
    """The lines between which a program writes."""
    return f"<!-- {program}: begin -->", f"<!-- {program}: end -->"


def replace(file: Path, program: str, lines: Iterable[str], title: str) -> None:
    """Put lines into a file, in place of those of the run before; what is written around the marks stays.

    Parameters
    ----------
    file : Path
        Made, with `title` and the marks, when it is not there.
    program : str
        Whose marks.
    lines : iterable of str
        What belongs between them.
    title : str
        The heading of a new file.

    Raises
    ------
    ValueError
        If the file is there but has no marks.
    """
    first, last = marks(program)
    text = file.read_text(encoding="utf-8") if file.exists() else f"# {title}\n\n{first}\n{last}\n"
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{file} has no lines {first} and {last}; add them where the tables belong")
    file.write_text(f"{before}{begin}\n{chr(10).join(lines)}\n{end}{after}", encoding="utf-8")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, line by line."""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
