"""What this installation is: versions, backends, threads."""

from __future__ import annotations

import os
import platform

import numpy as np

from normcore import _dispatch, _pool, _threads, backends
from normcore._version import __version__


class Config(dict[str, str]):
    """A dict that prints as a table."""

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{key:<{width}}  {value}" for key, value in self.items())

    __str__ = __repr__


def show_config() -> Config:
    """Return what matters for speed and for a bug report; print it to read it.

    Returns
    -------
    Config
        A dict from strings to strings: versions, whether each backend can be loaded (and if not, why), which one was
        asked for by name (and if that is a mistake, what is wrong), the number of threads, whether the kernels were
        built with OpenMP and bounds checks, and how much memory of freed results is kept for new ones.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.show_config()["reference backend"]
    'available'
    """
    config = Config(
        {
            "normcore": __version__,
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "numpy": np.__version__,
            "platform": f"{platform.system()} {platform.machine()}",
        }
    )
    for name in backends.BACKENDS:
        try:
            if name == "numba":
                config["numba backend"] = backends.numba_status()
                continue
            module = backends.load(name)
            config[f"{name} backend"] = "available"
        except ImportError as error:
            config[f"{name} backend"] = str(error)
            if name == "cython":
                config["openmp"] = "no: nothing is compiled, everything runs on one thread"
            continue
        if name == "cython":
            config["openmp"] = "yes" if module.OPENMP else "no: built without it, everything runs on one thread"
            config["vectors"] = f"{module.vectors()}, of {', '.join(module.VECTORS)}"
            config["bounds checks"] = "on (NORMCORE_DEBUG build)" if module.BOUNDS_CHECKS else "off"
    try:
        config["asked for"] = _dispatch.asked_for() or "none: the fastest that carries the call"
    except (ValueError, ImportError) as error:  # as any call of normcore will say
        config["asked for"] = f"{os.environ.get('NORMCORE_BACKEND')}, which does not work: {error}"
    config["threads"] = _threads.describe()
    config["pool of results"] = _pool.describe()
    return config
