"""What is timed: a case is an operation in one direction on one shape; a problem is a case with its arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

EPS = 1e-5
MOMENTUM = 0.1
MB = 1 << 20
HALF = ("float16", "bfloat16")
# "forward" is training mode and keeps what "backward" needs.
DIRECTIONS: Mapping[str, tuple[str, ...]] = {
    "batch_norm": ("forward", "backward", "inference"),
    "layer_norm": ("forward", "backward"),
    "rms_norm": ("forward", "backward"),
    "group_norm": ("forward", "backward"),
    "instance_norm": ("forward", "backward"),
}
ROW_OPS = ("layer_norm", "rms_norm")  # statistics of the last axis
_LAYOUTS = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}


class Case(NamedTuple):
    """A line of the comparison."""

    op: str
    direction: str
    shape: Shape
    dtype: str = "float32"
    groups: int = 0  # group norm's; 0 for the others

    @property
    def layout(self) -> str:
        """NC, NCHW or rows, which is how the lines are summed up."""
        return "rows" if self.op in ROW_OPS else _LAYOUTS[len(self.shape)]

    @property
    def nbytes(self) -> int:
        """The size of x."""
        return math.prod(self.shape) * dtype_of(self.dtype).itemsize

    @property
    def group(self) -> str:
        """The lines that share a geometric mean."""
        return f"{self.op} {self.direction} {self.layout} {self.dtype}"

    @property
    def size(self) -> str:
        """The shape, and the groups where there are some."""
        return "x".join(map(str, self.shape)) + (f" in {self.groups}" if self.groups else "")

    def __str__(self) -> str:
        return f"{self.group} {self.size}"


def matches(name: str, only: str) -> bool:
    """Whether every word of `only` is in `name`; a layout has to be a whole word, so that NC is not NCHW."""
    words = name.split()
    return all(word in words or (word not in _LAYOUTS.values() and word in name) for word in only.split())


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype, or the one of ml_dtypes for bfloat16."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return, unused-ignore] # ml_dtypes has no stubs
    return np.dtype(name)


class View(NamedTuple):
    """How the norms are one: statistics over `axes` of x seen as `shape`, weight and bias as `parameters`."""

    shape: Shape
    axes: tuple[int, ...]
    parameters: Shape


def view(case: Case) -> View:
    """The view in which a case's norm is the plain formula."""
    shape = case.shape
    if case.op in ROW_OPS:
        return View((math.prod(shape[:-1]), shape[-1]), (1,), (1, shape[-1]))
    n, c, s = shape[0], shape[1], math.prod(shape[2:])
    if case.op == "batch_norm":
        return View((n, c, s), (0, 2), (1, c, 1)) if s > 1 or len(shape) > 2 else View((n, c), (0,), (1, c))
    groups = case.groups or c  # instance norm: every channel is a group
    return View((n, groups, c // groups, s), (2, 3), (1, groups, c // groups, 1))


@dataclass(frozen=True, eq=False)
class Problem:
    """The arrays of a case, which all contenders read and none writes to."""

    case: Case
    x: Array
    dy: Array
    weight: Array
    bias: Array
    mean: Array
    var: Array
    eps: float = EPS


def problem(case: Case) -> Problem:
    """Draw the arrays of a case, the same every time: values around 2, as after a layer; every page is touched."""
    rng = np.random.default_rng(0)
    dtype = dtype_of(case.dtype)
    draw: DTypeLike = dtype if dtype in (np.float32, np.float64) else np.float32
    x, dy = (rng.standard_normal(case.shape, draw) for _ in range(2))  # type: ignore[arg-type] # a dtype chosen at run time
    x += 2
    length = case.shape[-1] if case.op in ROW_OPS else case.shape[1]
    weight, bias, mean, var = (rng.uniform(0.5, 1.5, length).astype(dtype) for _ in range(4))
    return Problem(case, x.astype(dtype, copy=False), dy.astype(dtype, copy=False), weight, bias, mean, var)
