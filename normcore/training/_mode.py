"""Training and evaluation mode, for a while."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from normcore.nn import Module

Modes = list[tuple[Module, bool]]


class _Evaluation:
    """A model that is being evaluated: in which threads, and the modes that its layers had before the first of them."""

    def __init__(self, model: Module, before: Modes) -> None:
        self.model = model
        self.before = before
        self.threads: list[int] = []  # once for every block that a thread is in


# Threads may predict with one model at once: the first puts it into evaluation mode, the last puts back what was.
_evaluations: list[_Evaluation] = []  # in the order in which they began; threads join a model's first
_counting = threading.RLock()


def _after_fork_in_child() -> None:
    """Only the thread that forked goes on: what the others evaluated is over."""
    this = threading.get_ident()
    for evaluation in reversed(_evaluations.copy()):
        evaluation.threads = [thread for thread in evaluation.threads if thread == this]
        if not evaluation.threads:
            _end(evaluation)
    _counting.release()


if hasattr(os, "register_at_fork"):  # no other thread is between two lines of what is below
    os.register_at_fork(
        before=_counting.acquire, after_in_parent=_counting.release, after_in_child=_after_fork_in_child
    )


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
    mine, thread, counted = _Evaluation(model, []), threading.get_ident(), False
    try:
        with _counting:
            before = _modes(model)
            _evaluations[:] = [known for known in _evaluations if known.threads]  # others Ctrl-C has left behind
            shared = next((known for known in _evaluations if known.model is model), None)
            # Inside a block of training mode that is inside another evaluation, this one stands by itself.
            if shared is not None and not any(was for _, was in before):
                mine = shared
            else:
                mine.before = before
                _evaluations.append(mine)
                model.eval()
            mine.threads.append(thread)
            counted = True  # at once: Ctrl-C cannot come between the two
        yield
    finally:
        with _counting:
            if counted:
                del mine.threads[mine.threads.index(thread)]
            if not mine.threads:
                _end(mine)


def _end(evaluation: _Evaluation) -> None:
    _evaluations[:] = [other for other in _evaluations if other is not evaluation]
    _put_back(evaluation.before)
