"""Whole networks with every kind of layer and loss against finite differences."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from tolerances import tol

from normcore.nn import (
    GELU,
    BatchNorm1d,
    BatchNorm2d,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    Dropout,
    Flatten,
    GroupNorm,
    Identity,
    InstanceNorm2d,
    LayerNorm,
    Linear,
    MSELoss,
    RMSNorm,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)


def rows():
    wide = {"dtype": np.float64}
    return Sequential(
        Linear(3, 6, rng=0, **wide), BatchNorm1d(6, momentum=None, **wide), GELU(),
        Linear(6, 5, bias=False, rng=1, **wide), LayerNorm(5, **wide), Tanh(), Dropout(0.3, rng=2),
        Sequential(Linear(5, 6, rng=3, **wide), GroupNorm(2, 6, **wide), SiLU(), Identity()),
        RMSNorm(6, eps=1e-3, **wide), GELU("tanh"), Linear(6, 3, rng=4, **wide),
    ), (7, 3)  # fmt: skip


def images():
    wide = {"dtype": np.float64}
    return Sequential(
        BatchNorm2d(2, **wide), GELU(), GroupNorm(1, 2, **wide), Sigmoid(),
        InstanceNorm2d(2, affine=True, track_running_stats=True, **wide), Tanh(),
        Flatten(), Linear(12, 3, rng=0, **wide),
    ), (5, 2, 3, 2)  # fmt: skip


def frozen():
    model, shape = rows()
    model[1].freeze()
    model[1].running_mean[...] = np.linspace(-0.3, 0.3, 6)
    return model, shape


WEIGHT = [0.5, 2.0, 1.0]
LOSSES = {
    "cross-entropy": (CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), "classes"),
    "cross-entropy of probabilities": (CrossEntropyLoss("sum", weight=WEIGHT), "probabilities"),
    "bce": (BCEWithLogitsLoss(pos_weight=WEIGHT), "probabilities"),
    "mse": (MSELoss(), "probabilities"),
}


@pytest.mark.parametrize(("criterion", "kind"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("build", [rows, images, frozen], ids=lambda b: b.__name__)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_gradient(rng, criterion, kind, build, training, weighted):
    model, shape = build()
    for p in model.parameters():
        p.data += 0.2 * rng.normal(size=p.shape)  # away from the ones and zeros of norms
    model(rng.normal(size=shape))  # statistics that are not 0 and 1
    model.train(training)
    x = rng.normal(size=shape)
    target = rng.dirichlet(np.ones(3), size=len(x))
    if kind == "classes":
        target = np.where(np.arange(len(x)) == 1, -100, target.argmax(axis=1))
    w = rng.uniform(0.5, 2, size=len(x)) if weighted else None
    generators = [m.rng for m in model.modules() if isinstance(m, Dropout)]
    buffers = [(buffer, buffer.copy()) for buffer in model.buffers()]
    states = [g.bit_generator.state for g in generators]

    def loss():
        for buffer, value in buffers:
            buffer[...] = value
        for g, state in zip(generators, states, strict=True):
            g.bit_generator.state = state
        return criterion(model(x), target, w)

    loss()
    dx = model.backward(criterion.backward())
    for array, gradient in [(x, dx)] + [(p.data, p.grad.copy()) for p in model.parameters()]:
        own = array.copy()

        def f(values, array=array):
            array[...] = values
            return loss()

        expected = oracle.fourth_order_gradient(f, own)
        array[...] = own
        np.testing.assert_allclose(gradient, expected, **tol(np.float64, kind="fd", scale=4))
