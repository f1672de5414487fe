"""Batch norm with weights of rows, against batch norm of repeated rows and against differences."""

from __future__ import annotations

import numpy as np
import pytest
from differences import check_gradients
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

from normcore.estimators._weighted_norm import WeightedBatchNorm, weighted_twin
from normcore.nn import BatchNorm1d, Linear, ReLU, Sequential


def layers(rng, features, dtype=np.float64):
    """Two layers with the same parameters, which are no ones and zeros."""
    made = [BatchNorm1d(features, dtype=dtype) for _ in range(2)]
    weight, bias = rng.uniform(0.5, 2.0, features), rng.standard_normal(features)
    for layer in made:
        layer.weight.data[...], layer.bias.data[...] = weight, bias
    return made


def weighted(layer, weights):
    made = WeightedBatchNorm(layer)
    made.rows = np.asarray(weights, np.float64)
    return made


@given(
    counts=st.lists(st.integers(0, 5), min_size=2, max_size=12).filter(lambda counts: sum(counts) > 1),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_weight_is_how_often_a_row_is_there(counts, seed, dtype):
    rng = np.random.default_rng(seed)
    counts = np.array(counts)
    x = (rng.standard_normal((len(counts), 3)) * 10 + 5).astype(dtype)
    dy = rng.standard_normal((len(counts), 3)).astype(dtype)
    repeated, layer = layers(rng, 3, dtype)
    twin = weighted(layer, counts)

    want = repeated(x.repeat(counts, 0))
    got = twin(x)
    magnitude = np.abs(want).max() + 1
    np.testing.assert_allclose(got.repeat(counts, 0), want, **tol(dtype, scale=magnitude))
    # What flows back into a row's copies is added up; the loss gives each copy the same.
    dx = repeated.backward(dy.repeat(counts, 0))
    summed = np.array([dx[start : start + n].sum(0) for start, n in zip(counts.cumsum() - counts, counts, strict=True)])
    # every copy rounds dy times rstd, which is at most 1 / sqrt(eps) = 316 and is so where x does not vary
    scale = 316 * np.abs(layer.weight.data).max() * np.abs(dy).max() * counts.max()
    np.testing.assert_allclose(twin.backward(dy * counts[:, None].astype(dtype)), summed, **tol(dtype, 60, "dx", scale))
    for one, other in ((layer.weight, repeated.weight), (layer.bias, repeated.bias)):
        np.testing.assert_allclose(one.grad, other.grad, **tol(dtype, 60, "dparam", 100.0))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        np.testing.assert_allclose(getattr(layer, name), getattr(repeated, name), rtol=1e-5, err_msg=name)


def test_gradients():
    rng = np.random.default_rng(0)
    twin = weighted(layers(rng, 4)[0], rng.uniform(0.0, 3.0, 6))
    check_gradients(twin, rng.standard_normal((6, 4)), rng.standard_normal((6, 4)))


def test_the_scale_of_weights_does_not_matter_to_what_is_normalised():
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((6, 4)), rng.uniform(0.1, 3.0, 6)
    one, other = layers(rng, 4)
    want = weighted(one, weights)(x)
    np.testing.assert_allclose(weighted(other, weights * 1e-6)(x), want, rtol=1e-12)
    # There the running variance cannot be unbiased by sum(w) - 1: the rows are counted.
    mean = np.average(x, axis=0, weights=weights)
    var = np.average((x - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(other.running_var, 0.9 + 0.1 * var * 6 / 5)


def test_a_row_alone_becomes_the_bias_and_no_statistic():
    rng = np.random.default_rng(0)
    layer = layers(rng, 4)[0]
    twin = weighted(layer, [0.0, 1.0, 0.0])
    y = twin(rng.standard_normal((3, 4)))
    np.testing.assert_allclose(y[1], layer.bias.data)
    assert int(layer.num_batches_tracked) == 0
    np.testing.assert_array_equal(layer.running_var, np.ones(4))
    dy = np.zeros((3, 4))
    dy[1] = 1.0  # the rows that do not count have no gradient
    np.testing.assert_allclose(twin.backward(dy)[1], 0.0, atol=1e-12)


def test_the_twin_shares_parameters_and_leaves_the_network_alone():
    rng = np.random.default_rng(0)
    model = Sequential(Linear(4, 3, dtype=np.float64, rng=0), layers(rng, 3)[0], ReLU())
    twin, where = weighted_twin(model, [model[1]])
    assert [p is q for p, q in zip(model.parameters(), twin.parameters(), strict=True)] == [True] * 4
    assert [type(layer) for layer in model] == [Linear, BatchNorm1d, ReLU]
    x = rng.standard_normal((8, 4))
    where[0].rows = np.ones(8)
    np.testing.assert_allclose(twin(x), model(x), rtol=1e-12, atol=1e-12)
    where[0].rows = np.arange(8.0)
    assert not np.allclose(twin(x), model(x))


def test_update_stats_false_leaves_running_statistics():
    layer = layers(np.random.default_rng(0), 4)[0]
    layer.update_stats = False
    weighted(layer, np.ones(5))(np.random.default_rng(1).standard_normal((5, 4)))
    np.testing.assert_array_equal(layer.running_mean, np.zeros(4))


def test_backward_before_forward_is_refused():
    twin = weighted(layers(np.random.default_rng(0), 4)[0], np.ones(5))
    with pytest.raises(RuntimeError, match="was called before forward"):
        twin.backward(np.ones((5, 4)))
