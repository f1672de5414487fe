"""Every tolerance of the tests, in one place, with its reason.

``eps`` is the distance from 1 to the next number of the dtype; rounding to nearest is off by at most half of it.

stats    Mean and rstd are float64 whatever the input: a sum of n terms in some order is off by at most n * eps relative
         to the sum of magnitudes; pairs and lanes keep it far below that, so 16 eps + n eps / 64 is generous.
y        Computed in float64 and rounded once: half an ulp, plus what another order of summation moves before rounding.
         DESIGN.md allows 4 ulp of |xhat * weight| + |bias|.
dx       As y, but a difference of three terms that may cancel: the error is relative to the largest of them.
dparam   A sum over n products, accumulated in float64 and rounded to the parameter's dtype.
activation  A polynomial of some ten roundings and a division or two: measured 2.4 ulp in float64, 3 in float32, and
         half an ulp more for the reference rounded to the dtype.
product  A sum of n products in the arrays' own dtype: off by at most (n + 1) * eps / 2 of the magnitudes' sum; parts
         keep it far below that. One more eps for what it is added to.
trajectory  Tens of optimiser steps compared with another implementation that computes in the parameter's dtype: each
         step adds its own rounding and the next amplifies it.
long trajectory  Hundreds of steps: the same, with more steps to amplify it; 1e-9 in float64 is the contract.
fd       Fourth-order central differences in float64: truncation h^4 against cancellation eps / h, both near 1e-11 with
         h = 1e-3, amplified by derivatives of order five.
"""

from __future__ import annotations

import numpy as np

# by name, because NumPy does not know bfloat16: the distance from 1 to the next number, the smallest normal number
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
TINY = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}

_FACTORS = {"y": 4, "dx": 16, "dparam": 8}  # in units of eps
_TRAJECTORY = {"float32": 2e-4, "float64": 1e-10}
_LONG_TRAJECTORY = {"float32": 1e-3, "float64": 1e-9}


def tol(dtype, n=1, kind="y", scale=1.0) -> dict[str, float]:
    """`rtol` and `atol` for np.testing.assert_allclose.

    `n` is the number of values behind a sum, `scale` the magnitude of what may cancel.
    """
    dtype = np.dtype(dtype)
    if kind == "fd":
        return {"rtol": 1e-7, "atol": 1e-8 * scale}
    if kind == "trajectory":
        return {"rtol": _TRAJECTORY[dtype.name], "atol": _TRAJECTORY[dtype.name] * scale}
    if kind == "long trajectory":
        return {"rtol": _LONG_TRAJECTORY[dtype.name], "atol": _LONG_TRAJECTORY[dtype.name] * scale}
    if kind == "activation":
        return {"ulps": 4.0}
    if kind == "product":
        relative = EPS[dtype.name] * (n / 2 + 2)
        return {"rtol": relative, "atol": relative * scale}
    if kind == "stats":
        relative = np.finfo(np.float64).eps * (16 + n / 64)
        return {"rtol": relative, "atol": relative * scale}
    relative = EPS[dtype.name] * _FACTORS[kind]
    # what the order of a float64 sum of n terms may move, before the result is rounded
    relative += np.finfo(np.float64).eps * n
    return {"rtol": relative, "atol": relative * scale}


def ulps(got, want, magnitude) -> float:
    """The largest difference, in units in the last place of `magnitude` in got's dtype."""
    name = got.dtype.name
    exponent = np.frexp(np.maximum(np.abs(np.asarray(magnitude, np.float64)), TINY[name]))[1] - 1
    spacing = np.ldexp(EPS[name], exponent)
    return float((np.abs(got.astype(np.float64) - want) / spacing).max(initial=0.0))
