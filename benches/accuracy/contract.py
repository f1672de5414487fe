"""What is promised: a bound for each kind of error, in its unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from benches.accuracy.data import eps_of
from benches.cases import Case, view


class Promise(NamedTuple):
    """A kind of error: its unit, the largest allowed, and whether float64's grows with the size of a group."""

    unit: str
    bound: float
    grows: bool = False


STATISTICS = ("mean", "variance")
GRADIENTS = ("dx", "dweight", "dbias")
PROMISES: Mapping[str, Promise] = {
    "mean": Promise("the largest abs(x) of the group", 1e-13),  # a mean near 0 has no relative error of its own
    "variance": Promise("the variance", 1e-6),  # promised up to mean/std = 1e6, kept beyond it
    "output": Promise("ulp of abs(xhat * weight) + abs(bias)", 4.0, grows=True),
    "constant": Promise("ulp of abs(bias), where the variance is 0", 0.0),
    "dx": Promise("eps of what is added", 8.0, grows=True),
    "dweight": Promise("eps of what is added", 8.0, grows=True),
    "dbias": Promise("eps of what is added", 8.0, grows=True),
}


def bound(kind: str, case: Case, ours: bool = True) -> float:
    """The largest error of a kind that a case may have.

    float64 has no wider type to be summed in, so n eps is what a sum of n terms may lose. A peer that returns
    statistics in the dtype of x may round them to it.
    """
    promise = PROMISES[kind]
    if kind in STATISTICS and not ours:
        return max(promise.bound, 4 * eps_of(case.dtype))
    return promise.bound + (_values(case) if promise.grows and case.dtype == "float64" else 0)


def broken(case: Case, errors: Mapping[str, float], ours: bool = True) -> tuple[str, ...]:
    """The kinds of error that are beyond their bound; NaN is beyond any."""
    return tuple(kind for kind, error in errors.items() if not error <= bound(kind, case, ours))


def _values(case: Case) -> int:
    """How many values a statistics group has."""
    seen = view(case)
    return math.prod(seen.shape[axis] for axis in seen.axes)
