"""Estimate: the same number measured with several seeds, and whether two of them differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom (any table of statistics); the normal's 1.96 is its limit.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """Mean and spread over seeds.

    Attributes
    ----------
    mean : float
        NaN when there is no value.
    spread : float
        The sample standard deviation, sqrt(sum((x - mean)^2) / (count - 1)); NaN for fewer than two values.
    count, of : int
        How many seeds have a value, and how many there are: a goal may be reached with some seeds and not with others.

    Examples
    --------
    >>> Estimate.over([2.0, 4.0, None])
    Estimate(mean=3.0, spread=1.4142135623730951, count=2, of=3)
    """

    mean: float
    spread: float
    count: int
    of: int

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Estimate:
        """Return the estimate from one value for each seed, None where there is none."""
        given = list(values)
        numbers = [float(value) for value in given if value is not None]
        count = len(numbers)
        mean = sum(numbers) / count if count else math.nan
        squares = sum((number - mean) ** 2 for number in numbers)
        return cls(mean, math.sqrt(squares / (count - 1)) if count > 1 else math.nan, count, len(given))

    def show(self, form: Callable[[float], str]) -> str:
        """Return it as text, such as "0.0312 ± 0.0004"; "never" without a value, "2 of 3 seeds" with too few."""
        if not self.count:
            return "never"
        text = form(self.mean)
        if self.count > 1:
            text += f" ± {form(self.spread)}"
        return text if self.count == self.of else f"{text} ({self.count} of {self.of} seeds)"


class Difference(NamedTuple):
    """Mean of a - b over seeds, and its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether chance is an unlikely explanation: zero is outside the interval."""
        return self.low > 0 or self.high < 0

    @property
    def tied(self) -> bool:
        """Whether several seeds gave the same difference, of which there is no interval."""
        return self.seeds > 1 and math.isfinite(self.mean) and not math.isfinite(self.low)


def difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compare two arms seed by seed: values at the same place have the same seed.

    The interval is mean ± t * s / sqrt(n), with s the sample standard deviation of the n differences and t Student's
    quantile for n - 1 degrees of freedom. With one seed it is the whole line: nothing is clear then. So it is where all
    differences are the same: accuracies are whole numbers of rows, and two seeds that tie do not make a spread of zero.
    """
    differences = Estimate.over(x - y for x, y in zip(a, b, strict=True))
    n = differences.count
    if n < 2 or not math.isfinite(differences.mean) or not differences.spread:
        return Difference(differences.mean, -math.inf, math.inf, n)
    t = _T95[n - 2] if n - 2 < len(_T95) else 1.960
    half = t * differences.spread / math.sqrt(n)
    return Difference(differences.mean, differences.mean - half, differences.mean + half, n)
