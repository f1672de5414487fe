"""NumPy, the formulas written with care: in place in a reused result. Half precision is computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benches.cases import EPS, MOMENTUM, Array, Problem, view
from normcore import _bench

from .base import Contender, Ways


def _batch_forward(p: Problem) -> Callable[[], Array]:
    y, running_mean, running_var = np.zeros_like(p.x), p.mean.copy(), p.var.copy()
    n = p.x.size // p.mean.size
    keep, new = p.x.dtype.type(1 - MOMENTUM), p.x.dtype.type(MOMENTUM)

    def forward() -> Array:
        _, mean, rstd = _bench.numpy_forward(p.x, p.weight, p.bias, y)
        var = (1 / (rstd * rstd)).ravel() * p.x.dtype.type(n / (n - 1))
        np.add(keep * running_mean, new * mean.ravel(), out=running_mean)
        np.add(keep * running_var, new * var, out=running_var)
        return y

    return forward


def _batch_backward(p: Problem) -> Callable[[], Array]:
    dx = np.zeros_like(p.x)
    _, mean, rstd = _bench.numpy_forward(p.x, p.weight, p.bias, dx)
    return lambda: _bench.numpy_backward(p.dy, p.x, p.weight, mean, rstd, dx)[0]


def _batch_inference(p: Problem) -> Callable[[], Array]:
    y = np.zeros_like(p.x)
    return lambda: _bench.numpy_inference(p.x, p.mean, p.var, p.weight, p.bias, y)


class Rows:
    """The norms whose statistics belong to a contiguous run: layer, RMS, group, instance."""

    def __init__(self, p: Problem) -> None:
        seen = view(p.case)
        groups = len(seen.axes) == 2  # (N, G, C/G, S), and weights over two of the axes
        self.segments = (-1, p.weight.size, seen.shape[-1]) if groups else (-1, p.weight.size)
        self.columns = (p.weight.size, 1) if groups else (p.weight.size,)
        self.length = int(np.prod([seen.shape[axis] for axis in seen.axes]))
        self.centred = p.case.op != "rms_norm"
        self.p = p
        self.out, self.scratch = np.zeros_like(p.x), np.zeros_like(p.x)
        self.weight, self.bias = (v.reshape(self.columns) for v in (p.weight, p.bias))

    def forward(self) -> Array:
        """Into `out`."""
        self.normalise()
        y = self.out.reshape(self.segments)
        y *= self.weight
        if self.centred:
            y += self.bias
        return self.out

    def normalise(self) -> Array:
        """Leave xhat in `out`; return 1/std."""
        x, xhat = self.p.x.reshape(-1, self.length), self.out.reshape(-1, self.length)
        source = np.subtract(x, x.mean(1, keepdims=True), out=xhat) if self.centred else x
        rstd: Array = 1 / np.sqrt(np.einsum("ij,ij->i", source, source) / self.length + x.dtype.type(EPS))[:, None]
        np.multiply(source, rstd, out=xhat)
        return rstd

    def backward(self) -> Callable[[], Array]:
        """Remember the statistics; return what computes the gradients."""
        mean = self.p.x.reshape(-1, self.length).mean(1, keepdims=True)
        rstd = self.normalise()

        def gradients() -> Array:
            x, dy = self.p.x.reshape(-1, self.length), self.p.dy
            xhat, g = self.out.reshape(-1, self.length), self.scratch.reshape(-1, self.length)
            if self.centred:
                np.subtract(x, mean, out=xhat)
                xhat *= rstd
                self._sum("ncs->nc", dy)
            else:
                np.multiply(x, rstd, out=xhat)
            self._sum("ncs,ncs->nc", dy, self.out)
            np.multiply(dy.reshape(self.segments), self.weight, out=self.scratch.reshape(self.segments))
            xhat *= (np.einsum("ij,ij->i", g, xhat) / self.length)[:, None]
            if self.centred:
                g -= g.mean(1, keepdims=True)
            g -= xhat
            g *= rstd
            return self.scratch

        return gradients

    def _sum(self, subscripts: str, *arrays: Array) -> Array:
        """The sum over all but the channels."""
        seen = [array.reshape(self.segments) for array in arrays]
        if len(self.segments) == 3:
            total: Array = np.einsum(subscripts, *seen).sum(0)
        elif len(seen) == 1:
            total = seen[0].sum(0)
        else:
            total = np.einsum("nc,nc->c", *seen)
        return total


def _prepare(p: Problem) -> Callable[[], Array]:
    batch = {"forward": _batch_forward, "backward": _batch_backward, "inference": _batch_inference}
    if p.case.op == "batch_norm":
        return batch[p.case.direction](p)
    rows = Rows(p)
    return rows.forward if p.case.direction == "forward" else rows.backward()


def _ways(p: Problem) -> Ways:
    if p.x.itemsize > 2:
        return {"in place": _prepare(p)}
    wide = {name: getattr(p, name).astype(np.float32) for name in ("x", "dy", "weight", "bias", "mean", "var")}
    q = replace(p, **wide)
    call = _prepare(q)
    out = np.zeros_like(p.x)

    def converted() -> Any:
        np.copyto(q.x, p.x)
        if p.case.direction == "backward":
            np.copyto(q.dy, p.dy)
        np.copyto(out, call(), casting="same_kind")
        return out

    return {"in float32": converted}


NUMPY = Contender("NumPy", _ways, peer=True)
