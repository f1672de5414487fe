"""The same bits for any number of threads, any alignment and on every run, for every norm and activation."""

from __future__ import annotations

import numpy as np
import pytest
from norms import EVERY_DTYPE, EVERY_NORM, Norm, every_norm

import normcore as nc

pytestmark = pytest.mark.usefixtures("backend")


def everything(norm, x, dy, weight, bias, activation):
    y, ctx = norm.forward(x, weight, bias, activation=activation)
    return [a for a in (y, ctx.mean, ctx.rstd, *norm.backward(dy, ctx)) if a is not None]


@EVERY_DTYPE
@pytest.mark.parametrize("activation", [None, "gelu_tanh"])
@every_norm(
    Norm("batch", (40, 16, 20, 21)),
    Norm("layer", (1000, 301), (301,)),
    Norm("layer", (2, 150_001), (150_001,)),
    Norm("rms", (70, 5000), (5000,)),
    Norm("group", (9, 32, 31, 33), (8,)),
    Norm("instance", (9, 31, 33, 35)),
)
def test_the_same_bits_for_any_number_of_threads(rng, norm, activation, dtype):
    arrays = norm.arrays(rng, dtype, offset=5.0)
    results = []
    for n in (1, 2, 3, 7):
        with nc.threads(n):
            results.append(everything(norm, *arrays, activation))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@EVERY_DTYPE
@EVERY_NORM
def test_the_same_bits_for_any_alignment(rng, norm, dtype):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    expected = everything(norm, x, dy, weight, bias, None)
    for offset in range(0, 35, 3):
        moved = []
        for values in (x, dy):
            buffer = np.empty(values.size + 40, values.dtype)
            at = buffer[offset : offset + values.size].reshape(values.shape)
            at[...] = values
            moved.append(at)
        for a, b in zip(everything(norm, *moved, weight, bias, None), expected, strict=True):
            np.testing.assert_array_equal(a, b)
