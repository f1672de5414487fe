"""The calls of optimisers, the trainer and recalibration."""

from __future__ import annotations

import numpy as np
from hostile.calls import Call, classes, positive, random
from hostile.layers import network

import normcore as nc
from normcore import nn, optim


def optimizer_calls(make_optimizer):
    """Two steps with a gradient."""

    def run(grad):
        first, second = nn.Parameter(random(4, 3)), nn.Parameter(random(4, 3, seed=9))
        steps = make_optimizer([first, second])
        before = first.data.copy(), second.data.copy()
        for _ in range(2):
            first.grad, second.grad = random(4, 3, seed=6), grad
            try:
                steps.step()
            except (TypeError, ValueError):
                assert np.array_equal(first.data, before[0]), "half of a step was taken"
                assert np.array_equal(second.data, before[1]), "half of a step was taken"
                raise
        return first.data, second.data

    def loaded():
        parameter = nn.Parameter(random(4, 3))
        parameter.grad = random(4, 3, seed=6)
        steps = make_optimizer([parameter])
        steps.step()
        return steps

    state = loaded().state_dict()["state"].get(0, {})
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}

    def load(**given):
        steps = loaded()
        whole = steps.state_dict()
        whole["state"][0] |= given
        steps.load_state_dict(whole)
        return steps.state_dict()["state"].get(0, {})

    calls = [Call(run, lambda: {"grad": random(4, 3, seed=7)}, ("grad",))]
    if arrays:
        calls.append(Call(load, lambda: {name: value.copy() for name, value in arrays.items()}, tuple(arrays)))
    return calls


def clip(grad):
    parameter = nn.Parameter(random(4, 3))
    parameter.grad = grad
    return optim.clip_grad_norm_([parameter], 0.5)


OPTIM = {
    "SGD": optimizer_calls(lambda params: optim.SGD(params, lr=0.1, momentum=0.9)),
    "Adam": optimizer_calls(lambda params: optim.Adam(params, lr=0.1, amsgrad=True)),
    "AdamW": optimizer_calls(lambda params: optim.AdamW(params, lr=0.1)),
    "clip_grad_norm_": [Call(clip, lambda: {"grad": random(4, 3, seed=7)}, (), ("grad",))],
}


def trainer():
    return nc.Trainer(network())


def after_training(t):
    return t.model.state_dict(), t.history.history


def run_fit(X, y, sample_weight, **options):
    t = trainer()
    before = t.model.state_dict()
    try:
        t.fit(X, y, epochs=2, batch_size=4, seed=0, sample_weight=sample_weight, **options)
    except (TypeError, ValueError):
        assert all(np.array_equal(value, before[name]) for name, value in t.model.state_dict().items()), "half trained"
        raise
    return after_training(t)


def run_validation(Xv, yv):
    return run_fit(random(9, 4), classes(9), None, validation_data=(Xv, yv))


def rows_and_classes():
    return {"X": random(9, 4), "y": classes(9), "sample_weight": positive(9)}


_fit_reads = ("X", "y", "sample_weight")


def run_recalibrate(X):
    model = network()
    nc.recalibrate(model, X)
    return model.state_dict()


TRAINING = {
    "Trainer": [
        Call(run_fit, rows_and_classes, _fit_reads),
        Call(lambda X, y, sample_weight: run_fit(X, y, sample_weight, shuffle=False), rows_and_classes, _fit_reads),
        Call(
            lambda X, y, sample_weight: run_fit(X, y, sample_weight, validation_split=0.3, class_weight="balanced"),
            rows_and_classes, _fit_reads,
        ),
        Call(
            run_validation, lambda: {"Xv": random(5, 4, seed=3), "yv": classes(5)}, ("Xv", "yv"),
            said={"Xv": ("X",), "yv": ("y",)},
        ),
        Call(lambda **a: trainer().evaluate(**a), rows_and_classes, _fit_reads),
        Call(lambda **a: trainer().partial_fit(**a), rows_and_classes, _fit_reads),
        Call(lambda **a: trainer().predict(**a), lambda: {"X": random(9, 4)}, ("X",)),
    ],
    "recalibrate": [Call(run_recalibrate, lambda: {"X": random(9, 4)}, ("X",))],
}  # fmt: skip
