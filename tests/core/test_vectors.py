"""Each kind of vectors that this CPU has gives the bits of the plainest one, for every norm, dtype and activation.

The order of summation is the same for all, nothing is contracted, and 16-bit floats are converted to nearest even by
the CPU as by the code for CPUs without such an instruction.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import normcore as nc

kernels = pytest.importorskip("normcore.backends.cython_kernels", reason="the compiled kernels are not built here")

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SHAPES = [(64, 10), (33, 3), (5, 300), (7, 48, 7, 7), (3, 5, 33, 47), (2, 3, 20_011), (4, 16, 4)]


@pytest.fixture
def vectors():
    """Choose a kind of vectors; afterwards the widest are in use again."""
    before = kernels.vectors()
    yield kernels.use_vectors
    kernels.use_vectors(before)


def everything(x, dy, activation):
    """Every result of every norm, as bytes."""
    channels, trailing = x.shape[1], x.shape[-1]
    weight, bias = np.linspace(-2, 2, 2 * channels).reshape(2, -1)
    row_weight, row_bias = np.linspace(-2, 2, 2 * trailing).reshape(2, -1)
    groups = channels // 2 if channels % 2 == 0 else 1
    calls = [
        (nc.batch_norm_forward(x, weight, bias, activation=activation), nc.batch_norm_backward),
        (nc.layer_norm_forward(x, trailing, row_weight, row_bias, activation=activation), nc.layer_norm_backward),
        (nc.rms_norm_forward(x, trailing, row_weight, activation=activation), nc.rms_norm_backward),
        (nc.group_norm_forward(x, groups, weight, bias, activation=activation), nc.group_norm_backward),
    ]
    if x.ndim > 2:
        calls.append((nc.instance_norm_forward(x, weight, bias, activation=activation), nc.instance_norm_backward))
    results = []
    for (y, ctx), backward in calls:
        results += [y, ctx.mean, ctx.rstd, *(a for a in backward(dy, ctx) if a is not None)]
    return [a.tobytes() for a in results]


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bits_do_not_depend_on_the_vectors(rng, vectors, shape, dtype, activation):
    x, dy = ((rng.standard_normal(shape) + offset).astype(dtype) for offset in (3, 0))
    vectors("baseline")
    expected = everything(x, dy, activation)
    for name in kernels.VECTORS[1:]:
        vectors(name)
        assert everything(x, dy, activation) == expected, name


@pytest.mark.parametrize("name", kernels.VECTORS)
def test_every_16_bit_float_survives_a_round_trip(vectors, name):
    """Inference with mean 0, variance 1 and eps near 0 is a copy: all 65,536 patterns, NaN apart."""
    vectors(name)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = np.arange(65_536, dtype=np.uint16).view(dtype).reshape(-1, 2)
        y = nc.batch_norm(x, np.zeros(2), np.ones(2), eps=1e-300)
        finite = np.isfinite(x.astype(np.float32))
        assert (y[finite].view(np.uint16) == x[finite].view(np.uint16)).sum() >= finite.sum() - 1  # -0 + 0 is 0
        assert np.isnan(y[np.isnan(x.astype(np.float32))].astype(np.float32)).all()


def test_an_unknown_kind_is_refused(vectors):
    with pytest.raises(ValueError, match=r"name must be one of baseline.*, the kinds that this CPU has, got 'mmx'"):
        vectors("mmx")
