"""A row for each norm, shape, dtype, kind of data and contender."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from benches.accuracy.contenders import TORCH, Contender
from benches.accuracy.contract import broken
from benches.accuracy.data import Data
from benches.accuracy.errors import measure
from benches.accuracy.truth import Truth
from benches.cases import Case, Problem
from benches.contenders import NotOffered


@dataclass(frozen=True)
class Row:
    """What became of one call: the largest error of each kind, or why there is none."""

    case: Case
    data: str
    contender: str
    errors: Mapping[str, float] = field(default_factory=dict)
    missing: str = ""

    @property
    def ours(self) -> bool:
        """Whether the contract is about it."""
        return self.contender != TORCH

    @property
    def broken(self) -> tuple[str, ...]:
        """The kinds of error that are beyond their bound."""
        return broken(self.case, self.errors, self.ours)

    def __str__(self) -> str:
        return f"{self.case.op} {self.case.dtype} {self.case.size}, {self.data}, {self.contender}"


def rows(problems: Iterable[tuple[Problem, Data]], contenders: Mapping[str, Contender]) -> Iterator[Row]:
    """Measure every contender on every problem."""
    for problem, data in problems:
        found, missing = {}, {}
        for name, contender in contenders.items():
            try:
                found[name] = contender(problem)
            except NotOffered as reason:
                missing[name] = str(reason)
        errors = measure(Truth(problem), found, problem.case.dtype)
        for name in contenders:
            yield Row(problem.case, data.name, name, errors.get(name, {}), missing.get(name, ""))
