"""A call that takes arrays, and the values that it is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Call(NamedTuple):
    """A call with plain arguments, any of whose arrays may be replaced by a hostile one."""

    run: Callable[..., Any]
    make: Callable[[], dict[str, Any]]
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()
    said: Mapping[str, tuple[str, ...]] = {}  # what errors call an argument, where it is something else
    anything: tuple[str, ...] = ()  # arguments that may be arrays of anything, not of numbers alone
    scikit: bool = False  # scikit-learn converts the arguments, and refuses them in its own words


def random(*shape, offset=0.5, seed=0, dtype=np.float64):
    return (np.random.default_rng(seed).standard_normal(shape) + offset).astype(dtype)


def positive(*shape, seed=1, dtype=np.float64):
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape).astype(dtype)


def classes(rows, count=3):
    return (np.arange(rows) * 2 + 1) % count


def loading(make_target, state):
    """`load_state_dict` with the arrays of a state as arguments, under keys that are words."""
    keys = {name.replace(".", "_"): name for name, value in state.items() if isinstance(value, np.ndarray)}

    def run(**arrays):
        target = make_target()
        target.load_state_dict({**state, **{keys[word]: array for word, array in arrays.items()}})
        return {name: np.asarray(value) for name, value in target.state_dict().items()}

    return Call(
        run, lambda: {word: np.array(state[name]) for word, name in keys.items()}, tuple(keys),
        said={word: (name,) for word, name in keys.items()},
    )  # fmt: skip
