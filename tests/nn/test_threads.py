"""A whole training run has the same bits for any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc
from normcore import _threads, nn, optim
from normcore.nn import _norm
from normcore.optim import _compiled


def trained(build, shape, num_threads):
    """State after some steps of Adam and an evaluation, everything seeded."""
    rng = np.random.default_rng(0)
    model = build()
    criterion, optimizer = nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01)
    with nc.threads(num_threads):
        for _ in range(4):
            x = rng.normal(size=shape).astype(np.float32) * 3 + 1
            criterion(model(x), rng.integers(5, size=len(x)))
            model.backward(criterion.backward())
            optimizer.step()
        y = model.eval()(x)
    return {**model.state_dict(), "output": y}


def images():
    return nn.Sequential(
        nn.BatchNorm2d(6), nn.GELU(), nn.GroupNorm(2, 6), nn.SiLU(), nn.InstanceNorm2d(6, affine=True), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 16 * 16, 5, rng=0),
    )  # fmt: skip


CASES = {
    **{
        f"mlp {norm} {activation}": (
            lambda norm=norm, activation=activation: nn.MLP([20, 512, 5], activation, norm=norm, seed=1, dropout=0.2),
            (512, 20),
        )
        for norm, activation in (("batch", "relu"), ("layer", "gelu"), ("rms", "tanh"), ("group", "silu"))
    },
    "images": (images, (128, 6, 16, 16)),
}


@pytest.mark.parametrize(("build", "shape"), CASES.values(), ids=CASES)
def test_bits_of_a_training_run(build, shape, monkeypatch):
    monkeypatch.setattr(_norm, "THREADED_BYTES", 0)
    monkeypatch.setattr(_compiled, "_PARALLEL_BYTES", 0)
    hidden = 512 * 512 * 4 if len(shape) == 2 else np.prod(shape) * 4
    assert hidden >= _threads.PARALLEL_BYTES  # or there would be nothing to see
    expected = trained(build, shape, 1)
    for num_threads in (2, 3, 5):
        for name, value in trained(build, shape, num_threads).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=f"{name}, {num_threads} threads")


@pytest.mark.parametrize(("name", "want"), [("cython", 2), ("numba", 1)])
def test_layers_use_threads_where_those_are_the_products_own(name, want, monkeypatch):
    class Watched(nn.LayerNorm):
        def run(self, x, activation):
            seen.append(nc.get_num_threads())
            return super().run(x, activation)

    if name == "numba":
        pytest.importorskip("numba", reason="Numba is not installed")
    seen = []
    monkeypatch.setattr(_norm, "THREADED_BYTES", 0)  # as on a CPU that has compiled products
    layer, x = Watched(100), np.ones((1000, 100), np.float32)
    with nc.threads(2), nc.use_backend(name):
        layer(x)
    assert seen == [want]


@pytest.mark.parametrize(("rows", "want"), [(100, 2), (1000, 1), (5000, 2)])
def test_layers_of_a_medium_size_leave_the_cores_to_blas(rows, want, monkeypatch):
    class Watched(nn.LayerNorm):
        def run(self, x, activation):
            seen.append(nc.get_num_threads())
            return super().run(x, activation)

        def _function(self, dy, ctx):
            seen.append(nc.get_num_threads())
            return nc.layer_norm_backward(dy, ctx)

    seen = []
    monkeypatch.setattr(_norm, "THREADED_BYTES", 1_000_000)
    layer, x = Watched(100), np.ones((rows, 100), np.float32)  # below 200 KB a call is serial by itself
    with nc.threads(2):
        layer(x)
        layer.backward(x)
        assert nc.get_num_threads() == 2
    assert seen == [want, want]  # forward and backward
