"""What was measured: one result for each case of the grid, and for each thing that is not on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benches.cases import Case

OURS = "normcore"
COPY = "copy"


@dataclass(frozen=True)
class Result:
    """A line of the table.

    Attributes
    ----------
    name : str
        What was measured; begins with a word for the kind: an operation, "training", "import", "wheel".
    case : Case or None
        For those of the grid.
    seconds : dict of str to float
        The median of each contender's fastest way.
    ways : dict of str to str
        Which way that was.
    amount : float or None
        Where it is not a time that counts: milliseconds of import, megabytes of wheel.
    missing : dict of str to str
        Why a contender has no time.
    busy : float or None
        What part of the CPUs other processes took meanwhile, where the system tells.
    """

    name: str
    case: Case | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    ways: Mapping[str, str] = field(default_factory=dict)
    amount: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    busy: float | None = None

    @property
    def copies(self) -> float | None:
        """How many copies our call costs."""
        return self.over(OURS, COPY)

    def over(self, name: str, other: str) -> float | None:
        """How many times as long as `other` `name` takes; None where one of them was not measured."""
        if name not in self.seconds or other not in self.seconds:
            return None
        return self.seconds[name] / self.seconds[other]

    def least(self, names: Sequence[str]) -> float | None:
        """The smallest of the peers' ratios to our time: below 1, one of them is faster."""
        ratios = [ratio for name in names if (ratio := self.over(name, OURS)) is not None]
        return min(ratios, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "name": self.name,
            "case": None if self.case is None else self.case._asdict(),
            "seconds": dict(self.seconds),
            "ways": dict(self.ways),
            "amount": self.amount,
            "copies": self.copies,
            "missing": dict(self.missing),
            "busy": self.busy,
        }
