"""Everything that `Trainer.fit` is given, checked against the model and the loss before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from normcore._dispatch import asked_for
from normcore.data.splitting import held_out
from normcore.nn import CrossEntropyLoss, Loss, Module
from normcore.nn._checks import Array, as_number

from ._criterion import takes_weights
from ._data import as_batch, check_finite, check_inputs, check_pair
from ._errors import kind, quiet, same_kind
from ._mode import mode
from ._optimizer import check_optimizer
from ._random import layer_generators
from ._scheduler import check_scheduler
from ._weights import by_class, check_sample_weight, check_total
from .metrics import check_known

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass(frozen=True)
class Rows:
    """Rows to go through: all of X, or those of `chosen`."""

    X: Array
    y: Array
    weights: Array | None = None  # one for each row of X
    chosen: Array | None = None

    def __len__(self) -> int:
        return len(self.X if self.chosen is None else self.chosen)


def model_dtype(trainer: Trainer, X: Array) -> np.dtype[Any]:
    """What batches are converted to."""
    parameter = next(trainer.model.parameters(), None)
    return X.dtype if parameter is None else parameter.dtype


def check_fit(
    trainer: Trainer, X: Any, y: Any, sample_weight: Any, owner: str = "fit", names: tuple[str, str] = ("X", "y")
) -> Rows:
    """Arrays that fit the model, the loss and the metrics; finite ones, but for `evaluate`.

    Two rows are tried in evaluation mode, which changes nothing, and the loss looks at all targets.
    """
    if owner != "evaluate":  # both may have been changed since the trainer was made
        check_optimizer(trainer.optimizer, trainer.model, owner)
        check_scheduler(trainer.scheduler, trainer.optimizer)
    X, y = check_pair(X, y, names)
    dtype = model_dtype(trainer, X)
    if owner != "evaluate":
        check_finite(X, names[0], dtype)
        # Ours convert the target; what a loss of somebody else's does with it is its own affair.
        check_finite(y, names[1], dtype if isinstance(trainer.loss, Loss) else None)
    weights = None
    if sample_weight is not None:
        if not takes_weights(trainer.loss):
            raise TypeError(
                f"sample_weight needs a loss that is called as loss(output, target, sample_weight), but "
                f"{kind(trainer.loss)} takes none; add the argument or use a loss of normcore.nn."
            )
        weights = check_sample_weight(sample_weight, len(X), owner)
    output = _tried(trainer, X, names[0])
    shape = (len(X), *output.shape[1:])
    if isinstance(trainer.loss, CrossEntropyLoss) and len(shape) < 2:  # which the loss would take for a single row
        raise ValueError(
            f"the model's output has shape {shape}, but cross-entropy needs a column for each class; give the last "
            "layer as many outputs as there are classes."
        )
    check = getattr(trainer.loss, "check_target", None)
    if check is not None:
        try:
            y = check(y, shape)
        except (TypeError, ValueError) as error:
            raise same_kind(error)(f"{names[1]} does not fit the loss and the model's output: {error}") from None
    target, without = y[: len(output)], ignored(trainer, y)
    if without is not None:
        output, target = not_ignored(output, target, without)
    try:
        check_known(trainer.metrics, output, target) if len(target) else None
    except (TypeError, ValueError) as error:
        raise same_kind(error)(f"metrics do not fit {names[1]} and the model's output: {error}") from None
    return Rows(X, y, weights)


def ignored(trainer: Trainer, y: Array) -> int | None:
    """The `ignore_index` of the loss, if it is in y."""
    if isinstance(trainer.loss, CrossEntropyLoss) and y.dtype.kind in "iu" and (y == trainer.loss.ignore_index).any():
        return trainer.loss.ignore_index
    return None


def not_ignored(output: Array, target: Array, index: int) -> tuple[Array, Array]:
    """The rows whose target is not `index`, or the places of rows, which then are rows."""
    kept = target != index
    return (output if output.ndim == 2 else np.moveaxis(output, 1, -1))[kept], target[kept]


def output_of(model: Module, x: Array, name: str = "X") -> Array:
    """What the model makes of rows of `name`, or an error that says that they do not fit it."""
    asked_for()  # raises for a wrong NORMCORE_BACKEND, which is no fault of X
    try:
        output: Any = model(x)
    except (TypeError, ValueError) as error:
        raise same_kind(error)(f"{name} does not fit the model: {error}") from None
    if not isinstance(output, np.ndarray):
        raise TypeError(f"the model's output must be an array, got {kind(output)}; return one from every forward(x).")
    return output


def _tried(trainer: Trainer, X: Array, name: str) -> Array:
    with mode(trainer.model, training=False), np.errstate(**quiet()):
        output = output_of(trainer.model, as_batch(X[:2], model_dtype(trainer, X)), name)
    if output.shape[:1] != (len(X[:2]),):
        raise ValueError(
            f"the model's output has shape {output.shape} for {len(X[:2])} rows of {name}; it must have a row for each."
        )
    return output


def check_validation(trainer: Trainer, data: Any, X: Array) -> Rows:
    """The pair (X, y) to validate with."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        got = f"{kind(data)} of {len(data)}" if isinstance(data, (tuple, list)) else kind(data)
        raise TypeError(f"validation_data must be a pair (X, y), got {got}.")
    names = ("validation_data's X", "validation_data's y")
    Xv = check_inputs(data[0], names[0])
    if len(Xv) and Xv.shape[1:] != X.shape[1:]:
        raise ValueError(
            f"validation_data's X has rows of shape {Xv.shape[1:]}, but X has rows of shape {X.shape[1:]}."
        )
    return check_fit(trainer, Xv, data[1], None, names=names)


