"""Training and evaluation mode, for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from normcore.nn import Module

Modes = list[tuple[Module, bool]]


class _Evaluation:
    """A model that is being evaluated: by how many, and the modes that its layers had before the first of them."""

    def __init__(self, before: Modes) -> None:
        self.before = before
        self.count = 0


# Threads may predict with one model at once: the first puts it into evaluation mode, the last puts back what was.
_evaluations: dict[int, _Evaluation] = {}
_counting = threading.Lock()


def _modes(model: Module) -> Modes:
    return [(module, module.training) for module in model.modules()]


def _put_back(before: Modes) -> None:
    for module, was in before:
        module.training = was


@contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Put the model into a mode, and afterwards each of its layers back into the mode that it had."""
    if not training:
        with _evaluation(model):
            yield
        return
    before = _modes(model)
    try:
        model.train()
        yield
    finally:
        _put_back(before)


@contextmanager
def _evaluation(model: Module) -> Iterator[None]:
    mine, counted = _Evaluation([]), False
    try:
        with _counting:
            before, shared = _modes(model), _evaluations.get(id(model))
            # Inside a block of training mode that is inside another evaluation, this one stands by itself.
            if shared is not None and shared.count and not any(was for _, was in before):
                mine = shared
            else:
                mine.before = before
                if shared is None or not shared.count:
                    _evaluations[id(model)] = mine
                model.eval()
            mine.count += 1
            counted = True  # at once: Ctrl-C cannot come between the two
        yield
    finally:
        with _counting:
            if counted:
                mine.count -= 1
            if not mine.count:
                if _evaluations.get(id(model)) is mine:
                    del _evaluations[id(model)]
                _put_back(mine.before)
