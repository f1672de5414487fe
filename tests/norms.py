"""Every norm behind one face, so that a test can be written once for all of them."""

from __future__ import annotations

import importlib.util
import math
from typing import NamedTuple

import numpy as np
import oracle
import pytest
from tolerances import EPS

import normcore as nc
from normcore._activation import ACTIVATIONS

if importlib.util.find_spec("ml_dtypes"):
    import ml_dtypes

    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
    bfloat16 = pytest.param(BFLOAT16, id="bfloat16")
else:
    BFLOAT16 = None
    bfloat16 = pytest.param(
        "float16", id="bfloat16", marks=pytest.mark.skip(reason="ml_dtypes, whose bfloat16 this is, is not installed")
    )

EVERY_DTYPE = pytest.mark.parametrize("dtype", ["float32", "float64", "float16", bfloat16])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
EVERY_ACTIVATION = pytest.mark.parametrize("activation", ACTIVATIONS)


class Norm(NamedTuple):
    """A norm, the shape of an x, and what the norm is told besides: normalized_shape, num_groups or nothing."""

    name: str
    shape: tuple[int, ...]
    told: tuple = ()

    @property
    def walk(self):
        return "channels" if self.name == "batch" else "rows"

    @property
    def centred(self):
        return self.name != "rms"

    @property
    def has_bias(self):
        return self.name != "rms"

    @property
    def parameter_shape(self):
        if self.name not in ("layer", "rms"):
            return self.shape[1:2]
        return (self.told[0],) if isinstance(self.told[0], int) else tuple(self.told[0])

    @property
    def group_size(self):
        return math.prod(self.shape) // max(1, self.groups.max(initial=0) + 1)

    @property
    def groups(self):
        """Which statistics group each value of x is in, by the definition of the norm."""
        index = np.indices(self.shape)
        if self.name == "batch":
            return index[1]
        if self.name in ("layer", "rms"):
            lead = len(self.shape) - len(self.parameter_shape)
            return np.ravel_multi_index(tuple(index[:lead]), self.shape[:lead]) if lead else np.zeros(self.shape, int)
        count = self.told[0] if self.name == "group" else self.shape[1]
        return index[0] * count + index[1] // (self.shape[1] // count)

    @property
    def parameters(self):
        """Which weight and bias each value of x has."""
        index = np.indices(self.shape)
        if self.name not in ("layer", "rms"):
            return index[1]
        lead = len(self.shape) - len(self.parameter_shape)
        return np.ravel_multi_index(tuple(index[lead:]), self.shape[lead:])

    def arrays(self, rng, dtype="float64", offset=1.0):
        """x, dy, weight, bias of this norm."""
        x = (2 * rng.standard_normal(self.shape) + offset).astype(dtype)
        dy = rng.standard_normal(self.shape).astype(dtype)
        weight = rng.uniform(0.5, 2, self.parameter_shape).astype(dtype)
        bias = rng.standard_normal(self.parameter_shape).astype(dtype) if self.has_bias else None
        return x, dy, weight, bias

    def _arguments(self, x, weight, bias):
        return (x, *self.told, weight, bias) if self.has_bias else (x, *self.told, weight)

    def __call__(self, x, weight=None, bias=None, **options):
        if self.name in ("batch", "instance"):
            return getattr(nc, f"{self.name}_norm")(
                x, None, None, weight, bias, **({"training": True} if self.name == "batch" else {}), **options
            )
        return getattr(nc, f"{self.name}_norm")(*self._arguments(x, weight, bias), **options)

    def forward(self, x, weight=None, bias=None, **options):
        return getattr(nc, f"{self.name}_norm_forward")(*self._arguments(x, weight, bias), **options)

    def backward(self, dy, ctx, **options):
        return getattr(nc, f"{self.name}_norm_backward")(dy, ctx, **options)

    def default_eps(self, x):
        return EPS[x.dtype.name] if self.name == "rms" else 1e-5

    def expected(self, x, weight=None, bias=None, eps=None, activation=None):
        eps = self.default_eps(x) if eps is None else eps
        return oracle.norm(
            x, self.groups, self.parameters, weight, bias, eps=eps, centred=self.centred, activation=activation
        )

    def expected_backward(self, dy, x, weight=None, bias=None, eps=None, activation=None):
        eps = self.default_eps(x) if eps is None else eps
        dx, dweight, dbias = oracle.norm_backward(
            dy, x, self.groups, self.parameters, weight, bias, eps=eps, centred=self.centred, activation=activation
        )
        shape = self.parameter_shape
        return dx, dweight.reshape(shape), dbias.reshape(shape)

    def __str__(self):
        return "-".join([self.name, "x".join(map(str, self.shape)), *map(str, self.told)])


def every_norm(*norms):
    return pytest.mark.parametrize("norm", norms, ids=str)


SMALL = (
    Norm("batch", (6, 4, 5)),
    Norm("layer", (3, 4, 5), (5,)),
    Norm("layer", (3, 4, 5), ((4, 5),)),
    Norm("rms", (3, 4, 5), (5,)),
    Norm("rms", (7, 6), ((6,),)),
    Norm("group", (3, 6, 4, 2), (3,)),
    Norm("group", (5, 6), (2,)),
    Norm("instance", (2, 3, 4, 2)),
)
EVERY_NORM = every_norm(*SMALL)
EVERY_ROW_NORM = every_norm(*SMALL[1:])