def check_fraction(fraction: Any, rows: int, validation_data: Any) -> float:
    """`validation_split` as a number, 0 for no split."""
    share = as_number(fraction, "validation_split", "fit", "[0, 1)")
    if share and validation_data is not None:
        raise ValueError("validation_split and validation_data were both given; pass one of them.")
    if share and rows < 2:
        raise ValueError("validation_split needs at least two rows in X, one to train on; pass validation_data.")
    return share


def cut(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Training and validation rows, drawn at random; in equal shares of every class where y holds classes."""
    y = rows.y
    stratify = y.ndim == 1 and y.dtype.kind in "iub"
    mask = held_out(y, share, np.random.default_rng(seed), stratify)
    return replace(rows, chosen=np.flatnonzero(~mask)), replace(rows, chosen=np.flatnonzero(mask))


def weighted(rows: Rows, class_weight: Any, trainer: Trainer) -> Rows:
    """The rows with `class_weight` multiplied into their weights; "balanced" counts the rows that are trained on."""
    if class_weight is None:
        return rows
    if not takes_weights(trainer.loss):
        raise TypeError(
            f"class_weight needs a loss that is called as loss(output, target, sample_weight), but "
            f"{kind(trainer.loss)} takes none; add the argument or use a loss of normcore.nn."
        )
    index = slice(None) if rows.chosen is None else rows.chosen
    weights = np.ones(len(rows.X)) if rows.weights is None else rows.weights.copy()
    with np.errstate(over="ignore"):
        weights[index] *= by_class(class_weight, rows.y[index])
    check_total(weights[index], "sample_weight times class_weight adds up")
    if not weights[index].any():
        raise ValueError("sample_weight and class_weight leave no row that counts; give some rows a weight.")
    return replace(rows, weights=weights)


def check_single_row(trainer: Trainer, rows: Rows) -> None:
    """Try a batch of one row in training mode, as `fit` is going to, and put everything back.

    Batch norm over (N, C) refuses such a batch, but a layer before it may by then have updated its statistics.
    """
    before = [(buffer, buffer.copy()) for buffer in trainer.model.buffers()]
    generators = [(it.bit_generator, it.bit_generator.state) for it in layer_generators(trainer.model).values()]
    with mode(trainer.model, training=True):
        try:
            trainer.model(as_batch(rows.X[:1], model_dtype(trainer, rows.X)))
        except ValueError as error:
            what = "batch_size is 1" if len(rows) > 1 else "there is one row to train on"
            raise ValueError(f"{what}, and this model cannot be trained on a single row: {error}") from None
        finally:
            for buffer, was in before:
                buffer[...] = was
            for bits, state in generators:
                bits.state = state
