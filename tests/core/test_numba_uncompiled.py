"""The Numba backend's loops as plain Python: every line of them, on arrays cut as large ones are.

Compiled code is invisible to a debugger and to coverage, and checks no index. So this file runs itself once more with
``NUMBA_DISABLE_JIT=1``, and there sets the sizes at which arrays are cut so low that a few hundred values take every
way.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba, the optional backend's compiler, is not installed")
import numba
from numba_loops import ACTIVATIONS, EPS, assert_right, data, expected, run, same

from normcore.backends import numba_kernels as nk
from normcore.backends.numba_loops import channels, cut, matrices, rows, runs
from reliability.patience import patience

compiled = not numba.config.DISABLE_JIT
uncompiled = pytest.mark.skipif(compiled, reason="runs in the process that test_all_of_this_file_uncompiled starts")

CHANNELS = [  # shape, which loops take it
    ((3, 2, 6), "matrices, pieces"), ((2, 40, 1), "matrices, blocks"), ((9, 5, 3), "matrices, pieces"),
    ((16, 60, 1), "matrices, tiles"),
    ((2, 3, 70), "channels, blocks"), ((3, 2, 150), "channels, pieces"), ((1, 20, 72), "channels, many blocks"),
]  # fmt: skip
ROWS = [  # shape, number of parameters
    ((11, 5, 1), 5), ((3, 70, 1), 70), ((4, 3, 4), 6), ((5, 2, 20), 4), ((2, 3, 90), 6), ((3, 2, 300), 4),
]  # fmt: skip


def test_all_of_this_file_uncompiled():
    if not compiled:
        pytest.skip("this is that process")
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience(240), check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " 1 skipped" in done.stdout  # this one alone


@pytest.fixture(autouse=True)
def _small_cuts(monkeypatch):
    """What is cut at thousands of values is cut at tens."""
    sizes = {"SHORT_RUN": 68, "BLOCK_BYTES": 2048, "L2_BYTES": 1200, "WAVE_BYTES": 2500, "PIECE": 128}
    for name, size in sizes.items():
        monkeypatch.setattr(cut, name, size)
    monkeypatch.setattr(nk, "NARROW", 24)
    monkeypatch.setattr(matrices, "TILE", 48)
    for module in (runs, channels, rows):
        monkeypatch.setattr(module, "CHUNK", 32)


def of_channels(x, dy, w, b, training, activation=None, **stats):
    known = tuple(s[:, np.newaxis] for s in stats.values()) if stats else (None, None)
    parameter = np.arange(x.shape[1])[:, np.newaxis]
    return expected((0, 2), parameter, x, dy, w, b, *known, 1.0, training, activation)


def of_rows(x, dy, w, b, centred, activation=None):
    parameter = (np.arange(x.shape[0] * x.shape[1]) % w.size).reshape(x.shape[0], x.shape[1], 1)
    return expected((1, 2), parameter, x, dy, w, b, None, None, float(centred), True, activation)


def test_a_folded_row_is_one_tile():
    """Its last one is shorter, which loops over tiles do not expect."""
    assert matrices.TILE >= 2 * nk.NARROW


@uncompiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [shape for shape, _ in CHANNELS], ids=[way for _, way in CHANNELS])
def test_channels(rng, shape, dtype):
    x, dy, w, b = data(rng, shape, dtype, shape[1])
    got = run("channels", x, dy, w, b, True, None)
    assert_right(got, *of_channels(x, dy, w, b, True), None)
    assert same(got, run("channels", x, dy, w, b, True, None, in_place=True))
    mean, var = np.empty(shape[1]), np.empty(shape[1])
    nk.channels_stats(x, mean, var, 1)
    assert same((mean, var), got[1:3])
    stats = {"mean": rng.standard_normal(shape[1]), "var": rng.random(shape[1]) + 0.5}
    got = run("channels", x, dy, w, b, False, "relu", **stats)
    assert_right(got, *of_channels(x, dy, w, b, False, "relu", **stats), "relu")


@uncompiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape, params", ROWS)
def test_rows(rng, shape, params, centred, dtype):
    x, dy, w, b = data(rng, shape, dtype, params)
    got = run("rows", x, dy, w, b, centred, None)
    assert_right(got, *of_rows(x, dy, w, b, centred), None)
    assert same(got, run("rows", x, dy, w, b, centred, None, in_place=True))
    got = run("rows", x, dy, w, b, centred, "relu")
    assert_right(got, *of_rows(x, dy, w, b, centred, "relu"), "relu")


@uncompiled
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations(rng, activation, dtype):
    for shape in ((3, 2, 6), (1, 2, 70)):
        x, dy, w, b = data(rng, shape, dtype, shape[1])
        assert_right(
            run("channels", x, dy, w, b, True, activation), *of_channels(x, dy, w, b, True, activation), activation
        )
    x, dy, w, b = data(rng, (3, 2, 17), dtype, 2)
    assert_right(run("rows", x, dy, w, b, True, activation), *of_rows(x, dy, w, b, True, activation), activation)


@uncompiled
@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize("shape", [shape for shape, _ in CHANNELS], ids=[way for _, way in CHANNELS])
def test_channels_that_float32_cannot_hold(rng, shape, activation):
    """Far from 0, and with weights whose products float32 loses; the others keep their bits where they are apart."""
    x, dy, w, b = data(rng, shape, np.float32, shape[1], offset=1e4)
    w[0], w[1] = 1e-25, 1e-25
    with np.errstate(under="ignore"):
        got = run("channels", x, dy, w, b, True, activation)
    want, size_y, size_dx, sums = of_channels(x, dy, w, b, True, activation)
    assert_right(got, want, size_y, size_dx, sums, activation)


@uncompiled
@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize("shape, params", ROWS)
def test_rows_that_float32_cannot_hold(rng, shape, params, activation):
    x, dy, w, b = data(rng, shape, np.float32, params, offset=1e4)
    w[0] = 1e-25
    with np.errstate(under="ignore"):
        got = run("rows", x, dy, w, b, True, activation)
    assert_right(got, *of_rows(x, dy, w, b, True, activation), activation)
    x[0] *= np.float32(1e-14)  # a row whose rstd is large
    with np.errstate(under="ignore"):
        got = run("rows", x, dy, w, b, True, activation)
    np.testing.assert_allclose(got[3][0], 1 / np.sqrt(EPS), rtol=1e-6)


@uncompiled
@pytest.mark.parametrize("walk, shape", [("channels", s) for s, _ in CHANNELS] + [("rows", s) for s, _ in ROWS])
def test_a_gradient_beyond_float32_is_summed_again(rng, walk, shape):
    """Infinities must not meet when the mean is taken out of a sum; other groups are what they were."""
    x, dy, w, b = data(rng, shape, np.float32, shape[1])
    clean = run(walk, x, dy, w, b, True, None)
    x[(0, 1, 0) if walk == "channels" else (1, 0, 0)] = np.inf
    group = (slice(None), 1) if walk == "channels" else (1,)
    with np.errstate(all="ignore"):
        dirty = run(walk, x, dy, w, b, True, None)
    assert np.isnan(dirty[0][group]).all()
    others = np.ones(shape, bool)
    others[group] = False
    assert np.array_equal(dirty[0][others], clean[0][others])
    dy[0, 1, 0] = np.inf
    x, *_ = data(rng, shape, np.float32, shape[1], offset=1.0)
    with np.errstate(all="ignore"):
        dweight = run(walk, x, dy, w, b, True, None)[5]
    assert np.isinf(dweight[1 % w.size])
    assert np.isfinite(np.delete(dweight, 1 % w.size)).all()
