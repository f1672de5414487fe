"""Result: what a study found, as text, as JSON, as tables and as pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Protocol

from ._picture import Animation, Picture
from ._table import Table


class Outcome(Protocol):
    """What the command line and the report need of a study's result; `Result` is one, and so is `StudyResult`."""

    @property
    def study(self) -> str:
        """Its name in the table of studies."""

    @property
    def title(self) -> str:
        """The heading."""

    @property
    def question(self) -> str:
        """What the study asks."""

    @property
    def notes(self) -> Sequence[str]:
        """How it was done, a sentence each."""

    @property
    def config(self) -> Mapping[str, Any]:
        """All that decides the numbers."""

    @property
    def tables(self) -> Sequence[Table]:
        """The numbers."""

    @property
    def texts(self) -> Mapping[str, str]:
        """Heading and text of what is neither table nor picture, such as a log."""

    @property
    def pictures(self) -> Sequence[Picture | Animation]:
        """The pictures, not drawn yet."""

    @property
    def conclusions(self) -> Sequence[str]:
        """Sentences, computed from the numbers."""

    @property
    def seconds(self) -> float:
        """Wall-clock time of the whole study."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What it ran on."""

    @property
    def interrupted(self) -> str:
        """What is missing after Ctrl-C, a sentence; empty when the study came to its end."""

    def table(self) -> str:
        """Return everything as text."""

    def to_json(self) -> str:
        """Return everything as JSON."""


@dataclass(frozen=True)
class Result:
    """What a study found.

    Attributes
    ----------
    study, title, question : str
        Its name in the table of studies, the heading, and what it asks.
    notes : sequence of str
        How it was done, a sentence each.
    config : dict
        All that decides the numbers.
    tables : sequence of Table
        The numbers.
    conclusions : sequence of str
        Sentences computed from the numbers.
    seconds : float
        Wall-clock time of the whole study.
    environment : dict of str to str
        What it ran on.
    pictures : sequence of Picture and Animation
        Drawn when they are asked for.
    texts : dict of str to str
        Heading and body of what is neither table nor picture; shown as it is, in a fixed-width font.
    data : object
        What else goes to the JSON file: dicts, lists, dataclasses, numbers and strings.
    interrupted : str
        What is missing after Ctrl-C; empty when the study came to its end.
    """

    study: str
    title: str
    question: str
    notes: Sequence[str]
    config: Mapping[str, Any]
    tables: Sequence[Table]
    conclusions: Sequence[str]
    seconds: float
    environment: Mapping[str, str]
    pictures: Sequence[Picture | Animation] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    data: Any = None
    interrupted: str = ""

    def table(self) -> str:
        """Return everything as text: notes, printed tables, texts, conclusions."""
        blocks = ["\n".join([self.title, self.question, *self.notes])]
        blocks += [table.text() for table in self.tables if table.where == "print"]
        blocks += [f"{heading}\n{body}" for heading, body in self.texts.items()]
        if self.interrupted:
            blocks.append(self.interrupted)
        return "\n\n".join([*blocks, "\n".join(self.conclusions)])

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite become null."""
        names = ("study", "title", "question", "notes", "config", "texts", "conclusions", "seconds", "environment")
        content = {name: getattr(self, name) for name in (*names, "interrupted", "data")}
        content["tables"] = {
            table.name: {
                "title": table.title,
                "columns": [asdict(column) for column in table.columns],
                "rows": table.rows,
            }
            for table in self.tables
        }
        return to_json(content)


def to_json(content: Any) -> str:
    """Return indented JSON; dataclasses become objects, and numbers that are not finite null."""
    return json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {f"{key:g}" if isinstance(key, float) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
