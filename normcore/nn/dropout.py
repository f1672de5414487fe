"""Dropout: some values left out at random."""

from __future__ import annotations

import numpy as np

from . import init
from ._checks import Array, as_bool, as_gradient, as_input, as_number
from .module import Module


class Dropout(Module):
    """Each value 0 with probability p, the others divided by 1 - p; in evaluation mode the identity.

    Parameters
    ----------
    p : float
        From 0 to 1.
    inplace : bool
        Taken for the sake of PyTorch's models and without effect.
    rng : None, int or numpy.random.Generator
        Where the chances come from. The same seed gives the same mask for every dtype.

    Attributes
    ----------
    rng : numpy.random.Generator
        `layer.rng.bit_generator.state` is all there is to save for going on with the same masks.

    Raises
    ------
    TypeError
        If x is not floating point.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, rng: init.RandomState = None) -> None:
        self.p = as_number(p, "p", "Dropout", "[0, 1]")
        self.inplace = as_bool(inplace, "inplace", "Dropout")
        self.rng = init.as_generator(rng)

    def forward(self, x: Array) -> Array:
        """Return x with values left out, a new array; in evaluation mode x itself."""
        x = as_input(x, "Dropout")
        if not self.training or self.p == 0.0:
            self._saved = x.shape, x.dtype, None
            return x
        scale = 1.0 / (1.0 - self.p) if self.p < 1.0 else 0.0
        mask = np.multiply(self.rng.random(x.shape, dtype=np.float32) >= self.p, scale, dtype=x.dtype)
        self._saved = x.shape, x.dtype, mask
        return np.multiply(x, mask)

    def backward(self, dy: Array) -> Array:
        """Return dy with the same values left out, and the others divided by 1 - p."""
        shape, dtype, mask = self._recall()
        dy = as_gradient(dy, shape, dtype, "Dropout")
        return dy if mask is None else np.multiply(dy, mask)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"p={self.p}, inplace={self.inplace}"
