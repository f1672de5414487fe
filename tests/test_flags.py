"""Arguments that are True or False: everything else is refused, everywhere, and NumPy's bools are taken."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from normcore import nn, optim, training
from normcore.nn import Parameter


def linear():
    return nn.Linear(2, 3, rng=0)


def sgd():
    return optim.SGD([Parameter(np.ones(2))], momentum=0.5)


def fit(**options):
    trainer = training.Trainer(linear())
    trainer.fit(np.eye(2, dtype=np.float32), [0, 1], **options)


# Who has such arguments: how to call it, with the other arguments it needs.
CALLS = {
    "nn.Linear": lambda **o: nn.Linear(2, 3, **o),
    "nn.BatchNorm1d": lambda **o: nn.BatchNorm1d(3, **o),
    "nn.BatchNorm2d": lambda **o: nn.BatchNorm2d(3, **o),
    "nn.BatchNorm3d": lambda **o: nn.BatchNorm3d(3, **o),
    "nn.InstanceNorm1d": lambda **o: nn.InstanceNorm1d(3, **o),
    "nn.InstanceNorm2d": lambda **o: nn.InstanceNorm2d(3, **o),
    "nn.InstanceNorm3d": lambda **o: nn.InstanceNorm3d(3, **o),
    "nn.GroupNorm": lambda **o: nn.GroupNorm(1, 3, **o),
    "nn.LayerNorm": lambda **o: nn.LayerNorm(3, **o),
    "nn.RMSNorm": lambda **o: nn.RMSNorm(3, **o),
    "nn.ReLU": nn.ReLU,
    "nn.LeakyReLU": nn.LeakyReLU,
    "nn.SiLU": nn.SiLU,
    "nn.Dropout": nn.Dropout,
    "nn.MLP": lambda **o: nn.MLP([2, 3], **o),
    "nn.Module.train": lambda **o: linear().train(**o),
    "nn.Module.load_state_dict": lambda **o: linear().load_state_dict(linear().state_dict(), **o),
    "optim.SGD": lambda **o: optim.SGD([Parameter(np.ones(2))], momentum=0.5, **o),
    "optim.Adam": lambda **o: optim.Adam([Parameter(np.ones(2))], **o),
    "optim.AdamW": lambda **o: optim.AdamW([Parameter(np.ones(2))], **o),
    "optim.Schedule": lambda **o: optim.ExponentialLR(sgd(), 0.5, **o),
    "optim.StepLR": lambda **o: optim.StepLR(sgd(), 1, **o),
    "optim.MultiStepLR": lambda **o: optim.MultiStepLR(sgd(), [1], **o),
    "optim.ExponentialLR": lambda **o: optim.ExponentialLR(sgd(), 0.5, **o),
    "optim.LinearLR": lambda **o: optim.LinearLR(sgd(), **o),
    "optim.CosineAnnealingLR": lambda **o: optim.CosineAnnealingLR(sgd(), 5, **o),
    "optim.OneCycleLR": lambda **o: optim.OneCycleLR(sgd(), 0.1, 5, **o),
    "optim.clip_grad_norm_": lambda **o: optim.clip_grad_norm_([], 1.0, **o),
    "training.EarlyStopping": training.EarlyStopping,
    "training.ModelCheckpoint": lambda **o: training.ModelCheckpoint("x.npz", **o),
    "training.Trainer.fit": fit,
}


def arguments():
    """Every argument of the public names that is annotated as a bool."""
    for module in (nn, optim, training):
        for name, public in vars(module).items():
            if name[0] == "_" or not (inspect.isfunction(public) or inspect.isclass(public)):
                continue
            prefix = f"{module.__name__.removeprefix('normcore.')}.{name}"
            found = {prefix: public}
            if inspect.isclass(public):
                methods = inspect.getmembers(public, inspect.isfunction)
                # Those that it defines itself, or that its public bases do not show.
                found |= {
                    f"{prefix}.{method}": f for method, f in methods if method[0] != "_" and method in vars(public)
                }
            for owner, function in found.items():
                for argument, parameter in inspect.signature(function).parameters.items():
                    if parameter.annotation in (bool, "bool"):
                        yield owner, argument


ARGUMENTS = sorted(arguments())


def test_there_are_such_arguments():
    assert {owner for owner, _ in ARGUMENTS} == set(CALLS)
    assert ("optim.SGD", "nesterov") in ARGUMENTS
    assert ("training.Trainer.fit", "resume") in ARGUMENTS


@pytest.mark.parametrize(("owner", "argument"), ARGUMENTS)
@pytest.mark.parametrize("value", ["no", 1, 0.0, None, np.int64(0)], ids=repr)
def test_what_is_no_bool_is_refused(owner, argument, value):
    with pytest.raises(TypeError, match=re.escape(f"{argument} must be True or False, got {value!r}") + r"\.$"):
        CALLS[owner](**{argument: value})


@pytest.mark.parametrize(("owner", "argument"), ARGUMENTS)
@pytest.mark.parametrize("value", [np.True_, np.False_, True, False], ids=repr)
def test_bools_are_taken(owner, argument, value, capsys):
    made = CALLS[owner](**{argument: value})
    capsys.readouterr()  # a progress bar
    if hasattr(made, argument) and argument != "bias":
        assert getattr(made, argument) is bool(value)
