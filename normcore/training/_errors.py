"""Training that cannot go on, and words for messages."""

from __future__ import annotations

from typing import Any

import numpy as np

_LONGEST = 1000


class DivergenceError(FloatingPointError):
    """Training was stopped because the loss, or with `clip_norm` the norm of the gradients, was no finite number.

    The parameters are those before the step of that batch, `trainer.history` holds the epochs before, and every
    callback's `on_train_end` has run: with `EarlyStopping(restore_best_weights=True)` the model is the best one.

    Parameters
    ----------
    message : str
        What happened and what to do.
    epoch, batch : int
        Where, counted from 0.
    value : float
        The loss or the norm.
    """

    def __init__(self, message: str, epoch: int = 0, batch: int = 0, value: float = float("nan")) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
        self.value = value


def diverged(what: str, value: float, epoch: int, batch: int, lr: float) -> DivergenceError:
    """The error for a loss or norm, counting from 1 as people and the progress display do."""
    return DivergenceError(
        f"training diverged: the {what} is {value} in epoch {epoch + 1}, batch {batch + 1} (learning rate {lr:g}); "
        "lower the learning rate, clip gradients with clip_norm=1.0, or bring X and y to a common scale.",
        epoch,
        batch,
        value,
    )


def quiet() -> dict[Any, Any]:
    """Arguments of `np.errstate` for where a result that is not finite will be told: NumPy's warnings would be twice.

    What the user made an error or a call of stays one.
    """
    return {name: "ignore" for name in ("divide", "over", "invalid") if np.geterr()[name] == "warn"}


def as_value(value: Any, what: str) -> float:
    """What a loss or metric of the user's returned, as a float."""
    if type(value) is float:
        return value
    try:
        if isinstance(value, (str, bytes)) or np.ndim(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        got = f"an array of shape {np.shape(value)}" if isinstance(value, np.ndarray) else kind(value)
        got = "None" if value is None else got
        raise TypeError(f"{what} returned {got}, but must return a number; return a float.") from None


def kind(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if isinstance(value, str) else type(value).__name__


def same_kind(error: Exception) -> type[Exception]:
    """TypeError or ValueError, whichever `error` is."""
    return TypeError if isinstance(error, TypeError) else ValueError


def in_a_line(text: str) -> str:
    """A message with words from a file in it: on one line, of a length that can be read, and nothing but text."""
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: _LONGEST + 1])
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 6]} [...]"
