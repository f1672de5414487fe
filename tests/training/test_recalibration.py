"""recalibrate: the statistics of all rows, at every depth, whatever the batches."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers import data, trainer

import normcore as nc
from normcore.nn import (
    MLP,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Dropout,
    Flatten,
    LayerNorm,
    Linear,
    Module,
    ReLU,
    Sequential,
)


def inputs_of(model, X, layer):
    """What reaches a layer in evaluation mode, written without hooks: for a Sequential of plain layers."""
    model.eval()
    for each in model:
        if each is layer:
            return X
        X = each(X)
    raise AssertionError


@given(st.integers(2, 60), st.integers(1, 70), st.floats(-1e3, 1e3))
def test_is_exact_for_any_batches(rows, batch_size, offset):
    X = np.random.default_rng(rows).normal(size=(rows, 3)) + offset
    model = BatchNorm1d(3, dtype=np.float64)
    assert nc.recalibrate(model, X, batch_size) == [""]
    np.testing.assert_allclose(model.running_mean, X.mean(0), rtol=1e-12, atol=1e-12)
    # 1e-12 of the variance, and the rounding of data at this offset
    np.testing.assert_allclose(model.running_var, X.var(0, ddof=1), rtol=1e-11, atol=1e-25 * (1 + offset**2))


@pytest.mark.parametrize(("kind", "shape"), [(BatchNorm1d, (7,)), (BatchNorm2d, (3, 5)), (BatchNorm3d, (2, 3, 2))])
def test_images(rng, kind, shape):
    X = rng.normal(size=(11, 4, *shape))
    model = kind(4, dtype=np.float64)
    nc.recalibrate(model, X, batch_size=3)
    values = np.moveaxis(X, 1, -1).reshape(-1, 4)
    np.testing.assert_allclose(model.running_mean, values.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(model.running_var, values.var(0, ddof=1), rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_every_layer_sees_what_it_will_see(batch_size):
    X, y = data(61, dtype=np.float64)
    model = MLP([4, 8, 6, 5, 3], seed=0, dtype=np.float64)
    nc.Trainer(model).fit(X, y, epochs=2, seed=0)
    parameters = [parameter.data.copy() for parameter in model.parameters()]
    assert nc.recalibrate(model, X, batch_size) == ["1", "4", "7"]
    for name in (1, 4, 7):
        x = inputs_of(model, X, model[name])
        np.testing.assert_allclose(model[name].running_mean, x.mean(0), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(model[name].running_var, x.var(0, ddof=1), rtol=1e-11)
    for parameter, was in zip(model.parameters(), parameters, strict=True):
        np.testing.assert_array_equal(parameter.data, was)
    before = model.state_dict()
    nc.recalibrate(model, X, batch_size)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, before[name], rtol=1e-13)


def test_a_float32_network_has_float64_statistics_rounded_once(rng):
    X = (rng.normal(size=(5000, 3)) + 1e4).astype(np.float32)
    model = BatchNorm1d(3)
    nc.recalibrate(model, X, batch_size=64)
    wide = X.astype(np.float64)
    np.testing.assert_array_equal(model.running_mean, wide.mean(0).astype(np.float32))
    np.testing.assert_allclose(model.running_var, wide.var(0, ddof=1), rtol=2**-23)


def test_what_else_there_is_stays(rng):
    X = rng.normal(size=(40, 4)).astype(np.float32)
    model = Sequential(
        BatchNorm1d(4, track_running_stats=False), Linear(4, 4, rng=0), BatchNorm1d(4).freeze(), LayerNorm(4),
        Dropout(0.5, rng=1), BatchNorm1d(4, momentum=None), ReLU(),
    )  # fmt: skip
    model[5].eval()
    modes = [module.training for module in model.modules()]
    state = model[4].rng.bit_generator.state
    assert nc.recalibrate(model, X, batch_size=16) == ["5"]
    assert [module.training for module in model.modules()] == modes
    assert model[4].rng.bit_generator.state == state  # evaluation mode draws nothing
    assert (model[2].running_mean == 0).all()
    assert model[2].num_batches_tracked == 0
    assert model[5].num_batches_tracked == 3
    assert "forward" not in vars(model[5])


def test_the_order_is_that_of_the_forward_pass():
    class Crossed(Module):
        def __init__(self):
            self.second = BatchNorm1d(2, dtype=np.float64)
            self.first = BatchNorm1d(2, dtype=np.float64)
            self.unused = BatchNorm1d(2, dtype=np.float64)

        def forward(self, x):
            return self.second(np.square(self.first(x)))

    X = np.random.default_rng(0).normal(size=(30, 2)) * 5
    model = Crossed()
    assert nc.recalibrate(model, X) == ["first", "second"]
    reached = np.square(model.eval().first(X))
    np.testing.assert_allclose(model.second.running_mean, reached.mean(0), rtol=1e-12)
    assert (model.unused.running_mean == 0).all()


def test_makes_inference_what_training_saw():
    X, y = data(200)
    t = trainer(lr=0.05)
    t.fit(X, y, epochs=3, seed=0)  # too few steps for the moving average
    before = t.evaluate(X, y)["loss"]
    nc.recalibrate(t.model, X)
    after = t.evaluate(X, y)["loss"]
    seen = t.loss(t.model.train()(X), y)  # one batch of all rows
    assert abs(after - seen) < 0.1 * abs(before - seen)


def test_images_through_a_network(rng):
    X = rng.normal(size=(6, 2, 3, 3)).astype(np.float32)
    model = Sequential(BatchNorm2d(2), Flatten(), Linear(18, 3, rng=0), BatchNorm1d(3))
    assert nc.recalibrate(model, X, batch_size=4) == ["0", "3"]


def test_a_network_without_batch_norm():
    assert nc.recalibrate(MLP([4, 3]), data()[0]) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": MLP}, TypeError, "recalibrate: model must be a normcore.nn.Module, got the class MLP."),
        ({"X": np.ones((3, 4), int)}, TypeError, "X must be floating point, got int64"),
        ({"X": np.ones((0, 4))}, ValueError, "X has no rows; pass at least one."),
        ({"X": np.full((3, 4), np.nan)}, ValueError, "X has NaN or infinite values"),
        ({"X": np.ones((3, 5))}, ValueError, "last dimension must be in_features=4"),
        (
            {"X": np.ones((1, 4))},
            ValueError,
            "recalibrate: X gives the layer 1 one value per channel, and one",
        ),
        ({"batch_size": 0}, ValueError, "recalibrate: batch_size must be a positive int, got 0."),
    ],
)
def test_errors_change_nothing(arguments, error, message):
    model = MLP([4, 8, 3], seed=0)
    before = {name: value.tobytes() for name, value in model.state_dict().items()}
    with pytest.raises(error, match=re.escape(message)):
        nc.recalibrate(**{"model": model, "X": data()[0], **arguments})
    assert {name: value.tobytes() for name, value in model.state_dict().items()} == before
    assert model.training
    assert all("forward" not in vars(module) for module in model.modules())


def test_an_error_in_a_later_layer_changes_nothing_in_an_earlier_one():
    class Fails(Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 2:
                raise KeyboardInterrupt
            return x

    model = Sequential(BatchNorm1d(4), Fails(), BatchNorm1d(4))
    with pytest.raises(KeyboardInterrupt):
        nc.recalibrate(model, data()[0], batch_size=10)
    assert (model[0].running_mean == 0).all()
    assert model[0].num_batches_tracked == 0
