"""What hypothesis draws: a whole call of batch norm, with its arrays in any layout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

LAYOUTS = ("C", "F", "permuted", "stepped", "reversed", "offset", "broadcast")


def laid_out(values, layout, rng=None, axis=0):
    """The same values in another memory layout."""
    rng = rng or np.random.default_rng(0)
    if layout == "C":
        return np.ascontiguousarray(values)
    if layout == "F":
        return np.asfortranarray(values)
    if layout == "permuted":
        order = rng.permutation(values.ndim)
        return np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
    if layout == "stepped":
        wide = np.full([2 * n + 1 for n in values.shape], np.nan, values.dtype)
        view = wide[tuple(slice(1, 2 * n + 1, 2) for n in values.shape)]
    elif layout == "reversed":
        view = np.empty_like(values, order="C")[(slice(None, None, -1),) * values.ndim]
    elif layout == "offset":  # one byte past where the dtype would like to be
        buffer = np.empty(values.nbytes + 1, np.uint8)
        view = buffer[1:].view(values.dtype).reshape(values.shape)
    elif layout == "broadcast":
        return np.broadcast_to(values.take([0], axis), values.shape)
    view[...] = values
    return view


class Case(NamedTuple):
    """A call of batch norm."""

    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray | None
    bias: np.ndarray | None
    running_mean: np.ndarray
    running_var: np.ndarray
    training: bool
    momentum: float
    eps: float
    axis: int

    @property
    def options(self):
        return {"training": self.training, "momentum": self.momentum, "eps": self.eps, "axis": self.axis}

    @property
    def count(self):
        return self.x.size // self.x.shape[self.axis]


@st.composite
def cases(draw, dtypes=("float32", "float64"), training=None):
    """A call; `training` says which mode, or either."""
    rank = draw(st.integers(2, 5))
    # one long axis now and then, past the 16 lanes and into several of their blocks
    sizes = st.integers(1, 70 if rank == 2 else 6)
    shape = tuple(draw(st.lists(sizes, min_size=rank, max_size=rank)))
    axis = draw(st.integers(-rank, rank - 1))
    training = draw(st.booleans()) if training is None else training
    channels = shape[axis]
    if training and np.prod(shape) // channels < 2:
        shape = tuple(n + (i != axis % rank) for i, n in enumerate(shape))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = 10.0 ** draw(st.integers(-3, 3))
    offset = spread * draw(st.sampled_from([0.0, 1.0, -100.0, 1e4]))
    x = (rng.standard_normal(shape) * spread + offset).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    layouts = st.sampled_from(LAYOUTS[:-1])
    x, dy = laid_out(x, draw(layouts), rng), laid_out(dy, draw(layouts), rng)

    def vector(low, high):
        kind = np.dtype(draw(st.sampled_from(["float32", "float64"])))
        values = rng.uniform(low, high, channels).astype(kind)
        return laid_out(values, draw(st.sampled_from(["C", "stepped", "reversed"])))

    return Case(
        x=x,
        dy=dy,
        weight=vector(-2, 2) if draw(st.booleans()) else None,
        bias=vector(-2, 2) if draw(st.booleans()) else None,
        running_mean=vector(-1, 1) * spread + offset,
        running_var=vector(0.5, 2) * spread**2,
        training=training,
        momentum=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        eps=draw(st.sampled_from([1e-12, 1e-5, 1e-3, 1.0])),
        axis=axis,
    )
