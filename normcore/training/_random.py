"""Random states of a training: the order of the rows, and the generators of layers such as dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from normcore.nn import Module

_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
_PLACES = {"pos": 624, "buffer_pos": 4}  # of MT19937 and Philox: how long their buffers are


def layer_generators(model: Module) -> dict[str, np.random.Generator]:
    """The generators that layers hold, by dotted name; one that several layers share is there once for each."""
    return {
        f"{prefix}.{name}" if prefix else name: value
        for prefix, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, np.random.Generator)
    }


def seed_layers(model: Module, seed: int) -> None:
    """Set every generator of the layers to a state that depends on `seed` and its place alone."""
    seen: list[np.random.Generator] = []
    for generator in layer_generators(model).values():
        if not any(generator is other for other in seen):
            seen.append(generator)
            bits = generator.bit_generator
            bits.state = type(bits)(np.random.SeedSequence([seed, len(seen)])).state


def state_of(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a generator, as NumPy gives it: names, ints and arrays."""
    return dict(generator.bit_generator.state)


def from_state(state: Any, what: str) -> np.random.Generator:
    """A generator in this state, or a ValueError that names `what`."""
    try:
        name = state["bit_generator"]
        if name not in _BIT_GENERATORS:
            raise ValueError
        generator = np.random.Generator(getattr(np.random, name)(0))
        generator.bit_generator.state = state
        _check_places(generator.bit_generator.state)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} is no state of one of NumPy's generators") from None
    return generator


def _check_places(state: Mapping[str, Any]) -> None:
    """Where in its buffer a generator reads next: NumPy does not check it, and reads whatever memory is there."""
    for name, last in _PLACES.items():
        if not 0 <= state.get(name, state["state"].get(name, 0)) <= last:
            raise ValueError
