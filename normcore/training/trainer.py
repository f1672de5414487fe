"""Trainer: fit, evaluate and predict around a model, an optimiser and a loss."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from normcore._dispatch import asked_for
from normcore.nn import CrossEntropyLoss, Loss, Module, MSELoss
from normcore.nn._checks import Array, as_size
from normcore.nn.init import RandomState, as_generator
from normcore.optim import Adam, Optimizer

from . import metrics as _metrics
from ._data import batch_bounds, check_finite, check_inputs, check_pair
from .callback import Callback
from .history import History
from .progress import Progress


class Criterion(Protocol):
    """What the trainer needs of a loss object."""

    def __call__(self, output: Array, target: Any) -> Any:
        """Return the loss, a number."""

    def backward(self) -> Array:
        """Return its gradient with respect to the output."""


_LOSSES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropyLoss, "mse": MSELoss}


class Trainer:
    """Trains a model on arrays.

    Parameters
    ----------
    model : Module
        Any of `normcore.nn`, such as an `MLP`.
    optimizer : Optimizer, optional
        For the parameters of `model`. `Adam(model.parameters())` when not given.
    loss : "cross_entropy", "mse" or a loss object
        A loss object is called as `loss(output, target)`, returns a number, and has `backward()`, which returns the
        gradient of the output.
    metrics : optional
        Names ("accuracy"), functions `(output, target) -> float` that are means over rows, or a dict from name to
        either. When not given: accuracy for cross-entropy, nothing for other losses.

    Attributes
    ----------
    history : History
        Of the last `fit`, or of the running one: after Ctrl-C it holds the epochs that were finished.
    stop_training : bool
        A callback sets it to end training after the current epoch.

    Notes
    -----
    X of another float dtype than the model's is converted batch by batch. A last batch of a single row joins the batch
    before it (here and in `evaluate` and `predict`), so any batch size of at least 2 goes with any number of rows.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, or the optimizer has parameters of another model.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | None = None,
        loss: str | Criterion = "cross_entropy",
        metrics: _metrics.Metrics = None,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"Trainer: model must be a normcore.nn.Module, got {_kind(model)}.")
        if optimizer is None:
            optimizer = Adam(model.parameters())
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"Trainer: optimizer must be an optimizer object, got {_kind(optimizer)}; "
                "pass for instance normcore.optim.Adam(model.parameters(), lr=1e-3)."
            )
        own = {id(parameter) for parameter in model.parameters()}
        if not own.issuperset(id(parameter) for parameter in optimizer.params):
            raise ValueError(
                "Trainer: optimizer has parameters that are not in model; make it from this model's parameters()."
            )
        self.model = model
        self.optimizer = optimizer
        self.loss = _resolve_loss(loss)
        self._loss_is_sum = getattr(self.loss, "reduction", "mean") == "sum"
        if metrics is None and isinstance(self.loss, CrossEntropyLoss):
            metrics = "accuracy"
        self.metrics = _metrics.resolve(metrics)
        self.history = History()
        self.stop_training = False

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        seed: RandomState = None,
        shuffle: bool = True,
        callbacks: Iterable[Callback] | None = None,
        progress: bool = False,
    ) -> History:
        """Train, and return what happened. Called again, it goes on from where model and optimizer are.

        Afterwards the model is in the mode, training or evaluation, that it was in before.

        Parameters
        ----------
        X : array of shape (N, ...)
            Floating point and finite, also in the model's dtype.
        y : array with N rows
            What the loss takes: for cross-entropy, integer classes.
        epochs, batch_size : int
            How many times to go through the rows, and how many to take in a step.
        validation_data : pair (X, y), optional
            As X and y. Evaluated in evaluation mode after every epoch, under the names "val_loss", ...
        seed : None, int or numpy.random.Generator
            For the order of the rows. The same seed and starting values give the same bits.
        shuffle : bool
            Whether to go through the rows in a new random order in every epoch.
        callbacks : iterable of Callback
            See `Callback`.
        progress : bool
            Show a progress bar on stderr (with tqdm; without it, a line for each epoch).

        Returns
        -------
        History
            "loss" and metrics are means over the rows as seen while training, so each batch counts with the parameters
            of its step, and in training mode. This is Keras's convention. (A loss with ``reduction="sum"`` is summed
            and divided by the number of rows.)

        Raises
        ------
        ValueError, TypeError
            If data or arguments do not fit each other or the model. Nothing has been trained then.
        KeyboardInterrupt
            Passed on after tidying up: the model is usable, and `trainer.history` holds the finished epochs.
        """
        epochs = as_size(epochs, "epochs")
        batch_size = as_size(batch_size, "batch_size")
        X, y = check_pair(X, y)
        self._check_finite(X, y)
        y = self._check_fit(X, y)
        if validation_data is not None:
            validation_data = self._check_validation(validation_data, X)
        generator = as_generator(seed, "seed")
        listeners = _check_callbacks(callbacks)
        bounds = batch_bounds(len(X), batch_size)
        if bounds[-1] == (len(X) - 1, len(X)):
            self._check_single_row(X)

        if progress:
            listeners.append(Progress(epochs, len(bounds)))
        history = self.history = History()
        self.stop_training = False
        # Leaving the stack runs every on_train_end that is due, whatever ended the training; then the mode is restored.
        with _mode(self.model, training=True), ExitStack() as stack:
            for callback in listeners:
                stack.callback(callback.on_train_end, self)
                callback.on_train_begin(self)
            for epoch in range(epochs):
                started = time.perf_counter()
                for callback in listeners:
                    callback.on_epoch_begin(self, epoch)
                order = generator.permutation(len(X)) if shuffle else None
                logs = self._train_epoch(X, y, bounds, order, listeners)
                if validation_data is not None:
                    scores = self._evaluate(*validation_data, batch_size)
                    logs.update({f"val_{name}": value for name, value in scores.items()})
                history.append(logs, time.perf_counter() - started)
                for callback in listeners:
                    callback.on_epoch_end(self, epoch, logs)
                if self.stop_training:
                    break
        return history

    def evaluate(self, X: ArrayLike, y: ArrayLike, batch_size: int = 256) -> dict[str, float]:
        """Return the loss and the metrics, means over rows, in evaluation mode.

        The model's mode is restored afterwards.

        Parameters
        ----------
        X, y : array
            As for `fit`.
        batch_size : int
            Rows at a time.

        Returns
        -------
        dict of str to float
            "loss", and the metrics by name.

        Raises
        ------
        ValueError, TypeError
            If data or arguments do not fit each other or the model.
        """
        batch_size = as_size(batch_size, "batch_size")
        X, y = check_pair(X, y)
        y = self._check_fit(X, y)
        return self._evaluate(X, y, batch_size)

    def predict(self, X: ArrayLike, batch_size: int = 256) -> Array:
        """Return the model's raw outputs for X, in evaluation mode: for cross-entropy these are logits.

        `trainer.predict(X).argmax(1)` are the classes. The model's mode is restored afterwards.

        Parameters
        ----------
        X : array of shape (N, ...)
            Floating point.
        batch_size : int
            Rows at a time.

        Returns
        -------
        ndarray
            One output for each row, in the dtype of the model.

        Raises
        ------
        ValueError, TypeError
            If X does not fit the model.
        """
        batch_size = as_size(batch_size, "batch_size")
        X = check_inputs(X)
        dtype = self._dtype(X)
        outputs: Array | None = None
        with _mode(self.model, training=False):
            for start, stop in batch_bounds(len(X), batch_size) or [(0, 0)]:
                output = self.model(_as_batch(X[start:stop], dtype))
                if outputs is None:
                    outputs = np.empty((len(X), *output.shape[1:]), output.dtype)
                outputs[start:stop] = output
        assert outputs is not None
        return outputs

    # Inside

    def _train_epoch(
        self, X: Array, y: Array, bounds: list[tuple[int, int]], order: Array | None, callbacks: list[Callback]
    ) -> dict[str, float]:
        model, criterion, optimizer = self.model, self.loss, self.optimizer
        totals = dict.fromkeys(("loss", *self.metrics), 0.0)
        dtype = self._dtype(X)
        for batch, (start, stop) in enumerate(bounds):
            rows: Any = slice(start, stop) if order is None else order[start:stop]
            target = y[rows]
            output = model(_as_batch(X[rows], dtype))
            logs = {"loss": float(criterion(output, target))}
            model.backward(criterion.backward())
            optimizer.step()
            self._score(output, target, logs)
            self._add(totals, logs, stop - start)
            for callback in callbacks:
                callback.on_batch_end(self, batch, logs)
        return {name: total / len(X) for name, total in totals.items()}

    def _score(self, output: Array, target: Array, logs: dict[str, float]) -> None:
        """Put the metrics of a batch into `logs`."""
        for name, metric in self.metrics.items():
            logs[name] = float(metric(output, target))

    def _add(self, totals: dict[str, float], logs: dict[str, float], rows: int) -> None:
        """Add the values of a batch to the sums over rows."""
        for name, value in logs.items():
            totals[name] += value if name == "loss" and self._loss_is_sum else value * rows

    def _evaluate(self, X: Array, y: Array, batch_size: int) -> dict[str, float]:
        totals = dict.fromkeys(("loss", *self.metrics), 0.0)
        dtype = self._dtype(X)
        with _mode(self.model, training=False):
            for start, stop in batch_bounds(len(X), batch_size):
                output, target = self.model(_as_batch(X[start:stop], dtype)), y[start:stop]
                logs = {"loss": float(self.loss(output, target))}
                self._score(output, target, logs)
                self._add(totals, logs, stop - start)
        return {name: total / len(X) for name, total in totals.items()}

    def _check_finite(self, X: Array, y: Array, names: tuple[str, str] = ("X", "y")) -> None:
        dtype = self._dtype(X)
        check_finite(X, names[0], dtype)
        # Ours convert the target; what a loss of somebody else's does with it is its own affair.
        check_finite(y, names[1], dtype if isinstance(self.loss, Loss) else None)

    def _check_fit(self, X: Array, y: Array, names: tuple[str, str] = ("X", "y")) -> Array:
        """Try two rows in evaluation mode, which changes nothing, and let the loss look at all targets."""
        asked_for()  # raises for a wrong NORMCORE_BACKEND, which is no fault of X
        try:
            with _mode(self.model, training=False):
                output = self.model(_as_batch(X[:2], self._dtype(X)))
        except (TypeError, ValueError) as error:
            raise _kind_of(error)(f"{names[0]} does not fit the model: {error}") from None
        check = getattr(self.loss, "check_target", None)
        if check is None:
            return y
        try:
            return check(y, (len(X), *output.shape[1:]))  # type: ignore[no-any-return] # NumPy's stubs say Any
        except (TypeError, ValueError) as error:
            raise _kind_of(error)(f"{names[1]} does not fit the loss and the model's output: {error}") from None

    def _check_single_row(self, X: Array) -> None:
        """Try a batch of one row in training mode, as `fit` is going to, and put everything back.

        Batch norm over (N, C) refuses such a batch, but a layer before it may by then have updated its statistics.
        """
        before = [(buffer, buffer.copy()) for buffer in self.model.buffers()]
        with _mode(self.model, training=True):
            try:
                self.model(_as_batch(X[:1], self._dtype(X)))
            finally:
                for buffer, was in before:
                    buffer[...] = was

    def _check_validation(self, data: Any, X: Array) -> tuple[Array, Array]:
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(f"validation_data must be a pair (X, y), got {_kind(data)}.")
        names = ("validation_data's X", "validation_data's y")
        Xv, yv = check_pair(data[0], data[1], names)
        if Xv.shape[1:] != X.shape[1:]:
            raise ValueError(
                f"validation_data's X has rows of shape {Xv.shape[1:]}, but X has rows of shape {X.shape[1:]}."
            )
        self._check_finite(Xv, yv, names)
        return Xv, self._check_fit(Xv, yv, names)

    def _dtype(self, X: Array) -> np.dtype[Any]:
        parameter = next(self.model.parameters(), None)
        return X.dtype if parameter is None else parameter.dtype

    def __repr__(self) -> str:
        return (
            f"Trainer(optimizer={self.optimizer!r}, loss={self.loss!r}, metrics={list(self.metrics)})\n{self.model!r}"
        )


