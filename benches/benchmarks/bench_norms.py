"""The norms of rows: layer, RMS, group, instance. A norm that this normcore does not have is skipped."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc

from .common import normal, vectors
from .shapes import IMAGES, NUM_GROUPS, ROWS


class _Norm:
    """Forward with a context and backward, results reused; the subclasses say what is called."""

    param_names = ("shape", "dtype")
    params: tuple[list[tuple[int, ...]], list[str]] = (ROWS, ["float32", "float16"])
    name = ""

    def arguments(self, weight: Any, bias: Any) -> tuple[Any, ...]:
        """What stands behind x."""
        return weight, bias

    def setup(self, shape: tuple[int, ...], dtype: str) -> None:
        """Make arrays and a context."""
        if not hasattr(nc, f"{self.name}_forward"):
            raise NotImplementedError(f"normcore has no {self.name}_forward")  # which asv takes for a skip
        self.forward, self.backward = getattr(nc, f"{self.name}_forward"), getattr(nc, f"{self.name}_backward")
        self.x, self.dy = normal(shape, dtype), normal(shape, dtype, seed=1)
        self.out = np.empty_like(self.x)
        length = shape[-1] if self.params[0] is ROWS else shape[1]
        self.rest = self.arguments(*vectors(length, 2, dtype))
        _, self.ctx = self.forward(self.x, *self.rest)

    def time_forward(self, *_: object) -> None:
        """With a context."""
        self.forward(self.x, *self.rest, out=self.out)

    def time_backward(self, *_: object) -> None:
        """All gradients."""
        self.backward(self.dy, self.ctx, out=self.out)


class LayerNorm(_Norm):
    """Over the last axis."""

    name = "layer_norm"

    def arguments(self, weight: Any, bias: Any) -> tuple[Any, ...]:
        """With the normalised shape."""
        return (len(weight),), weight, bias


class RMSNorm(_Norm):
    """Over the last axis, without a mean or a bias."""

    name = "rms_norm"

    def arguments(self, weight: Any, bias: Any) -> tuple[Any, ...]:  # noqa: ARG002 - the base's signature
        """With the normalised shape."""
        return (len(weight),), weight


class GroupNorm(_Norm):
    """Over groups of channels."""

    name = "group_norm"
    params = (IMAGES, ["float32", "float16"])

    def arguments(self, weight: Any, bias: Any) -> tuple[Any, ...]:
        """With the number of groups."""
        return NUM_GROUPS, weight, bias


class InstanceNorm(_Norm):
    """Over every channel of every sample."""

    name = "instance_norm"
    params = (IMAGES, ["float32", "float16"])
