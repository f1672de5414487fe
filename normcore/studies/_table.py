"""Table: columns and rows of a result, as text, as CSV and as values for JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from normcore.training.history import format_value

from ._estimate import Estimate


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
        Its heading.
    unit : str
        Shown behind the heading in brackets, such as "s".
    spec : str
        Python's format of its numbers, such as ".4f" or ".2%"; when empty, four digits that tell something.
    """

    name: str
    unit: str = ""
    spec: str = ""

    @property
    def heading(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def show(self, value: Any) -> str:
        """Return a cell as text; nothing for None."""
        if isinstance(value, Estimate):
            return value.show(self.show)
        if isinstance(value, float):
            return format(value, self.spec) if self.spec else format_value(value)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Table:
    """Rows of text, numbers, estimates and None.

    Attributes
    ----------
    name : str
        Of its CSV file, without the ending.
    title : str
        A line above it.
    columns : sequence of Column
        Every row has a cell for each.
    rows : sequence of sequence
        Cells: str, int, float, `Estimate` or None.
    where : {"print", "report", "file"}
        "print": everywhere. "report": not printed, folded up in the HTML report. "file": in the CSV alone.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    where: Literal["print", "report", "file"] = "print"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"rows of the table {self.name} must have {len(self.columns)} cells, one for each column, "
                    f"got {len(row)}: {row!r}"
                )

    def cells(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[column.show(value) for column, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def is_number(self, index: int) -> bool:
        """Whether a column holds numbers, which are aligned to the right."""
        return any(isinstance(row[index], (int, float, Estimate)) for row in self.rows)

    def text(self) -> str:
        """Return title, headings and rows as lines of text."""
        lines = [[column.heading for column in self.columns], *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [self.is_number(index) for index in range(len(self.columns))]
        shown = [
            "  ".join(
                cell.rjust(width) if at_right else cell.ljust(width)
                for cell, width, at_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *shown])

    def to_csv(self) -> str:
        """Return CSV in which every float reads back as the same float.

        A column of estimates becomes three: the mean under the column's name, "spread" and "seeds".
        """
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        estimates = [any(isinstance(row[i], Estimate) for row in self.rows) for i in range(len(self.columns))]
        head: list[str] = []
        for column, wide in zip(self.columns, estimates, strict=True):
            more = [f"{column.name}, spread", f"{column.name}, seeds"] if wide else []
            head += [column.heading, *more]
        writer.writerow(head)
        for row in self.rows:
            cells: list[Any] = []
            for value, wide in zip(row, estimates, strict=True):
                cells += _wide(value) if wide else [_exact(value)]
            writer.writerow(cells)
        return file.getvalue()


def _wide(value: Any) -> list[Any]:
    if not isinstance(value, Estimate):
        return [_exact(value), "", ""]
    mean = _exact(value.mean) if value.count else ""
    return [mean, _exact(value.spread) if value.count > 1 else "", value.count]


def _exact(value: Any) -> Any:
    return repr(float(value)) if isinstance(value, float) else value
