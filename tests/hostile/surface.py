"""The whole public surface, as data: for every public name the calls that give it arrays, or why it takes none.

A new public name without an entry here fails `test_surface.py`.
"""

from __future__ import annotations

import importlib

from hostile.functions import FUNCTIONS
from hostile.layers import LAYERS, LOSSES
from hostile.statistics import ESTIMATORS, OTHERS, STREAMING
from hostile.training import OPTIM, TRAINING

MODULES = (
    "normcore",
    "normcore.functional",
    "normcore.nn",
    "normcore.optim",
    "normcore.training",
    "normcore.data",
    "normcore.estimators",
)


def public_names():
    """Every public class and function, by its own name: re-exports are the same thing."""
    found = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in dir(module):
            thing = getattr(module, name)
            if not name.startswith("_") and callable(thing) and thing.__module__.startswith("normcore"):
                found.add(name)
    return found


CALLS = {**FUNCTIONS, **LAYERS, **LOSSES, **OPTIM, **TRAINING, **STREAMING, **OTHERS, **ESTIMATORS}

_options = "takes no arrays, only options, which test_arguments.py walks"
_base = "a base class for the user's own, which has no computation"
_held = "holds what others have computed"
_files = "reads files, which are tested as such"
NO_ARRAYS = {
    **dict.fromkeys(("set_num_threads", "get_num_threads", "set_pool_limit", "get_pool_limit", "threads"), _options),
    **dict.fromkeys(("use_backend", "show_config", "decay_groups"), _options),
    **dict.fromkeys(("Loss", "Module", "Optimizer", "Schedule", "Callback", "PooledMetric"), _base),
    **dict.fromkeys(("HookHandle", "LoadResult", "Dataset", "Part", "Split", "History"), _held),
    **dict.fromkeys(("DivergenceError", "DataError", "DataNotFoundError"), "an exception"),
    **dict.fromkeys(
        ("CosineAnnealingLR", "ExponentialLR", "LinearLR", "MultiStepLR", "OneCycleLR", "SequentialLR", "StepLR"),
        _options,
    ),
    **dict.fromkeys(("CSVLogger", "Diagnostics", "EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau"), _options),
    **dict.fromkeys(
        ("cache_dir", "load", "load_cifar10", "load_digits", "load_fashion_mnist", "load_mnist"),
        _files,
    ),
    **dict.fromkeys(
        ("read_cifar10", "read_idx"),
        _files,
    ),
}  # fmt: skip
