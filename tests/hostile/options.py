"""Every option of the public surface, as data: what is called, with which plain arguments, and what its options are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from hostile.calls import classes, positive, random
from hostile.layers import network

import normcore as nc
from normcore import data, estimators, nn, optim, training


class Raises:
    """Every question to it is an error."""

    def _no(self, *args):  # noqa: ARG002 - whatever is asked
        raise RuntimeError("not\nnow")

    __repr__ = __str__ = __index__ = __int__ = __float__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = _no
    __array__ = _no


class Index:
    """An int to whoever asks properly."""

    def __index__(self):
        return 2


HOSTILE = {
    "None": None,
    "word": "one",
    "empty word": "",
    "bytes": b"one",
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "zero": 0,
    "minus one": -1,
    "half": 0.5,
    "subnormal": 5e-324,
    "two": 2,
    "huge int": 10**5000,
    "huge negative int": -(10**5000),
    "True": True,
    "complex": 1 + 2j,
    "NumPy int": np.int64(2),
    "NumPy float": np.float32(1e-3),
    "NumPy bool": np.bool_(True),
    "NumPy NaN": np.float64("nan"),
    "date": np.datetime64("2015-02-11"),
    "duration": np.timedelta64(2, "s"),
    "masked": np.ma.masked,
    "rank 0": np.array(2),
    "rank 0 of float": np.array(0.5),
    "one element": np.array([2]),
    "matrix": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "objects": np.array([None, {}], object),
    "long list": [1.5] * 1000,
    "ragged": [[1], [1, 2]],
    "tuple of huge": (10**5000,),
    "tuple of None": (None, None),
    "dict": {"a": 1},
    "set": {1, 2},
    "object": object(),
    "class": dict,
    "function": len,
    "index": Index(),
    "dtype": np.dtype("f4"),
    "raises": Raises(),
}


class Options(NamedTuple):
    """A call whose other arguments are plain."""

    run: Callable[..., Any]
    plain: Callable[[], Mapping[str, Any]]  # arguments that are needed
    options: tuple[str, ...]
    anything: tuple[str, ...] = ()  # options that are looked at later, or never


def options_of(function, *but):
    """The parameters of a function or class, save those that are arrays."""
    target = inspect.signature(function)
    return tuple(
        name
        for name, parameter in target.parameters.items()
        if name not in but and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )


ARRAYS = ("x", "weight", "bias", "running_mean", "running_var", "dy", "ctx", "out")


def _function(name):
    function = getattr(nc, name)

    def plain():
        x = {"x": random(4, 6, 3)}
        told = {"num_groups": 3, "normalized_shape": 3}
        given = {key: value for key, value in told.items() if key in inspect.signature(function).parameters}
        inference = {"running_mean": random(6), "running_var": positive(6)} if name == "batch_norm" else {}
        return {**x, **given, **inference}

    return Options(function, plain, options_of(function, *ARRAYS))


def _class(kind, plain=dict, but=(), anything=()):
    return Options(kind, plain, options_of(kind, *but), anything)


def _parameters():
    return {"params": [nn.Parameter(random(2, 2))]}


def _optimizer(**more):
    return lambda: {"optimizer": optim.SGD([nn.Parameter(random(2, 2))], lr=0.1, momentum=0.9), **more}


def _fit(**arguments):
    nc.Trainer(network()).fit(**{"X": random(6, 4), "y": classes(6), "batch_size": 3, "epochs": 1, **arguments})


_norms = [name for name in dir(nc) if name.endswith(("_norm", "_norm_forward"))]
_losses = [nn.MSELoss, nn.CrossEntropyLoss, nn.BCEWithLogitsLoss]
_features = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d]

OPTIONS = {
    **{name: _function(name) for name in (*_norms, "batch_stats")},
    **{kind.__name__: _class(kind, lambda: {"num_features": 3}) for kind in _features},
    **{kind.__name__: _class(kind, lambda: {"normalized_shape": 3}) for kind in (nn.LayerNorm, nn.RMSNorm)},
    **{kind.__name__: _class(kind) for kind in (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Dropout, nn.Flatten)},
    **{kind.__name__: _class(kind) for kind in _losses},
    "Linear": _class(nn.Linear, lambda: {"in_features": 2, "out_features": 3}),
    "GroupNorm": _class(nn.GroupNorm, lambda: {"num_groups": 2, "num_channels": 4}),
    "MLP": _class(nc.MLP, lambda: {"sizes": [4, 8, 3], "norm": "group"}),
    "Sequential": Options(lambda layer: nn.Sequential(layer), dict, ("layer",)),
    **{kind.__name__: _class(kind, _parameters) for kind in (optim.SGD, optim.Adam, optim.AdamW)},
    "CosineAnnealingLR": _class(optim.CosineAnnealingLR, _optimizer(T_max=4)),
    "ExponentialLR": _class(optim.ExponentialLR, _optimizer(gamma=0.5)),
    "LinearLR": _class(optim.LinearLR, _optimizer()),
    "MultiStepLR": _class(optim.MultiStepLR, _optimizer(milestones=[2])),
    "OneCycleLR": _class(optim.OneCycleLR, _optimizer(max_lr=0.1, total_steps=10)),
    "StepLR": _class(optim.StepLR, _optimizer(step_size=2)),
    "clip_grad_norm_": _class(optim.clip_grad_norm_, lambda: {"parameters": _parameters()["params"], "max_norm": 1.0}),
    "decay_groups": _class(optim.decay_groups, lambda: {"model": network(), "weight_decay": 0.1}),
    "Trainer": _class(nc.Trainer, lambda: {"model": network()}),
    "Trainer.fit": Options(_fit, dict, options_of(nc.Trainer.fit, "self", "X", "y", "epochs"), ("seed",)),
    "Trainer.predict": Options(lambda **a: nc.Trainer(network()).predict(random(4, 4), **a), dict, ("batch_size",)),
    "EarlyStopping": _class(training.EarlyStopping),
    "ReduceLROnPlateau": _class(training.ReduceLROnPlateau),
    "Diagnostics": _class(training.Diagnostics),
    "ModelCheckpoint": _class(training.ModelCheckpoint, lambda: {"path": "here"}, ("path",)),
    "recalibrate": _class(nc.recalibrate, lambda: {"model": network(), "X": random(6, 4)}, ("X",)),
    "RunningMoments": _class(nc.RunningMoments),
    "RunningCovariance": _class(nc.RunningCovariance),
    "split": _class(data.split, lambda: {"X": random(9, 4), "y": classes(9)}, ("X", "y")),
    "explain": Options(lambda function: nc.explain(function, random(4, 3), training=True), dict, ("function",)),
    "use_backend": _class(nc.use_backend),
    "threads": _class(nc.threads),
    "set_num_threads": _class(nc.set_num_threads),
    "set_pool_limit": _class(nc.set_pool_limit),
}
# Constructors of these keep what they are given until they are used, as scikit-learn's must; names of files and loss
# objects are the subject of other tests.
LATER = {kind for kind in dir(estimators) if not kind.startswith("_")}