@contextmanager
def _mode(model: Module, training: bool) -> Iterator[None]:
    """Put the model into a mode, and afterwards each of its layers back into the mode that it had."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


def _kind_of(error: Exception) -> type[Exception]:
    return TypeError if isinstance(error, TypeError) else ValueError


def _check_callbacks(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of Callback objects, got {_kind(callbacks)}; put it into a list.")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks must hold Callback objects, got {_kind(callback)}; "
                "derive its class from normcore.training.Callback, and pass an object of it."
            )
    return found


def _as_batch(batch: Array, dtype: np.dtype[Any]) -> Array:
    return batch.astype(dtype, copy=False)


def _resolve_loss(loss: Any) -> Criterion:
    known = ", ".join(map(repr, _LOSSES))
    if isinstance(loss, str):
        if loss not in _LOSSES:
            raise ValueError(f"Trainer: loss must be one of {known} or a loss object, got {loss!r}.")
        return _LOSSES[loss]()
    if isinstance(loss, type) or not callable(loss) or not callable(getattr(loss, "backward", None)):
        raise TypeError(f"Trainer: loss must be one of {known} or a loss object with backward(), got {_kind(loss)}.")
    if getattr(loss, "reduction", "mean") == "none":
        raise ValueError("Trainer: loss has reduction='none', but training needs one number; use 'mean' or 'sum'.")
    return cast(Criterion, loss)


def _kind(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if isinstance(value, str) else type(value).__name__
