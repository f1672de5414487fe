"""Going through the rows once: to train, or to evaluate."""

from __future__ import annotations

from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from normcore.nn._checks import Array
from normcore.optim import clip_grad_norm_

from ._data import as_batch, batch_bounds
from ._errors import diverged
from ._fitting import Rows, model_dtype
from ._listeners import Listeners
from ._mode import mode
from ._pooled import PooledMetric
from ._scheduler import stepped

if TYPE_CHECKING:
    from .trainer import Trainer


class _Totals:
    """Loss and metrics over rows, from those of batches."""

    def __init__(self, trainer: Trainer) -> None:
        self._loss = self._weight = 0.0
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
        self._sums = [0.0] * len(self._names)

    def add(self, loss: float, weights: Array | None, output: Array, target: Array, logs: bool) -> dict[str, float]:
        """Take in a batch; with `logs`, return its own values."""
        rows = len(output)
        if self._is_sum:
            self._loss += loss
            self._weight += rows if weights is None else float(weights.sum())
        else:
            # What the loss itself divided by; the rows, for a loss of somebody else's.
            weight = getattr(self._criterion, "total_weight", None)
            if weight is None:
                weight = rows if weights is None else float(weights.sum())
            if weight:
                self._loss += loss * weight
                self._weight += weight
        sums = self._sums
        own = {}
        for i, metric in self._means:
            value = float(metric(output, target))
            sums[i] += value * rows
            own[i] = value
        for i, pooled, state in self._pooled:
            pooled.add(state, output, target)
            if logs:
                own[i] = float(pooled(output, target))
        return {"loss": loss, **{name: own[i] for i, name in enumerate(self._names)}} if logs else {}

    def means(self, rows: int) -> dict[str, float]:
        """The values over all rows."""
        values = [total / rows for total in self._sums]
        for i, pooled, state in self._pooled:
            values[i] = float(pooled.value(state))
        loss = self._loss / self._weight if self._weight else nan  # no row counted
        return {"loss": loss, **dict(zip(self._names, values, strict=True))}


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
    totals = _Totals(trainer)
    lr = optimizer.lr
    w = None
    for batch, (start, stop) in enumerate(bounds):
        for hook in begin:
            hook(trainer, batch)
        at: Any = slice(start, stop) if order is None else order[start:stop]
        target = y[at]
        output = model(as_batch(X[at], dtype))
        if weights is None:
            loss = float(criterion(output, target))
        else:
            w = weights[at]
            loss = float(criterion(output, target, sample_weight=w))  # type: ignore[call-arg] # fit has asked whether it takes them
        # A mean over rows of which none counts is NaN, and no divergence.
        if not isfinite(loss) and getattr(criterion, "total_weight", None) != 0:
            raise diverged("loss", loss, epoch, batch, optimizer.lr)
        model.backward_parameters(criterion.backward())
        if clip_norm is not None and not isfinite(norm := float(clip_grad_norm_(params, clip_norm))):
            raise diverged("norm of the gradients", norm, epoch, batch, optimizer.lr)
        optimizer.step()
        logs = totals.add(loss, w, output, target, bool(end))
        if schedule is not None:
            lr = optimizer.lr
            schedule.step()
        for hook in end:
            hook(trainer, batch, logs)
    # Without a schedule by batches the rate may still be a callback's.
    return totals.means(sum(stop - start for start, stop in bounds)), optimizer.lr if schedule is None else lr


def evaluate(trainer: Trainer, rows: Rows, batch_size: int) -> dict[str, float]:
    """Loss and metrics in evaluation mode."""
    X, y, weights, chosen = rows.X, rows.y, rows.weights, rows.chosen
    dtype = model_dtype(trainer, X)
    totals = _Totals(trainer)
    criterion = trainer.loss
    w = None
    with mode(trainer.model, training=False):
        for start, stop in batch_bounds(len(rows), batch_size):
            at: Any = slice(start, stop) if chosen is None else chosen[start:stop]
            output, target = trainer.model(as_batch(X[at], dtype)), y[at]
            if weights is None:
                loss = float(criterion(output, target))
            else:
                w = weights[at]
                loss = float(criterion(output, target, sample_weight=w))  # type: ignore[call-arg] # as in train
            totals.add(loss, w, output, target, False)
    return totals.means(len(rows))
