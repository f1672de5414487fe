"""A setting that a ``with`` block changes, in its thread or task alone."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Setting(Generic[T]):
    """A context variable, and the values that the blocks around have given it.

    The values are kept in the context too, not on the object that the user enters: one object may be entered again,
    inside itself and in several threads at once.
    """

    def __init__(self, name: str) -> None:
        self.variable: ContextVar[T | None] = ContextVar(name, default=None)
        self._outer: ContextVar[tuple[T | None, ...]] = ContextVar(f"{name}_outer", default=())

    def get(self) -> T | None:
        """The value here and now, or None."""
        return self.variable.get()

    def push(self, value: T) -> None:
        """Enter a block."""
        self._outer.set((*self._outer.get(), self.variable.get()))
        self.variable.set(value)

    def pop(self) -> None:
        """Leave it."""
        *outer, value = self._outer.get()
        self._outer.set(tuple(outer))
        self.variable.set(value)


class Block(Generic[T]):
    """Base of what stands after ``with``: a setting and the value it has inside."""

    def __init__(self, setting: Setting[T], value: T) -> None:
        self._setting = setting
        self._value = value

    def __enter__(self) -> None:
        self._setting.push(self._value)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._setting.pop()
