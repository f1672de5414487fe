"""The fully connected layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from normcore._threads import get_num_threads

from . import init
from ._checks import Array, as_bool, as_float_dtype, as_gradient, as_input, as_size, check_fits_memory
from .module import Module, Parameter

try:
    from . import _products
except ImportError:  # nothing is compiled here: NumPy's products below are for everything
    _products = None  # type: ignore[assignment] # as above


def _as_rows(array: Array) -> Array:
    """Its leading dimensions as one; nothing is copied where it is contiguous."""
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])


class Linear(Module):
    """Fully connected layer, `y = x @ weight.T + bias`.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last dimension of x and of y.
    bias : bool
        Whether to add a bias.
    dtype : dtype
        Of the parameters and of the input.
    rng : None, int or numpy.random.Generator
        Source of the starting values: weight and bias uniform in +-1/sqrt(in_features), as in PyTorch.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
        Its `data` is in Fortran's order of memory: the transpose is contiguous.
    bias : Parameter of shape (out_features,), or None

    Notes
    -----
    Shapes: x (..., in_features), y (..., out_features). Backward:
    `dx = dy @ weight`, `dweight = dy.T @ x`, `dbias = dy.sum(0)`, with leading dimensions taken as rows.
    The layer keeps a reference to x: do not change x between forward and backward.

    Raises
    ------
    TypeError
        If x does not have the layer's dtype.
    ValueError
        If the last dimension of x is not `in_features`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        rng: init.RandomState = None,
    ) -> None:
        self.in_features = as_size(in_features, "in_features", "Linear")
        self.out_features = as_size(out_features, "out_features", "Linear")
        check_fits_memory("Linear", in_features=self.in_features, out_features=self.out_features)
        dtype = as_float_dtype(dtype, "Linear")
        bias = as_bool(bias, "bias", "Linear")
        rng = init.as_generator(rng)
        bound = init.linear_bound(self.in_features)
        # Fortran's order: its transpose, which both products with x need, then is a plain matrix, and BLAS is up to
        # twice as fast with small batches.
        weight = np.asfortranarray(init.uniform((self.out_features, self.in_features), bound, rng, dtype))
        self.weight = Parameter(weight)
        self.bias = Parameter(init.uniform((self.out_features,), bound, rng, dtype)) if bias else None
        self._ones = np.ones(0, dtype)

    def forward(self, x: Array) -> Array:
        """Return `x @ weight.T + bias`."""
        x = as_input(x, "Linear")
        weight = self.weight.data
        if x.dtype != weight.dtype:
            raise TypeError(
                f"Linear: x is {x.dtype} but the layer is {weight.dtype}; "
                f"pass x.astype(np.{weight.dtype}) or make the layer with dtype=np.{x.dtype}."
            )
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"Linear: x has shape {x.shape}, but its last dimension must be in_features={self.in_features}; "
                "reshape x or change in_features."
            )
        self._saved = x
        bias = None if self.bias is None else self.bias.data
        if _products is not None and (x.ndim == 2 or x.flags.c_contiguous):
            product = _products.forward(_as_rows(x), weight, bias, get_num_threads)
            if product is not None:
                return product if x.ndim == 2 else product.reshape(*x.shape[:-1], self.out_features)
        self._check_shapes(weight, bias)
        y: Array = np.matmul(x, weight.T)
        if bias is not None:
            y += bias
        return y

    def _check_shapes(self, weight: Array, bias: Array | None) -> None:
        """Somebody may have replaced the parameters' data."""
        for name, data, shape in (
            ("weight", weight, (self.out_features, self.in_features)),
            ("bias", bias, (self.out_features,)),
        ):
            if data is not None and data.shape != shape:
                raise ValueError(
                    f"Linear: {name}.data has shape {data.shape}, but the layer is {self!r}; set it to an array of "
                    f"shape {shape}."
                )

    def backward(self, dy: Array) -> Array:
        """Set the gradients of weight and bias and return dx."""
        self.backward_parameters(dy)
        dy = np.asarray(dy)  # a subclass may multiply otherwise
        if _products is not None and (dy.ndim == 2 or dy.flags.c_contiguous):
            dx = _products.input_gradient(_as_rows(dy), self.weight.data, get_num_threads)
            if dx is not None:
                return dx if dy.ndim == 2 else dx.reshape(*dy.shape[:-1], self.in_features)
        return np.matmul(dy, self.weight.data)  # type: ignore[no-any-return] # NumPy's stubs say Any

    def backward_parameters(self, dy: Array) -> None:
        """Set the gradients of weight and bias: a third of the work of `backward` less."""
        x = self._recall()
        dy = as_gradient(dy, (*x.shape[:-1], self.out_features), x.dtype, "Linear")
        dy, x = _as_rows(dy), _as_rows(x)
        dweight = self.weight.new_grad()
        dbias = None if self.bias is None else self.bias.new_grad()
        if _products is not None and _products.gradients(x, dy, dweight, dbias, get_num_threads):
            return
        if dweight.flags.c_contiguous:
            np.matmul(dy.T, x, out=dweight)
        else:
            np.matmul(x.T, dy, out=dweight.T)
        if dbias is not None:
            ones = self._ones
            if len(ones) != len(dy) or ones.dtype != dy.dtype:
                ones = self._ones = np.ones(len(dy), dy.dtype)
            # A product with ones sums the rows faster than np.add.reduce, and rounds less.
            np.matmul(ones, dy, out=dbias)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
