"""A case of the grid: prepare the contenders, compare their results, time them in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benches.cases import Array, Case, problem
from benches.contenders import Contender, NotOffered, Ways
from benches.results import OURS, Result
from benches.timing import interleaved

# Of a value around 1. Wide, because peers sum a million float32 in float32; another formula differs by far more.
_TOLERANCE = {"float16": 5e-2, "bfloat16": 2e-1, "float32": 5e-3, "float64": 1e-9}
_LOOKED_AT = 200_000  # values compared, spread over the array


def compare(case: Case, contenders: Sequence[Contender], seconds: float, rounds: int) -> Result:
    """Measure a case.

    Parameters
    ----------
    case : Case
    contenders : sequence of Contender
        Those that are absent are recorded as such. Their sessions have been entered.
    seconds, rounds
        As in `interleaved`.

    Returns
    -------
    Result
        Without times when this normcore does not have the operation.
    """
    arrays = problem(case)
    ways: dict[str, Ways] = {}
    missing: dict[str, str] = {}
    for contender in contenders:
        reason = contender.absent()
        if reason:
            missing[contender.name] = f"absent: {reason}"
            continue
        try:
            own = contender.ways(arrays)
            if contender.peer:
                _check(ways[OURS], own, case)
            ways[contender.name] = own
        except NotOffered as none:
            missing[contender.name] = str(none)
        except Exception as error:  # one line of a long run; the exit code tells
            missing[contender.name] = f"failed: {type(error).__name__}: {str(error).splitlines()[0]}"
        if contender.name == OURS and OURS in missing:
            return Result(str(case), case, missing=missing)
    times = interleaved(ways, seconds, rounds)
    return Result(
        str(case), case, times.medians(), {name: times.best(name)[0] for name in ways}, missing=missing
    )  # fmt: skip


class DiffersError(ArithmeticError):
    """A contender that computes something else is not a contender."""


def _check(ours: Ways, theirs: Mapping[str, Any], case: Case) -> None:
    (call,) = ours.values()
    expected = _some(call(), case)
    for way, other in theirs.items():
        error = float(np.max(np.abs(_some(other(), case) - expected) / (1 + np.abs(expected)), initial=0.0))
        if not error <= _TOLERANCE[case.dtype]:
            raise DiffersError(f"{way} differs from normcore by {error:.3g}; compare them first")


def _some(result: Any, case: Case) -> Array:
    """Values of the first result, all over the array, in float64."""
    first = result[0] if isinstance(result, (tuple, list)) else result
    if case.dtype == "bfloat16" and hasattr(first, "float"):  # a tensor: NumPy has no bfloat16 of its own
        first = first.float()
    flat = np.asarray(first).reshape(-1)
    return flat[:: 1 + flat.size // _LOOKED_AT].astype(np.float64)
