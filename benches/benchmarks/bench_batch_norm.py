"""Batch norm at the speed of memory: large arrays, results reused, with a copy beside it as the floor."""

from __future__ import annotations

import numpy as np

import normcore as nc

from .common import normal, vectors
from .shapes import NC, NCHW


class BatchNorm:
    """One call on each shape and dtype."""

    param_names = ("shape", "dtype")
    params = ([*NCHW, *NC], ["float32", "float64"])

    def setup(self, shape: tuple[int, ...], dtype: str) -> None:
        """Make arrays and a context."""
        self.x, self.dy = normal(shape, dtype), normal(shape, dtype, seed=1)
        self.out = np.empty_like(self.x)
        self.weight, self.bias, self.mean, self.var = vectors(shape[1], 4, dtype)
        _, self.ctx = nc.batch_norm_forward(self.x, self.weight, self.bias)

    def time_forward(self, *_: object) -> None:
        """Training mode."""
        nc.batch_norm_forward(
            self.x, self.weight, self.bias, running_mean=self.mean, running_var=self.var, out=self.out
        )

    def time_backward(self, *_: object) -> None:
        """All three gradients."""
        nc.batch_norm_backward(self.dy, self.ctx, out=self.out)

    def time_inference(self, *_: object) -> None:
        """With running statistics."""
        nc.batch_norm(self.x, self.mean, self.var, self.weight, self.bias, out=self.out)

    def time_stats(self, *_: object) -> None:
        """Mean and variance alone."""
        nc.batch_stats(self.x)

    def time_copy(self, *_: object) -> None:
        """The floor."""
        np.copyto(self.out, self.x)


class ChannelsLast:
    """The same values in memory order N, H, W, C."""

    param_names = ("shape",)
    params = (NCHW,)

    def setup(self, shape: tuple[int, ...]) -> None:
        """Make arrays."""
        n, c, h, w = shape
        self.x = normal((n, h, w, c))
        self.out = np.empty_like(self.x)

    def time_forward(self, *_: object) -> None:
        """Training mode."""
        nc.batch_norm_forward(self.x, axis=-1, out=self.out)
