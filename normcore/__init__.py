"""Exact, memory-speed normalisation for NumPy on the CPU, and networks that train with it.

Everything is reached from here: ``nc.batch_norm`` and its kin, ``nc.nn``, ``nc.optim``, ``nc.MLP``, ``nc.Trainer``,
``nc.data``. What a script does not use is not imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from normcore._config import show_config as show_config
from normcore._dispatch import use_backend as use_backend
from normcore._pool import get_pool_limit as get_pool_limit
from normcore._pool import set_pool_limit as set_pool_limit
from normcore._threads import get_num_threads as get_num_threads
from normcore._threads import set_num_threads as set_num_threads
from normcore._threads import threads as threads
from normcore._version import __version__ as __version__
from normcore.functional import batch_norm as batch_norm
from normcore.functional import batch_norm_backward as batch_norm_backward
from normcore.functional import batch_norm_forward as batch_norm_forward
from normcore.functional import batch_stats as batch_stats
from normcore.functional import explain as explain
from normcore.functional import group_norm as group_norm
from normcore.functional import group_norm_backward as group_norm_backward
from normcore.functional import group_norm_forward as group_norm_forward
from normcore.functional import instance_norm as instance_norm
from normcore.functional import instance_norm_backward as instance_norm_backward
from normcore.functional import instance_norm_forward as instance_norm_forward
from normcore.functional import layer_norm as layer_norm
from normcore.functional import layer_norm_backward as layer_norm_backward
from normcore.functional import layer_norm_forward as layer_norm_forward
from normcore.functional import rms_norm as rms_norm
from normcore.functional import rms_norm_backward as rms_norm_backward
from normcore.functional import rms_norm_forward as rms_norm_forward

if TYPE_CHECKING:
    from normcore import data as data
    from normcore import estimators as estimators
    from normcore import functional as functional
    from normcore import nn as nn
    from normcore import optim as optim
    from normcore import studies as studies
    from normcore import training as training
    from normcore.covariance import RunningCovariance as RunningCovariance
    from normcore.moments import RunningMoments as RunningMoments
    from normcore.nn import MLP as MLP
    from normcore.training import DivergenceError as DivergenceError
    from normcore.training import History as History
    from normcore.training import Trainer as Trainer
    from normcore.training import recalibrate as recalibrate

_LAZY = {
    "data": "normcore.data",
    "estimators": "normcore.estimators",
    "nn": "normcore.nn",
    "optim": "normcore.optim",
    "studies": "normcore.studies",
    "training": "normcore.training",
    "MLP": "normcore.nn",
    "DivergenceError": "normcore.training",
    "History": "normcore.training",
    "RunningCovariance": "normcore.covariance",
    "RunningMoments": "normcore.moments",
    "Trainer": "normcore.training",
    "recalibrate": "normcore.training",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'normcore' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name] == f"normcore.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
