"""What is timed: a case is an operation in one direction on one shape; a problem is a case with its arrays.

Another operation is another row of ``GRID`` and ``QUICK`` here, and functions for it in ``contenders/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

EPS = 1e-5
MOMENTUM = 0.1
DIRECTIONS = ("forward", "backward", "inference")


class Case(NamedTuple):
    """A line of the comparison."""

    op: str
    direction: str  # "forward" is training mode and keeps what "backward" needs
    shape: Shape
    dtype: str = "float32"

    @property
    def layout(self) -> str:
        """NC or NCHW, which is how the lines are summed up."""
        return {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}[len(self.shape)]

    @property
    def group(self) -> str:
        """The lines that share a geometric mean."""
        return f"{self.op} {self.direction} {self.layout} {self.dtype}"

    def __str__(self) -> str:
        return f"{self.group} {'x'.join(map(str, self.shape))}"


# From the first layers of a ResNet (few channels, large images) to its last, a small batch, and tables of samples.
NCHW: tuple[Shape, ...] = (
    (32, 64, 56, 56),
    (32, 128, 28, 28),
    (32, 256, 14, 14),
    (32, 512, 7, 7),
    (8, 3, 224, 224),
    (1, 64, 112, 112),
)
NC: tuple[Shape, ...] = ((64, 10), (128, 128), (1024, 256), (4096, 1024), (100_000, 32), (1_000_000, 10))

GRID: Mapping[str, tuple[tuple[Shape, str], ...]] = {
    "batch_norm": (
        *((shape, "float32") for shape in NCHW + NC),
        ((32, 64, 28, 28), "float64"),
    ),
}
QUICK: Mapping[str, tuple[tuple[Shape, str], ...]] = {
    "batch_norm": (((4, 3, 8, 8), "float32"), ((64, 10), "float32")),
}


def cases(grid: Mapping[str, tuple[tuple[Shape, str], ...]], only: str = "") -> Iterator[Case]:
    """The lines of a grid whose name, like "batch_norm forward NCHW float32 4x3x8x8", has all words of `only`."""
    for op, sizes in grid.items():
        for direction in DIRECTIONS:
            for shape, dtype in sizes:
                case = Case(op, direction, shape, dtype)
                if set(only.split()) <= set(str(case).split()):
                    yield case


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


def problem(case: Case) -> Problem:
    """Draw the arrays of a case; the same every time."""
    rng = np.random.default_rng(0)
    dtype = np.dtype(case.dtype)
    draw: Any = dtype.type if dtype.itemsize >= 4 else np.float32
    x, dy = (rng.standard_normal(case.shape, draw).astype(dtype, copy=False) for _ in range(2))
    x += dtype.type(2)
    vectors = (rng.uniform(0.5, 1.5, case.shape[1]).astype(dtype) for _ in range(4))
    return Problem(case, x, dy, *vectors)
