from typing import Any

import numpy as np

from normcore.backends import Kernels

OPENMP: bool
BOUNDS_CHECKS: bool

def openmp_max_threads() -> int: ...
def declines(walk: str, dtype: np.dtype[Any], activation: int) -> str | None: ...
def kernels(dtype: np.dtype[Any]) -> Kernels: ...
