"""Trainer: fit, evaluate and predict around a model, an optimiser and a loss."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack

import numpy as np
from numpy.typing import ArrayLike

from normcore.nn import BCEWithLogitsLoss, CrossEntropyLoss, Module
from normcore.nn._checks import Array, as_bool, as_number, as_size
from normcore.nn.init import RandomState, as_generator
from normcore.optim import Adam, Optimizer

from . import _checkpoint, _passes
from . import metrics as _metrics
from ._criterion import Criterion, resolve_loss
from ._data import as_batch, batch_bounds, check_inputs
from ._errors import kind
from ._files import as_path
from ._fitting import (
    check_fit,
    check_fraction,
    check_single_row,
    check_validation,
    cut,
    model_dtype,
    output_of,
    weighted,
)
from ._listeners import Listeners, check_callbacks
from ._mode import mode
from ._optimizer import check_optimizer
from ._random import seed_layers
from ._run import Run, described
from ._scheduler import Scheduler, check_length, check_scheduler, stepped
from ._weights import ClassWeight
from .callback import Callback
from .history import History
from .progress import Progress


class Trainer:
    """Trains a model on arrays.

    Parameters
    ----------
    model : Module
    optimizer : Optimizer, optional
        For the parameters of `model`. `Adam(model.parameters())` when not given.
    loss : "cross_entropy", "mse", "bce_with_logits" or a loss object
        A loss object is called as `loss(output, target)`, returns a number, and has `backward()`, which returns the
        gradient of the output. To take weights it is called as `loss(output, target, sample_weight=w)`.
    metrics : optional
        Names ("accuracy", "binary_accuracy", "top_5_accuracy" for any number, "f1", "mse", "rmse", "mae", "r2"),
        functions `(output, target) -> float` that are means over rows, a `PooledMetric`, or a dict from name to any of
        these. When not given: accuracy for the two classification losses, nothing for other losses. Metrics do not
        look at weights, and do not get rows whose target is the `ignore_index` of the loss.
    scheduler : optional
        A learning-rate schedule. Its `step()` is called after each step of the optimiser, or after each epoch when its
        attribute `per_epoch` is true. The history then has the learning rate of each epoch's last step under "lr".
    clip_norm : float, optional
        Scales the gradients of every step down to this norm together (`normcore.optim.clip_grad_norm_`).

    Attributes
    ----------
    history : History
        Of the last `fit`, or of the running one: after Ctrl-C it holds the epochs that were finished.
    stop_training : bool
        A callback sets it to end training after the current epoch.
    log_names : tuple of str
        The names that the logs of every epoch have, set when `fit` begins.

    Notes
    -----
    X of another float dtype than the model's is converted batch by batch. A last batch of a single row joins the batch
    before it (here and in `evaluate` and `predict`), so any batch size of at least 2 goes with any number of rows. A
    batch size of 1 goes with every model that can be trained on one row, which batch norm over (N, C) cannot: `fit`
    then says so before it begins.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, or the optimizer has parameters of another model, or the scheduler another optimizer.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | None = None,
        loss: str | Criterion = "cross_entropy",
        metrics: _metrics.Metrics = None,
        scheduler: Scheduler | None = None,
        clip_norm: float | None = None,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"Trainer: model must be a normcore.nn.Module, got {kind(model)}.")
        self.model = model
        self.optimizer = check_optimizer(Adam(model.parameters()) if optimizer is None else optimizer, model)
        self.loss = resolve_loss(loss)
        binary = isinstance(self.loss, BCEWithLogitsLoss)
        if metrics is None and (binary or isinstance(self.loss, CrossEntropyLoss)):
            metrics = "accuracy"
        self.metrics = _metrics.resolve(metrics, binary, isinstance(self.loss, CrossEntropyLoss))
        self.scheduler = check_scheduler(scheduler, self.optimizer)
        self.clip_norm = None if clip_norm is None else as_number(clip_norm, "clip_norm", "Trainer", "(0, inf)")
        self.history = History()
        self.stop_training = False
        self.log_names: tuple[str, ...] = ()
        self._run: Run | None = None

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
        *,
        validation_split: float = 0.0,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        resume: bool = False,
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
            For the order of the rows and the validation split. The same seed and starting values give the same bits: an
            int also sets the random generators that layers such as dropout hold, a Generator leaves them alone.
        shuffle : bool
            Whether to go through the rows in a new random order in every epoch.
        callbacks : iterable of Callback
            See `Callback`.
        progress : bool
            Show a progress bar on stderr (with tqdm; without it, a line for each epoch).
        validation_split : float
            Share of the rows to validate with instead of `validation_data`, from 0 to below 1. Drawn at random with
            `seed`, in equal shares of every class where y holds integer classes. (Keras takes the last rows, which is
            wrong for sorted data.) Their `sample_weight` counts in "val_loss".
        sample_weight : array of shape (N,), optional
            How much each row counts in the loss, `sum(w * l) / sum(w)` in every batch; finite and not negative.
        class_weight : dict or "balanced", optional
            How much each class in y counts, multiplied into `sample_weight`; 1 for classes that the dict leaves out.
            "balanced" is scikit-learn's `rows / (classes * rows of the class)`, of the rows that are trained on. Like
            Keras's it does not count in "val_loss".
        resume : bool
            Go on with the training that `load_checkpoint` restored or that was interrupted, up to `epochs` epochs in
            all: the history continues, the order of rows goes on where it was (`seed` is not used), and callbacks get
            back what they remembered. A training that a callback has ended stays ended, unless `stop_training` is set
            to False first. If there is nothing to go on with, begin. So one script, run again and again,
            finishes what it began. X and y of another shape or dtype than the training began with are refused.

        Returns
        -------
        History
            "loss" and metrics are means over the rows as seen while training, so each batch counts with the parameters
            of its step, and in training mode. This is Keras's convention. (A loss with ``reduction="sum"`` is summed
            and divided by the number of rows, or by the sum of their weights.)

        Raises
        ------
        ValueError, TypeError
            If data or arguments do not fit each other or the model. Nothing has been trained then.
        DivergenceError
            If the loss of a batch is NaN or infinite; see there for what is left.
        KeyboardInterrupt
            Passed on after tidying up: the model is usable, and `trainer.history` holds the finished epochs.
        """
        epochs = as_size(epochs, "epochs")
        batch_size = as_size(batch_size, "batch_size")
        shuffle, progress = as_bool(shuffle, "shuffle"), as_bool(progress, "progress")
        resume = as_bool(resume, "resume")
        rows = check_fit(self, X, y, sample_weight)
        validation = None if validation_data is None else check_validation(self, validation_data, rows.X)
        share = check_fraction(validation_split, len(rows), validation_data)
        generator = as_generator(seed, "seed")
        heard = check_callbacks(callbacks)
        before = self._run if resume else None
        split, about = bool(share), described(rows.X, rows.y)
        run = Run.begin(generator, split, about) if before is None else before.go_on(split, about)
        if run.split_seed is not None:
            rows, validation = cut(rows, share, run.split_seed)
        rows = weighted(rows, class_weight, self)
        bounds = batch_bounds(len(rows), batch_size)
        if bounds[-1] == (len(rows) - 1, len(rows)):
            check_single_row(self, rows)
        check_length(self.scheduler, epochs - (len(self.history) if before else 0), len(bounds))

        if before is None:
            self.history = History()
            self.stop_training = False
            if seed is not None and seed is not generator:
                seed_layers(self.model, int(seed))  # type: ignore[arg-type] # a Generator is the generator itself
        history, done = self.history, len(self.history)
        if progress:
            heard.append(Progress(epochs, len(bounds), done))
        logs_lr = self.scheduler is not None or any(callback.changes_lr for callback in heard)
        names = ("loss", *self.metrics)
        self.log_names = names + (() if validation is None else tuple(f"val_{name}" for name in names))
        self.log_names += ("lr",) if logs_lr else ()
        by_epoch = stepped(self.scheduler, per_epoch=True)
        listeners, states = Listeners(heard), run.states()
        self._run = run
        # Leaving the stack runs every on_train_end that is due, whatever ended the training; then the mode is restored.
        with mode(self.model, training=True), ExitStack() as stack:
            listeners.begin(self, stack, states)
            # Not before: if one refuses to begin, what was remembered is still there for another try.
            run.listeners = listeners
            stack.callback(history._trim)
            for epoch in range(epochs if before and self.stop_training else done, epochs):
                started = time.perf_counter()
                for begins in listeners.epoch_begin:
                    begins(self, epoch)
                order = run.order(len(rows), rows.chosen, shuffle)
                logs, lr = _passes.train(self, rows, bounds, order, epoch, listeners)
                if validation is not None:
                    scores = _passes.evaluate(self, validation, batch_size)
                    logs.update({f"val_{name}": value for name, value in scores.items()})
                if logs_lr:
                    logs["lr"] = lr
                if by_epoch is not None:
                    by_epoch.step()
                history.append(logs, time.perf_counter() - started)
                for ends in listeners.epoch_end:
                    ends(self, epoch, logs)
                if self.stop_training:
                    break
        return history

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        batch_size: int | None = None,
    ) -> dict[str, float]:
        """Go once through these rows, in the order they have, and return their loss and metrics.

        For data that come in parts. Neither `history` nor callbacks take part; a schedule that steps by batches does.

        Parameters
        ----------
        X, y, sample_weight : array
            As for `fit`.
        batch_size : int, optional
            Rows in a step. When not given, a single step with all of them.

        Returns
        -------
        dict of str to float
            "loss" and the metrics, as seen while training.

        Raises
        ------
        ValueError, TypeError, DivergenceError
            As `fit`.
        """
        rows = check_fit(self, X, y, sample_weight, "partial_fit")
        bounds = batch_bounds(len(rows), len(rows) if batch_size is None else as_size(batch_size, "batch_size"))
        if bounds[-1] == (len(rows) - 1, len(rows)):
            check_single_row(self, rows)
        with mode(self.model, training=True):
            return _passes.train(self, rows, bounds, None, len(self.history), None)[0]

    def evaluate(
        self, X: ArrayLike, y: ArrayLike, batch_size: int = 256, sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        """Return the loss and the metrics, means over rows, in evaluation mode.

        The model's mode is restored afterwards.

        Parameters
        ----------
        X, y : array
            As for `fit`.
        batch_size : int
            Rows at a time.
        sample_weight : array of shape (N,), optional
            How much each row counts in the loss.

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
        return _passes.evaluate(self, check_fit(self, X, y, sample_weight, "evaluate"), batch_size)

    def predict(self, X: ArrayLike, batch_size: int = 256) -> Array:
        """Return the model's raw outputs for X, in evaluation mode: for cross-entropy these are logits.

        `trainer.predict(X).argmax(1)` are the classes. The model's mode is restored afterwards. Several threads may
        predict at once; what trains or evaluates is for one thread at a time.

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
        dtype = model_dtype(self, X)
        outputs: Array | None = None
        with mode(self.model, training=False):
            for start, stop in batch_bounds(len(X), batch_size) or [(0, 0)]:
                output = output_of(self.model, as_batch(X[start:stop], dtype))
                if outputs is None:
                    outputs = np.empty((len(X), *output.shape[1:]), output.dtype)
                outputs[start:stop] = output
        assert outputs is not None
        return outputs

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write everything that going on needs, so that a resumed training gives the same bits as one never stopped.

        That is the model, the optimiser, the schedule, the random states of the trainer and of layers, the history and
        what callbacks remember. Call it between epochs, as `ModelCheckpoint` does. No pickle is involved.

        Parameters
        ----------
        path : path
            A name that ends in ".safetensors" makes a file of that format (needs the package safetensors), any other
            one an npz file. It is written beside `path` first and then put in its place, so that there is always a
            whole file.

        Raises
        ------
        TypeError, ValueError
            If `path` is not the name of a file, or a callback or the scheduler remembers what no file can hold.
        OSError
            If it cannot be written. What was at `path` is still there then.
        """
        _checkpoint.save(self, as_path(path, "save_checkpoint"))

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Take up everything that `save_checkpoint` wrote; `fit(..., resume=True)` then goes on.

        The trainer must have been made like the one that was saved: layers, optimiser, schedule.

        Parameters
        ----------
        path : path
            A file of `save_checkpoint`.

        Raises
        ------
        ValueError
            If it is damaged, no checkpoint, or of another model, optimiser or schedule. Nothing has been changed then.
        MemoryError
            If there is not enough memory for what it holds. Nothing has been changed then.
        OSError
            If it cannot be read.
        """
        _checkpoint.load(self, as_path(path, "load_checkpoint"))

    def __repr__(self) -> str:
        return (
            f"Trainer(optimizer={self.optimizer!r}, loss={self.loss!r}, metrics={list(self.metrics)})\n{self.model!r}"
        )
