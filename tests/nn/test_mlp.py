"""MLP: what it builds, its gradients as a whole, and its errors."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from tolerances import tol

import normcore as nc
from normcore.nn import MLP, BatchNorm1d, CrossEntropyLoss, Linear, MSELoss, ReLU, Sigmoid, Tanh


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
            "got 'swish'.",
        ),
        (
            {"activation": ["relu"]},
            ValueError,
            "MLP: activation must be one of 'relu', 'leaky_relu', 'sigmoid', 'tanh', 'gelu', 'gelu_tanh', 'silu', "
            "got ['relu'].",
        ),
        ({"seed": "x"}, TypeError, "seed must be None, an int or a numpy.random.Generator, got str."),
        ({"dtype": int}, TypeError, "Linear: dtype must be float32, float64 or float16, got <class 'int'>."),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error) as caught:
        MLP(**{"sizes": [4, 8, 8, 2], **arguments})
    assert str(caught.value) == message
