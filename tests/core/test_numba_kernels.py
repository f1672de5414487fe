"""The Numba backend's loops, called directly, against the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from processes import python

pytest.importorskip("numba", reason="Numba, the optional backend's compiler, is not installed")
from numba_loops import ACTIVATIONS, assert_right, data, expected, run, same

from normcore.backends import numba_kernels as nk

CHANNELS = [(64, 10, 1), (2, 1, 1), (1003, 5, 3), (33, 1050, 1), (32, 40, 49), (4, 3, 300), (5, 33, 129), (2, 2, 66001)]
ROWS = [  # shape, number of parameters
    ((64, 10, 1), 10), ((41, 300, 1), 300), ((37, 4, 9), 8), ((9, 1, 49), 3), ((33, 5, 64), 10), ((2, 3, 50001), 6),
    ((3, 2000, 40), 2000), ((11, 1, 20011), 4), ((40, 70, 1), 140),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", CHANNELS)
def test_channels(rng, shape, training, dtype):
    for activation in ACTIVATIONS:
        x, dy, w, b = data(rng, shape, dtype, shape[1])
        stats = (None, None) if training else (rng.standard_normal(shape[1]), rng.random(shape[1]) + 0.5)
        got = run("channels", x, dy, w, b, training, activation, 1, False, *stats)
        known = (None, None) if training else tuple(s[:, np.newaxis] for s in stats)
        parameter = np.arange(shape[1])[:, np.newaxis]
        assert_right(got, *expected((0, 2), parameter, x, dy, w, b, *known, 1.0, training, activation), activation)
        for threads in (2, 3):
            assert same(got, run("channels", x, dy, w, b, training, activation, threads, False, *stats))
        assert same(got, run("channels", x, dy, w, b, training, activation, 2, True, *stats))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape, params", ROWS)
def test_rows(rng, shape, params, centred, dtype):
    for activation in ACTIVATIONS:
        x, dy, w, b = data(rng, shape, dtype, params)
        got = run("rows", x, dy, w, b, centred, activation)
        parameter = (np.arange(shape[0] * shape[1]) % params).reshape(shape[0], shape[1], 1)
        want = expected((1, 2), parameter, x, dy, w, b, None, None, float(centred), True, activation)
        assert_right(got, *want, activation)
        for threads in (2, 3):
            assert same(got, run("rows", x, dy, w, b, centred, activation, threads))
        assert same(got, run("rows", x, dy, w, b, centred, activation, 2, True))


@pytest.mark.parametrize("shape", CHANNELS[2:])
def test_statistics_alone_are_those_of_forward(rng, shape):
    x, dy, w, b = data(rng, shape, np.float32, shape[1])
    got = run("channels", x, dy, w, b, True, None)
    for threads in (1, 2):
        mean, var = np.empty(shape[1]), np.empty(shape[1])
        nk.channels_stats(x, mean, var, threads)
        assert same((mean, var), got[1:3])


@pytest.mark.parametrize("offset", [1e6, -3e4])
@pytest.mark.parametrize("shape", CHANNELS[2:])
def test_an_offset_costs_no_digits(rng, shape, offset):
    x, dy, w, b = data(rng, shape, np.float32, shape[1], offset)
    parameter = np.arange(shape[1])[:, np.newaxis]
    want = expected((0, 2), parameter, x, dy, w, b, None, None, 1.0, True, None)
    assert_right(run("channels", x, dy, w, b, True, None), *want, None)
    x = x.reshape(-1, 1, x.shape[2]) if x.shape[2] > 1 else x
    parameter = np.arange(x.shape[1])[:, np.newaxis]
    w, b = w[: x.shape[1]], b[: x.shape[1]]
    want = expected((1, 2), parameter, x, dy.reshape(x.shape), w, b, None, None, 1.0, True, None)
    assert_right(run("rows", x, dy.reshape(x.shape), w, b, True, None), *want, None)


@pytest.mark.parametrize("value", [1e-30, 0.1, 1e6, 1e30, 3e38])
@pytest.mark.parametrize("shape", CHANNELS[2:])
def test_a_constant_group_gives_its_bias(rng, shape, value):
    _, dy, w, b = data(rng, shape, np.float32, shape[1])
    x = np.full(shape, value, np.float32)
    y, mean, var, *_ = run("channels", x, dy, w, b, True, None)
    assert not var.any()
    assert (mean == np.float32(value)).all()
    assert (y == b.astype(np.float32)[:, np.newaxis]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("walk, shape", [("channels", s) for s in CHANNELS[2:]] + [("rows", s) for s, _ in ROWS])
def test_nan_and_inf_stay_in_their_group(rng, walk, shape, value):
    x, dy, w, b = data(rng, shape, np.float32, shape[1])
    clean = run(walk, x, dy, w, b, True, None)
    group = (slice(None), 1) if walk == "channels" else (1,)
    x[(0, 1, 0) if walk == "channels" else (1, 0, 0)] = value
    dirty = run(walk, x, dy, w, b, True, None)
    assert np.isnan(dirty[0][group]).all()
    others = np.ones(shape, bool)
    others[group] = False
    for i in (0, 4):
        assert np.array_equal(dirty[i][others], clean[i][others])


def test_values_near_the_largest(rng):
    x, dy, w, b = data(rng, (33, 20, 200), np.float32, 20)
    x = (x * 1e30).astype(np.float32)
    want = expected((0, 2), np.arange(20)[:, np.newaxis], x, dy, w, b, None, None, 1.0, True, None)
    got = run("channels", x, dy, w, b, True, None)
    np.testing.assert_array_less(np.abs(got[0] - want[0][0]), 4 * np.finfo(np.float32).eps * want[1])
    np.testing.assert_allclose(got[4], want[0][4], rtol=1e-4, atol=1e-36)


def test_what_is_declined_and_why():
    for walk in ("channels", "rows"):
        assert nk.declines(walk, np.dtype(np.float32)) is None
        assert nk.declines(walk, np.dtype(np.float64)) is None
        assert "float16" in (nk.declines(walk, np.dtype(np.float16)) or "")
    bfloat16 = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    assert "bfloat16" in (nk.declines("rows", np.dtype(bfloat16)) or "")


def test_the_loops_are_plain_python():
    """Without the compiler they give the same bits: nothing is contracted or reassociated."""
    code = """
import numpy as np, numba
from normcore.backends import numba_kernels as nk
rng = np.random.default_rng(0)
for S, K in ((1, 3), (130, 2), (20, 2)):
    x, dy = (rng.standard_normal((4, K, S)).astype("f4") for _ in "xy")
    for act in (0, 1, 3, 5):
        for walk, G in (("channels", K), ("rows", 4)):
            w, b = np.arange(1.0, K + 1), np.ones(K)
            m, v, r, dw, db, y, dx = (*(np.ones(G) for _ in "mvr"), *(np.ones(K) for _ in "wb"), x.copy(), x.copy())
            getattr(nk, walk + "_forward")(x, w, b, m, v, r, y, 1e-5, True, act, 2)
            getattr(nk, walk + "_backward")(dy, x, w, b, m, r, dx, dw, db, True, act, 2)
            print(*(a.tobytes().hex() for a in (m, v, r, y, dx, dw, db)))
"""
    plain = python(code, NUMBA_DISABLE_JIT="1")
    assert len(plain.split()) == 3 * 4 * 2 * 7
    assert plain == python(code)
