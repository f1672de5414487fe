"""Going through the rows once: to train, or to evaluate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.nn._checks import Array
from normcore.optim import clip_grad_norm_

from ._data import as_batch, batch_bounds
from ._errors import as_value, diverged, quiet
from ._fitting import Rows, ignored, model_dtype, not_ignored
from ._listeners import Listeners
from ._mode import mode
from ._pooled import PooledMetric
from ._scheduler import stepped

if TYPE_CHECKING:
    from .trainer import Trainer


class _Totals:
    """Loss and metrics over rows, from those of batches.

    Metrics do not see rows that the loss ignores: their targets are no classes.
    """

    def __init__(self, trainer: Trainer, rows: Rows) -> None:
        self._ignored = ignored(trainer, rows.y)
        self._rows = 0
        self._loss = self._weight = 0.0
        self._unit = 1.0 if rows.weights is None else _unit(rows.weights)
        self._is_sum = getattr(trainer.loss, "reduction", "mean") == "sum"
        self._criterion = trainer.loss
        self._names = list(trainer.metrics)
        self._means = [
            (i, metric) for i, metric in enumerate(trainer.metrics.values()) if not isinstance(metric, PooledMetric)
        ]
        self._pooled = [
            (i, metric, metric.start())
            for i, metric in enumerate(trainer.metrics.values())
            if isinstance(metric, PooledMetric)
        ]
        # What is the user's runs with the user's settings.
        self._settings = None if all(map(_comes_with_us, trainer.metrics.values())) else np.geterr()
        self._sums = [0.0] * len(self._names)
        self._last = [0.0] * len(self._names)

    def add(self, loss: float, weights: Array | None, output: Array, target: Array) -> None:
        """Take in a batch. Called in every step of a training, so it makes nothing that nobody asked for."""
        rows = len(output)
        if self._is_sum:
            weight: float = rows if weights is None else float(weights.sum())
            self._loss += loss * self._unit
            self._weight += weight * self._unit
        else:
            # What the loss itself divided by; the rows, for a loss of somebody else's.
            weight = getattr(self._criterion, "total_weight", -1.0)
            if weight < 0:
                weight = rows if weights is None else float(weights.sum())
            if weight:
                weight *= self._unit
                self._loss += loss * weight
                self._weight += weight
        if self._ignored is not None:
            output, target = not_ignored(output, target, self._ignored)
            rows = len(target)
            if not rows:
                self._last = [nan] * len(self._names)
                return
        self._rows += rows
        if self._settings is None:
            self._add_metrics(output, target, rows)
        else:
            with np.errstate(**self._settings):
                self._add_metrics(output, target, rows)

    def _add_metrics(self, output: Array, target: Array, rows: int) -> None:
        for i, metric in self._means:
            self._last[i] = value = self._checked(i, metric(output, target))
            self._sums[i] += value * rows
        for _, pooled, state in self._pooled:
            pooled.add(state, output, target)

    def _checked(self, i: int, value: Any) -> float:
        return value if type(value) is float else as_value(value, f"metrics: {self._names[i]!r}")

    def logs(self, loss: float, output: Array, target: Array) -> dict[str, float]:
        """Loss and metrics of the batch that was added last, alone."""
        if self._ignored is not None:
            output, target = not_ignored(output, target, self._ignored)
        for i, pooled, _ in self._pooled if len(target) else []:
            self._last[i] = self._checked(i, pooled(output, target))
        return {"loss": loss, **dict(zip(self._names, self._last, strict=True))}

    def means(self) -> dict[str, float]:
        """The values over all rows."""
        values = [total / self._rows if self._rows else nan for total in self._sums]
        for i, pooled, state in self._pooled if self._rows else []:
            values[i] = self._checked(i, pooled.value(state))
        loss = self._loss / self._weight if self._weight else nan  # no row counted
        return {"loss": loss, **dict(zip(self._names, values, strict=True))}


def _unit(weights: Array) -> float:
    """A power of 2 that brings weights near 1: loss * weight must not leave float64."""
    exponent = int(np.frexp(np.maximum.reduce(weights, initial=0.0))[1])
    return 2.0 ** min(1000, max(-1000, -exponent))


def _comes_with_us(metric: object) -> bool:
    return str(getattr(metric, "__module__", "")).startswith("normcore.")


def _picker(X: Array, order: Array | None) -> Callable[[Any], Array]:
    """What gives the rows of a batch: the quickest way that does not read all of X."""
    # take is several times quicker on short rows, but copies an array whole whose memory has gaps.
    if order is not None and type(X) is np.ndarray and X.flags.c_contiguous:
        return partial(X.take, axis=0)
    return X.__getitem__


def train(
    trainer: Trainer,
    rows: Rows,
    bounds: list[tuple[int, int]],
    order: Array | None,
    epoch: int,
    listeners: Listeners | None,
) -> tuple[dict[str, float], float]:
    """Step through the batches of `order`; returns what was seen on the way, and the learning rate of the last step."""
    model, criterion, optimizer = trainer.model, trainer.loss, trainer.optimizer
    X, y, weights = rows.X, rows.y, rows.weights
    dtype, clip_norm = model_dtype(trainer, X), trainer.clip_norm
    params = optimizer.params
    schedule = stepped(trainer.scheduler, per_epoch=False)
    begin = listeners.batch_begin if listeners else []
    end = listeners.batch_end if listeners else []
    totals, pick = _Totals(trainer, rows), _picker(X, order)
    lr = optimizer.lr
    w = None
    theirs = np.geterr()  # what is the user's runs with the user's settings
    with np.errstate(**quiet()):
        for batch, (start, stop) in enumerate(bounds):
            if begin:
                with np.errstate(**theirs):
                    for hook in begin:
                        hook(trainer, batch)
            at: Any = slice(start, stop) if order is None else order[start:stop]
            target = y[at]
            output = model(as_batch(pick(at), dtype))
            if weights is None:
                loss = as_value(criterion(output, target), "the loss")
            else:
                w = weights[at]
                loss = as_value(criterion(output, target, sample_weight=w), "the loss")  # type: ignore[call-arg] # fit has asked whether it takes them
            # A mean over rows of which none counts is NaN, and no divergence.
            if not isfinite(loss) and getattr(criterion, "total_weight", None) != 0:
                raise diverged("loss", loss, epoch, batch, optimizer.lr)
            model.backward_parameters(criterion.backward())
            if clip_norm is not None and not isfinite(norm := float(clip_grad_norm_(params, clip_norm))):
                raise diverged("norm of the gradients", norm, epoch, batch, optimizer.lr)
            optimizer.step()
            totals.add(loss, w, output, target)
            if schedule is not None:
                lr = optimizer.lr
                schedule.step()
            if end:
                with np.errstate(**theirs):
                    logs = totals.logs(loss, output, target)
                    for hook in end:
                        hook(trainer, batch, logs)
    # Without a schedule by batches the rate may still be a callback's.
    return totals.means(), optimizer.lr if schedule is None else lr


def evaluate(trainer: Trainer, rows: Rows, batch_size: int) -> dict[str, float]:
    """Loss and metrics in evaluation mode."""
    X, y, weights, chosen = rows.X, rows.y, rows.weights, rows.chosen
    dtype = model_dtype(trainer, X)
    totals = _Totals(trainer, rows)
    criterion = trainer.loss
    w = None
    with mode(trainer.model, training=False), np.errstate(**quiet()):
        for start, stop in batch_bounds(len(rows), batch_size):
            at: Any = slice(start, stop) if chosen is None else chosen[start:stop]
            output, target = trainer.model(as_batch(X[at], dtype)), y[at]
            if weights is None:
                loss = as_value(criterion(output, target), "the loss")
            else:
                w = weights[at]
                loss = as_value(criterion(output, target, sample_weight=w), "the loss")  # type: ignore[call-arg] # as in train
            totals.add(loss, w, output, target)
    return totals.means()
