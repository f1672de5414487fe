"""The calls of layers and losses."""

from __future__ import annotations

import numpy as np
from hostile.calls import Call, classes, loading, positive, random

import normcore as nc
from normcore import nn


def layer_calls(make_layer, *shape, dtype=np.float64):
    """Forward and backward of a new layer: everything that comes of it."""

    def run(x, dy):
        layer = make_layer()
        y = layer(x)
        dx = layer.backward(dy)
        grads = {name: parameter.grad for name, parameter in layer.named_parameters()}
        return y, dx, grads, layer.state_dict()

    def make():
        x = random(*shape, dtype=dtype)
        return {"x": x, "dy": random(*make_layer()(x).shape, seed=5, dtype=dtype)}

    calls = [Call(run, make, ("x", "dy"), said={"x": ("dy",)})]  # of another shape than this x has
    state = make_layer().state_dict()
    if state:
        calls.append(loading(lambda: make_layer(), state))
    return calls


F64 = {"dtype": np.float64}


def network(seed=0):
    return nc.MLP([4, 8, 3], seed=seed, dtype=np.float64)


LAYERS = {
    "Linear": layer_calls(lambda: nn.Linear(4, 3, rng=0, **F64), 5, 4),
    "BatchNorm1d": layer_calls(lambda: nn.BatchNorm1d(4, **F64), 5, 4),
    "BatchNorm2d": layer_calls(lambda: nn.BatchNorm2d(4, momentum=None, nonfinite="raise", **F64), 3, 4, 2, 3),
    "BatchNorm3d": layer_calls(lambda: nn.BatchNorm3d(2, **F64), 2, 2, 2, 3, 2),
    "LayerNorm": layer_calls(lambda: nn.LayerNorm((4, 3), **F64), 5, 4, 3),
    "GroupNorm": layer_calls(lambda: nn.GroupNorm(2, 4, **F64), 5, 4, 3),
    "InstanceNorm1d": layer_calls(lambda: nn.InstanceNorm1d(4, affine=True, **F64), 5, 4, 3),
    "InstanceNorm2d": layer_calls(lambda: nn.InstanceNorm2d(4, track_running_stats=True, **F64), 5, 4, 3, 2),
    "InstanceNorm3d": layer_calls(lambda: nn.InstanceNorm3d(2, **F64), 2, 2, 2, 3, 2),
    "RMSNorm": layer_calls(lambda: nn.RMSNorm(4, **F64), 5, 4),
    "ReLU": [
        *layer_calls(nn.ReLU, 5, 4),
        *layer_calls(nn.ReLU, 70, 41),  # larger ones take another way
    ],
    "LeakyReLU": layer_calls(nn.LeakyReLU, 5, 4),
    "Sigmoid": layer_calls(nn.Sigmoid, 5, 4),
    "Tanh": layer_calls(nn.Tanh, 5, 4),
    "GELU": layer_calls(nn.GELU, 5, 4),
    "SiLU": layer_calls(nn.SiLU, 5, 4),
    "Dropout": [
        *layer_calls(lambda: nn.Dropout(0.5, rng=0), 5, 4),
        *layer_calls(lambda: nn.Dropout(0.5, rng=0).eval(), 5, 4),
    ],
    "Flatten": layer_calls(nn.Flatten, 5, 4, 2),
    "Identity": layer_calls(nn.Identity, 5, 4),
    "Sequential": layer_calls(lambda: nn.Sequential(nn.BatchNorm1d(4, **F64), nn.GELU(), nn.RMSNorm(4, **F64)), 5, 4),
    "MLP": layer_calls(network, 5, 4),
    "Parameter": [Call(lambda data: nn.Parameter(data).data.copy(), lambda: {"data": random(3, 2)}, ("data",))],
}


def loss_calls(make_loss, output, target):
    """A loss and its gradient, without and with weights of the rows."""

    def run(output, target, sample_weight):
        loss = make_loss()
        return loss(output, target, sample_weight), loss.backward()

    return [
        Call(
            run, lambda: {"output": output(), "target": target(), "sample_weight": positive(5)},
            ("output", "target", "sample_weight"),
        )
    ]  # fmt: skip


def option_calls(make_loss, name, size, output, target):
    """A loss that is made with an array."""

    def run(**arrays):
        return make_loss(**arrays)(output(), target())

    return [Call(run, lambda: {name: positive(size)}, (name,))]


LOSSES = {
    "CrossEntropyLoss": [
        *loss_calls(nn.CrossEntropyLoss, lambda: random(5, 3), lambda: classes(5)),
        *loss_calls(
            lambda: nn.CrossEntropyLoss(label_smoothing=0.1), lambda: random(5, 3, 2), lambda: np.zeros((5, 2), int)
        ),
        *loss_calls(nn.CrossEntropyLoss, lambda: random(5, 3), lambda: np.full((5, 3), 0.25)),
        *option_calls(nn.CrossEntropyLoss, "weight", 3, lambda: random(5, 3), lambda: classes(5)),
    ],
    "MSELoss": loss_calls(nn.MSELoss, lambda: random(5, 2), lambda: random(5, 2, seed=1)),
    "BCEWithLogitsLoss": [
        *loss_calls(nn.BCEWithLogitsLoss, lambda: random(5, 2), lambda: np.full((5, 2), 0.5)),
        *option_calls(nn.BCEWithLogitsLoss, "weight", 2, lambda: random(5, 2), lambda: np.ones((5, 2))),
        *option_calls(nn.BCEWithLogitsLoss, "pos_weight", 2, lambda: random(5, 2), lambda: np.ones((5, 2))),
    ],
}  # fmt: skip
