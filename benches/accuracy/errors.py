"""How wrong a result is, in the units that the contract speaks of."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from benches.accuracy.contenders import Outputs
from benches.accuracy.data import eps_of, tiny_of
from benches.accuracy.truth import BLOCK, Truth
from benches.cases import Array


def measure(truth: Truth, found: Mapping[str, Outputs], dtype: str) -> dict[str, dict[str, float]]:
    """The largest error of each kind, for each contender; NaN counts as infinite."""
    errors = {name: _statistics_and_parameters(truth, outputs, dtype) for name, outputs in found.items()}
    shape, constant = truth.seen.shape, (truth.var == 0) & truth.centred
    for block in truth.blocks():
        here = np.broadcast_to(constant, shape)[block.at] if constant.any() else None
        in_ulp, in_eps = ulp(block.y_terms, dtype), _eps_of_terms(block.dx_terms, dtype)
        want_y, want_dx = _as_wide_as_needed(block.y, dtype), _as_wide_as_needed(block.dx, dtype)
        for name, outputs in found.items():
            y = _error(outputs.y.reshape(shape)[block.at], want_y) / in_ulp
            _keep(errors[name], "output", y)
            _keep(errors[name], "dx", _error(outputs.dx.reshape(shape)[block.at], want_dx) / in_eps)
            if here is not None and here.any():
                _keep(errors[name], "constant", y[here])
    return errors


def ulp(magnitude: Array, dtype: str) -> Array:
    """A unit in the last place of numbers of this magnitude."""
    exponent = np.frexp(np.maximum(magnitude.astype(np.float64), tiny_of(dtype)))[1] - 1
    units: Array = np.ldexp(eps_of(dtype), exponent)
    return units


def _eps_of_terms(terms: Array, dtype: str) -> Array:
    units: Array = eps_of(dtype) * np.maximum(terms.astype(np.float64), tiny_of(dtype))
    return units


def _statistics_and_parameters(truth: Truth, found: Outputs, dtype: str) -> dict[str, float]:
    errors: dict[str, float] = {}
    if found.mean is not None:
        _keep(errors, "mean", _relative(_error(found.mean, truth.mean), truth.largest))
    _keep(errors, "variance", _relative(_error(found.var, truth.var), truth.var))
    for kind, got, want, terms in (
        ("dweight", found.dweight, truth.dweight, truth.dweight_terms),
        ("dbias", found.dbias, truth.dbias, truth.dbias_terms),
    ):
        if got is None:
            continue
        flat = got.reshape(-1), want.reshape(-1), terms.reshape(-1)
        for start in range(0, want.size, BLOCK):
            some, right, added = (v[start : start + BLOCK] for v in flat)
            _keep(errors, kind, _error(some, _as_wide_as_needed(right, dtype)) / _eps_of_terms(added, dtype))
    return errors


def _as_wide_as_needed(want: Array, dtype: str) -> Array:
    """float64 is wide enough to judge the narrower dtypes by, and faster."""
    return want if dtype == "float64" else want.astype(np.float64)


def _error(got: Array, want: Array) -> Array:
    error: Array = np.abs(got.astype(want.dtype).reshape(want.shape) - want).astype(np.float64)
    return error


def _relative(error: Array, unit: Array) -> Array:
    """error / unit, where no error of nothing is none and an error of nothing is infinite."""
    with np.errstate(all="ignore"):
        return np.where(error == 0, 0, error / unit)


def _keep(errors: dict[str, float], kind: str, found: Array) -> None:
    largest = float(found.max(initial=0.0))
    errors[kind] = max(errors.get(kind, 0.0), math.inf if math.isnan(largest) else largest)
