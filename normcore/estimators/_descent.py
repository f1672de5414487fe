"""Epochs of Adam or SGD with scikit-learn's order of rows, penalty, learning rates and rules for stopping."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from normcore.nn import Module, Parameter
from normcore.nn._checks import Array
from normcore.optim import Optimizer
from normcore.training import Callback, Trainer
from normcore.training._data import batch_bounds
from normcore.training._listeners import Listeners

from . import _network, _steps
from ._objective import Objective
from ._rows import Rows
from ._weighted_norm import weighted_twin

if TYPE_CHECKING:
    from ._mlp import BaseMLP


@dataclass
class Data:
    """Rows with targets in the form that the objective takes, and weights or None."""

    rows: Rows
    target: Array
    weights: Array | None = None


def descend(
    estimator: BaseMLP,
    data: Data,
    validation: Data | None,
    objective: Objective,
    random_state: np.random.RandomState,
    optimizer: Optimizer,
    callbacks: Sequence[Callback],
    incremental: bool,
) -> None:
    """Train `estimator.model_` until its rules say stop, and keep its attributes up to date."""
    model = estimator.model_
    trainer = Trainer(model, optimizer, objective.loss, metrics=[])
    names = () if validation is None else ("val_loss", f"val_{estimator._score_name}")
    trainer.log_names = ("loss", *names)
    listeners = Listeners(callbacks)
    epoch = _Epoch(estimator, data, objective, optimizer, random_state, trainer, listeners)
    watch = _Watch(estimator, validation, objective)
    with ExitStack() as stack:
        stack.callback(model.eval)
        stack.callback(_network.forget, model)
        stack.callback(watch.restore)
        listeners.begin(trainer, stack, [])
        estimator.n_iter_ = 0
        try:
            for it in range(estimator.max_iter):
                started = time.perf_counter()
                for begins in listeners.epoch_begin:
                    begins(trainer, it)
                model.train()
                estimator.loss_ = epoch.run()
                model.eval()
                estimator.n_iter_ += 1
                estimator.t_ += len(data.rows)
                estimator.loss_curve_.append(estimator.loss_)
                if estimator.verbose:
                    print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
                watch.look()
                if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
                    _steps.set_lr(optimizer, estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t)
                if callbacks:
                    logs = {"loss": estimator.loss_, **dict(zip(names, watch.last, strict=True))}
                    trainer.history.append(logs, time.perf_counter() - started)
                    for ends in listeners.epoch_end:
                        ends(trainer, it, logs)
                if watch.has_ended(optimizer) or incremental or trainer.stop_training:
                    break
                if estimator.n_iter_ == estimator.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)


class _Epoch:
    """Goes through all rows once, a step for each batch."""

    def __init__(
        self,
        estimator: BaseMLP,
        data: Data,
        objective: Objective,
        optimizer: Optimizer,
        random_state: np.random.RandomState,
        trainer: Trainer,
        listeners: Listeners,
    ) -> None:
        count = len(data.rows)
        self._data, self._objective, self._optimizer = data, objective, optimizer
        self._trainer, self._listeners = trainer, listeners
        self._random_state = random_state
        self._order: Array | None = np.arange(count) if estimator.shuffle else None
        self._bounds = bounds(count, estimator._batch_rows(count), bool(_network.batch_norms(estimator.model_)))
        self._alpha, self._coefs = estimator.alpha, estimator.coefs_
        model = estimator.model_
        self._model: Module = model
        self._batch_norms = _network.batch_norms(model)
        self._weighted: Sequence[Any] = ()
        if data.weights is not None and self._batch_norms:
            self._model, self._weighted = weighted_twin(model, self._batch_norms)
            self._model.train()

    def run(self) -> float:
        """Train on every batch; the mean over rows of the loss and the penalty that each batch saw."""
        data, objective, optimizer, model = self._data, self._objective, self._optimizer, self._model
        penalised = optimizer.param_groups[_steps.DECAYED]
        begin, end = self._listeners.batch_begin, self._listeners.batch_end
        settling = _network.is_settling(self._batch_norms)
        if self._order is not None:
            # As sklearn.utils.shuffle does it: a permutation of the order of the epoch before.
            permutation = np.arange(len(self._order))
            self._random_state.shuffle(permutation)
            self._order = self._order[permutation]
        weights = None
        total = 0.0
        for batch, (start, stop) in enumerate(self._bounds):
            at: Any = slice(start, stop) if self._order is None else self._order[start:stop]
            if data.weights is not None:
                weights = data.weights[at]
                if not weights.any():
                    continue  # nothing in it counts
                for layer in self._weighted:
                    layer.rows = weights
            for hook in begin:
                hook(self._trainer, batch)
            output = model(data.rows.take(at))
            loss = objective.value(output, data.target[at], weights)
            if self._alpha:
                penalised["weight_decay"] = self._alpha / objective.mass
                loss += 0.5 * self._alpha * squares(self._coefs) / objective.mass
            model.backward_parameters(objective.gradient(weights))
            optimizer.step()
            total += loss * (stop - start)
            if settling:
                settling = _network.is_settling(self._batch_norms)
            for hook in end:
                hook(self._trainer, batch, {"loss": loss})
        return total / len(data.rows)


class _Watch:
    """Looks after every epoch whether it still gets better, and keeps the best weights for early stopping."""

    def __init__(self, estimator: BaseMLP, validation: Data | None, objective: Objective) -> None:
        self._estimator, self._validation, self._objective = estimator, validation, objective
        self._kept: list[tuple[Array, Array]] = []
        self.last: tuple[float, ...] = ()
        if estimator.early_stopping:
            self._keep()

    def _keep(self) -> None:
        self._kept = [(array, array.copy()) for array in _network.arrays(self._estimator.model_)]

    def restore(self) -> None:
        """Put the best weights back, with early stopping."""
        for array, best in self._kept:
            array[...] = best

    def look(self) -> None:
        """Count the epochs without a better loss, or validation score."""
        estimator = self._estimator
        if self._validation is not None:
            self._validate(self._validation)
        if not estimator.early_stopping:
            if estimator.loss_ > estimator.best_loss_ - estimator.tol:
                estimator._no_improvement_count += 1
            else:
                estimator._no_improvement_count = 0
            estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)

    def _validate(self, data: Data) -> None:
        estimator = self._estimator
        output = _network.outputs(estimator.model_, data.rows)
        loss = self._objective.value(output, data.target, data.weights)
        score = estimator._score_outputs(output, data) if np.isfinite(output).all() else float("nan")
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        estimator.validation_curve_.append(loss)
        estimator.validation_scores_.append(score)
        self.last = loss, score
        best = estimator.best_validation_score_
        if estimator.early_stopping:
            if score < best + estimator.tol:
                estimator._no_improvement_count += 1
            else:
                estimator._no_improvement_count = 0
            if score > best:
                self._keep()
        # Written so that NaN is never the best.
        estimator.best_validation_score_ = score if score > best else best

    def has_ended(self, optimizer: Optimizer) -> bool:
        """Whether there was no better epoch for long enough; "adaptive" goes on with a smaller learning rate."""
        estimator = self._estimator
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Validation score" if estimator.early_stopping else "Training loss"
        said = (
            f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive "
            "epochs."
        )
        ends, does = True, "Stopping."
        if estimator.solver == "sgd" and estimator.learning_rate == "adaptive":
            ends = optimizer.lr <= 1e-6
            if ends:
                does = "Learning rate too small. Stopping."
            else:
                _steps.set_lr(optimizer, optimizer.lr / 5.0)
                does = f"Setting learning rate to {optimizer.lr:f}"
                estimator._no_improvement_count = 0
        if estimator.verbose:
            print(f"{said} {does}")
        return ends


def bounds(rows: int, batch_size: int, has_batch_norm: bool) -> list[tuple[int, int]]:
    """Start and end of every batch: scikit-learn's, but no last one of a single row for batch norm."""
    if has_batch_norm:
        return batch_bounds(rows, batch_size)
    return [(start, min(start + batch_size, rows)) for start in range(0, rows, batch_size)]


def squares(coefs: Sequence[Array]) -> float:
    """The sum of the squares of all coefficients."""
    return sum(float(np.vdot(coef, coef)) for coef in coefs)


def parameters(estimator: BaseMLP) -> tuple[list[Parameter], list[Parameter]]:
    """Those that the penalty is about, and the others."""
    coefs = [layer.weight for layer in _network.linears(estimator.model_)]
    decayed = {id(coef) for coef in coefs}
    return coefs, [p for p in estimator.model_.parameters() if id(p) not in decayed]
