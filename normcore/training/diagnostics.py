"""Diagnostics: what goes on inside a network while it trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.functional import batch_stats
from normcore.nn import Module
from normcore.nn._checks import Array, as_size
from normcore.nn._norm import Activation
from normcore.nn.batchnorm import _BatchNorm

from .callback import Callback

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from normcore.nn import HookHandle

    from .trainer import Trainer


class Diagnostics(Callback):
    """Records, every so many steps, activations, gradients, dead units and the drift of running statistics.

    Parameters
    ----------
    every : int
        A step in so many is recorded, the first one to begin with. Between them the callback costs next to nothing.
    bins : int
        Of each histogram.

    Attributes
    ----------
    records : list of dict
        One for each recorded step, of plain numbers, strings, lists and dicts, ready for `json.dump`:

        - "step", "epoch", "batch" (counted from 0) and "loss";
        - "activations": for each activation layer by name, its "kind" ("ReLU", ...), "pre" (what goes in) and "post"
          (what comes out), each with "counts" and "edges" of a histogram of the finite values, their "mean" and "std",
          and "nonfinite", how many were not finite; further "units" and "dead": how many channels there are, and the
          list of those whose output is the same in every row of the batch, as that of a ReLU which is always 0 and
          through which no gradient gets (None where the batch has a single row);
        - "gradients": for each parameter by name the Euclidean norm of its gradient, after `clip_norm`;
        - "drift": for each batch norm layer with running statistics by name, "mean", the root mean square over channels
          of `(batch mean - running mean) / sqrt(running var + eps)`, and "var", that of
          `log((batch var + eps) / (running var + eps))`, with the running statistics from before the step. Both are
          near 0 where inference will see what training saw.

    Notes
    -----
    In a recorded step a norm and its activation run as two kernels rather than one, so that the values between them are
    there to be seen. Results may differ from those of an unwatched training in the last place.

    Raises
    ------
    ValueError, TypeError
        If an argument is no positive int.

    Examples
    --------
    >>> look = Diagnostics(every=50)
    """

    def __init__(self, every: int = 100, bins: int = 40) -> None:
        self.every = as_size(every, "every", "Diagnostics")
        self.bins = as_size(bins, "bins", "Diagnostics")
        self.records: list[dict[str, Any]] = []
        self._step = self._epoch = 0
        self._handles: list[HookHandle] = []
        self._record: dict[str, Any] = {}

    def on_train_begin(self, trainer: Trainer) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Forget the last training."""
        self.records = []
        self._step = 0

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Note the epoch."""
        self._epoch = epoch

    def on_batch_begin(self, trainer: Trainer, batch: int) -> None:
        """Look at the layers of this step, if it is one to be recorded."""
        if self._step % self.every:
            return
        self._record = {"step": self._step, "epoch": self._epoch, "batch": batch, "activations": {}, "drift": {}}
        for name, module in trainer.model.named_modules():
            if isinstance(module, Activation):
                self._handles.append(module.register_forward_hook(self._activation_hook(name)))
            elif isinstance(module, _BatchNorm) and module.running_mean is not None:
                self._handles.append(module.register_forward_hook(self._drift_hook(name, module)))

    def _activation_hook(self, name: str) -> Any:
        found = self._record["activations"]

        def hook(module: Module, inputs: tuple[Array], output: Array) -> None:
            # Here and now: layers may write over these arrays in the next pass.
            units, dead = _dead(output)
            found[name] = {
                "kind": type(module).__name__,
                "pre": _histogram(inputs[0], self.bins),
                "post": _histogram(output, self.bins),
                "units": units,
                "dead": dead,
            }

        return hook

    def _drift_hook(self, name: str, layer: _BatchNorm) -> Any:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        found, eps = self._record["drift"], layer.eps
        # Before the step, which moves them.
        running_mean, running_var = layer.running_mean.astype(np.float64), layer.running_var.astype(np.float64)

        def hook(module: Module, inputs: tuple[Array], output: Array) -> None:  # noqa: ARG001 - a forward hook's signature
            mean, var = batch_stats(inputs[0], axis=1)
            with np.errstate(all="ignore"):  # a diverging network is what one wants to look at
                found[name] = {
                    "mean": _rms((mean - running_mean) / np.sqrt(running_var + eps)),
                    "var": _rms(np.log((var + eps) / (running_var + eps))),
                }

        return hook

    def on_batch_end(self, trainer: Trainer, batch: int, logs: Mapping[str, float]) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Add the gradients, and stop looking."""
        self._step += 1
        if not self._record:
            return
        self._release()
        self._record["gradients"] = {
            name: _norm(parameter.grad)
            for name, parameter in trainer.model.named_parameters()
            if parameter.grad is not None
        }
        self._record["loss"] = logs["loss"]
        self.records.append(self._record)
        self._record = {}

    def on_train_end(self, trainer: Trainer) -> None:  # noqa: ARG002 - the signature of what it overrides
        """Stop looking, if an error or Ctrl-C came in the middle of a step."""
        self._release()
        self._record = {}

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def state_dict(self) -> dict[str, Any]:
        """Return the records and the count of steps."""
        return {"step": self._step, "records": self.records}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        step, records = int(state_dict["step"]), list(state_dict["records"])
        if step < 0 or not all(isinstance(record, dict) for record in records):
            raise ValueError("step must be a count and records a list of dicts")
        self._step, self.records = step, records

    def plot(self) -> Figure:
        """Draw the histograms of every activation layer over time, gradient norms, dead units and drift.

        Returns
        -------
        matplotlib.figure.Figure
            Belongs to nobody else: pyplot is not used. Save it with `figure.savefig(path)`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If nothing was recorded yet.
        """
        try:
            from ._diagnostics_plot import draw_diagnostics
        except ImportError:
            raise ImportError("Diagnostics.plot: a picture needs the package matplotlib; install it.") from None

        return draw_diagnostics(self.records)


def _histogram(values: Array, bins: int) -> dict[str, Any]:
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return {"counts": [], "edges": [], "mean": math.nan, "std": math.nan, "nonfinite": int(values.size)}
    low, high = float(finite.min()), float(finite.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # all the same: a bin around it
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(finite, bins, (low, high))
    return {
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "nonfinite": int(values.size - finite.size),
    }


def _dead(output: Array) -> tuple[int, list[int] | None]:
    """The number of channels, and those whose output is everywhere the same."""
    if output.ndim < 2:
        return 1, None
    columns = np.moveaxis(output, 1, -1).reshape(-1, output.shape[1])
    if len(columns) < 2:
        return output.shape[1], None
    return output.shape[1], np.flatnonzero(columns.max(axis=0) == columns.min(axis=0)).tolist()


def _norm(gradient: Array) -> float:
    return float(np.sqrt(np.square(gradient, dtype=np.float64).sum()))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
