"""Training and evaluation mode, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from normcore.nn import Module


@contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Put the model into a mode, and afterwards each of its layers back into the mode that it had."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was
