"""The callbacks of a fit, sorted by what they listen to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from normcore.nn._checks import listed

from ._errors import in_a_line, kind
from .callback import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

States = Sequence[tuple[str, Mapping[str, Any]]]  # of callbacks: class and state_dict()


def check_callbacks(callbacks: Any) -> list[Callback]:
    """`callbacks` as a list of Callback objects."""
    if callbacks is None:
        return []
    found = listed(callbacks)
    if found is None:
        raise TypeError(f"callbacks must be a list of Callback objects, got {kind(callbacks)}; put it into a list.")
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks must hold Callback objects, got {kind(callback)}; "
                "derive its class from normcore.training.Callback, and pass an object of it."
            )
    return found


class Listeners:
    """Callbacks, and for each hook only those that override it: a call that does nothing costs time all the same."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)
        self.epoch_begin = self._overriding("on_epoch_begin")
        self.batch_begin = self._overriding("on_batch_begin")
        self.batch_end = self._overriding("on_batch_end")
        self.epoch_end = self._overriding("on_epoch_end", sorted(callbacks, key=lambda callback: callback.runs_last))

    def _overriding(self, hook: str, callbacks: Iterable[Callback] | None = None) -> list[Callable[..., None]]:
        methods = [getattr(callback, hook) for callback in (self.callbacks if callbacks is None else callbacks)]
        # A hook may also be an attribute of the object, a plain function.
        return [method for method in methods if getattr(method, "__func__", None) is not getattr(Callback, hook)]

    def begin(self, trainer: Trainer, stack: ExitStack, states: States) -> None:
        """Begin, see to it that what began is ended when `stack` is left, and hand out the states of before."""
        left = list(states)
        for callback in self.callbacks:
            stack.callback(callback.on_train_end, trainer)
            callback.on_train_begin(trainer)
            # By class and order: who has no state of before begins anew.
            name = type(callback).__name__
            i = next((i for i, (owner, _) in enumerate(left) if owner == name), None)
            if i is not None:
                _take_up(callback, left.pop(i)[1])

    def states(self) -> list[tuple[str, dict[str, Any]]]:
        """What the callbacks remember."""
        return [(type(callback).__name__, callback.state_dict()) for callback in self.callbacks]


def _take_up(callback: Callback, state: Mapping[str, Any]) -> None:
    try:
        callback.load_state_dict(state)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        name = type(callback).__name__
        raise ValueError(
            f"resume=True: what was kept of {name} is not what its state_dict() returns "
            f"({type(error).__name__}: {in_a_line(str(error))}); load another checkpoint, or leave out {name}."
        ) from error
