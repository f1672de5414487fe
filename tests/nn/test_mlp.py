"""MLP: what it builds, its gradients as a whole, and its errors."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from differences import check_gradients
from tolerances import tol

import normcore as nc
from normcore.nn import (
    GELU,
    MLP,
    BatchNorm1d,
    CrossEntropyLoss,
    Dropout,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    Linear,
    MSELoss,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Tanh,
)


def test_layers():
    model = MLP([4, 8, 6, 3])
    assert [type(layer) for layer in model] == [Linear, BatchNorm1d, ReLU] * 2 + [Linear]
    assert [(p.shape) for p in model.parameters()] == [(8, 4), (8,), (8,), (8,), (6, 8), (6,), (6,), (6,), (3, 6), (3,)]
    assert nc.MLP is MLP
    assert repr(model).startswith(
        "MLP(\n  (0): Linear(in_features=4, out_features=8, bias=True)\n  (1): BatchNorm1d(8, "
    )


def test_options():
    model = MLP([4, 8, 6, 3], "tanh", norm=[None, "batch"], dtype=np.float64, eps=1e-3, momentum=None)
    assert [type(layer) for layer in model] == [Linear, Tanh, Linear, BatchNorm1d, Tanh, Linear]
    assert (model[3].eps, model[3].momentum) == (1e-3, None)
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float64)}
    assert [type(layer) for layer in MLP([4, 8, 3], norm=None, activation="sigmoid")] == [Linear, Sigmoid, Linear]
    assert [type(layer) for layer in MLP((4, 3))] == [Linear]
    assert MLP(iter(np.array([4, 5, 3])))[0].out_features == 5


def test_seed():
    first, second, other = MLP([4, 8, 3], seed=1), MLP([4, 8, 3], seed=1), MLP([4, 8, 3], seed=2)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert (first[0].weight.data != other[0].weight.data).any()
    generator = np.random.default_rng(1)
    np.testing.assert_array_equal(MLP([4, 8, 3], seed=generator)[0].weight.data, first[0].weight.data)
    assert (MLP([4, 8, 3], seed=generator)[0].weight.data != first[0].weight.data).any()  # it has moved on


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("criterion", [CrossEntropyLoss(), MSELoss()], ids=["cross_entropy", "mse"])
def test_every_gradient_of_the_whole_network(rng, training, activation, criterion):
    model = MLP([3, 5, 4, 2], activation, seed=3, dtype=np.float64)
    for p in model.parameters():
        p.data += 0.3 * rng.normal(size=p.shape)  # away from the ones and zeros of batch norm
    for _ in range(3):  # statistics that are not 0 and 1
        model(rng.normal(size=(7, 3)))
    model.train(training)
    x = rng.normal(size=(6, 3))
    target = rng.integers(2, size=6) if isinstance(criterion, CrossEntropyLoss) else rng.normal(size=(6, 2))

    def loss():
        return criterion(model(x), target)

    loss()
    dx = model.backward(criterion.backward())
    cases = [(x, dx)] + [(p.data, p.grad.copy()) for p in model.parameters()]
    for array, gradient in cases:
        own = array.copy()

        def f(values, array=array):
            array[...] = values
            return loss()

        expected = oracle.fourth_order_gradient(f, own, h=1e-4 if activation == "relu" else 1e-3)
        array[...] = own
        # a smaller step, which no kink of relu lies in, cancels ten times as much
        scale = 10 if activation == "relu" else 1
        np.testing.assert_allclose(gradient, expected, **tol(np.float64, kind="fd", scale=scale))


@pytest.mark.usefixtures("backend")
def test_forward_is_the_formula(rng):
    model = MLP([3, 5, 2], seed=0, dtype=np.float64)
    x = rng.normal(size=(6, 3))
    hidden = x @ model[0].weight.data.T + model[0].bias.data
    expected = np.maximum(oracle.forward(hidden).y, 0) @ model[3].weight.data.T + model[3].bias.data
    np.testing.assert_allclose(model(x), expected, **tol(np.float64, 6, "dx"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"sizes": [4]},
            ValueError,
            "MLP: sizes must hold at least the numbers of features in and out, such as [784, 64, 10], got [4].",
        ),
        ({"sizes": 4}, TypeError, "MLP: sizes must be a sequence of ints, such as [784, 64, 10], got 4."),
        ({"sizes": "43"}, TypeError, "MLP: sizes must be a sequence of ints, such as [784, 64, 10], got '43'."),
        ({"sizes": [4, 0, 2]}, ValueError, "MLP: each of sizes must be a positive int, got 0."),
        ({"sizes": [4, 1.5]}, TypeError, "MLP: each of sizes must be a positive int, got 1.5."),
        (
            {"norm": "layre"},
            ValueError,
            "MLP: norm must be one of 'batch', 'layer', 'rms', 'group' or None, got 'layre'.",
        ),
        ({"norm": [None, 3]}, ValueError, "MLP: norm must be one of 'batch', 'layer', 'rms', 'group' or None, got 3."),
        ({"norm": True}, TypeError, "MLP: norm must be a name, None or a sequence of these, got True."),
        ({"norm": ["batch"]}, ValueError, "MLP: norm has 1 entries, but there are 2 hidden layers; give one for each."),
        (
            {"activation": "swish"},
            ValueError,
            "MLP: activation must be one of 'relu', 'leaky_relu', 'sigmoid', 'tanh', 'gelu', 'gelu_tanh', 'silu', "
            "'identity', got 'swish'.",
        ),
        (
            {"activation": ["relu"]},
            ValueError,
            "MLP: activation must be one of 'relu', 'leaky_relu', 'sigmoid', 'tanh', 'gelu', 'gelu_tanh', 'silu', "
            "'identity', got ['relu'].",
        ),
        ({"seed": "x"}, TypeError, "seed must be None, an int or a numpy.random.Generator, got str."),
        ({"dropout": 1.5}, ValueError, "MLP: dropout must be in [0, 1], got 1.5."),
        (
            {"norm": "group", "num_groups": 3},
            ValueError,
            "GroupNorm: num_groups=3 does not divide num_channels=8; choose a divisor.",
        ),
        ({"dtype": int}, TypeError, "Linear: dtype must be float32, float64 or float16, got <class 'int'>."),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error) as caught:
        MLP(**{"sizes": [4, 8, 8, 2], **arguments})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("activation", "kind"),
    [("leaky_relu", LeakyReLU), ("gelu", GELU), ("gelu_tanh", GELU), ("silu", SiLU), ("sigmoid", Sigmoid)],
)
@pytest.mark.parametrize(
    ("norm", "layer"), [("layer", LayerNorm), ("rms", RMSNorm), ("group", GroupNorm), ("batch", BatchNorm1d)]
)
def test_every_norm_and_activation(rng, activation, kind, norm, layer):
    model = MLP([4, 12, 3], activation, norm=norm, eps=1e-3, dtype=np.float64, seed=0)
    assert [type(m) for m in model] == [Linear, layer, kind, Linear]
    assert model[1].eps == 1e-3
    assert kind is not GELU or model[2].approximate == {"gelu": "none", "gelu_tanh": "tanh"}[activation]
    x = rng.normal(size=(7, 4))
    y = x
    for m in model:
        y = m(y)
    np.testing.assert_allclose(model(x), y, **tol(np.float64, 12, "dx"))
    if kind is not LeakyReLU:  # whose kinks are too near to some of these values
        check_gradients(model, x, rng.normal(size=(7, 3)))


def test_dropout_and_bias():
    plain, model = MLP([4, 8, 6, 3], seed=1), MLP([4, 8, 6, 3], seed=1, dropout=0.3, bias=False)
    assert [type(m) for m in model] == [Linear, BatchNorm1d, ReLU, Dropout] * 2 + [Linear]
    assert [m.bias is None for m in model if isinstance(m, Linear)] == [True, True, False]
    assert model[3].p == 0.3
    x = np.ones((50, 8), np.float32)
    assert (model[3](x) != model[7](x)).any()  # each its own chances
    # dropout does not change the starting values
    with_dropout = MLP([4, 8, 6, 3], seed=1, dropout=0.3)
    for (_, p), (_, q) in zip(plain.named_parameters(), with_dropout.named_parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    twin = MLP([4, 8, 6, 3], seed=1, dropout=0.3)
    x = np.ones((5, 4), np.float32)
    np.testing.assert_array_equal(with_dropout(x), twin(x))  # the seed decides the masks too


@pytest.mark.parametrize(("width", "groups"), [(64, 8), (12, 3), (10, 2), (8, 2), (7, 1), (4, 1), (36, 6)])
def test_groups_of_group_norm(width, groups):
    assert MLP([3, width, 2], norm="group")[1].num_groups == groups
    assert MLP([3, width, 2], norm="group", num_groups=width)[1].num_groups == width
