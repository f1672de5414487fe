"""State dicts of optimisers: laid out as PyTorch does, checked whole before anything is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from normcore._shown import shown
from normcore.nn import Parameter
from normcore.nn._checks import as_state, check_state

State = dict[str, Any]  # what is kept for a parameter: arrays of its shape, and "step", an int
Group = dict[str, Any]  # options, and "params"


class Kind(NamedTuple):
    """What an optimiser keeps, and under which names."""

    name: str
    options: tuple[str, ...]
    states: tuple[str, ...]
    never_negative: tuple[str, ...]
    constants: Mapping[str, Any]  # PyTorch's names for what this optimiser always or never does
    off_by_default: tuple[str, ...]  # options that a state dict of an earlier version may lack
    optional_states: tuple[str, ...]


def working_dtype(param: Parameter) -> np.dtype[Any]:
    """The dtype of state and arithmetic: Adam's eps is 0 in float16."""
    return np.dtype(np.float32) if param.dtype.itemsize < 4 else param.dtype


def saved(groups: Sequence[Group], states: Mapping[Parameter, State], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of options and state; parameters are numbered through all groups."""
    state: dict[int, State] = {}
    packed: list[Group] = []
    count = 0
    for group in groups:
        numbers = list(range(count, count + len(group["params"])))
        for number, param in zip(numbers, group["params"], strict=True):
            entry = states.get(param)
            if entry:
                state[number] = {
                    name: value.copy() if isinstance(value, np.ndarray) else value for name, value in entry.items()
                }
        options = {name: value for name, value in group.items() if name != "params"}
        packed.append({**options, **constants, "params": numbers})
        count += len(numbers)
    return {"state": state, "param_groups": packed}


Take = Callable[[Any, Parameter, bool], Any]  # a value of the state, whose it is, and whether it is never negative


def converted(value: Any, param: Parameter, never_negative: bool) -> Any:
    """A new array with the values, in the memory order of the parameter: compiled loops walk through both at once."""
    new = as_state(value, param.shape, working_dtype(param), never_negative)
    array = like(param, new.dtype)
    array[...] = new
    return array


def declared(value: Any, param: Parameter, never_negative: bool) -> Any:
    """The value as it is, when it has the right shape and dtype; its numbers are not read."""
    return check_state(value, param.shape, working_dtype(param), never_negative)


def unpacked(
    state_dict: Any, groups: Sequence[Group], kind: Kind, kept: Sequence[str], take: Take
) -> tuple[list[Group], dict[Parameter, State]]:
    """Options for each group and state for each parameter from a state dict, or one sentence why not.

    Of the options, those of `kind` and those among `kept` are taken; arrays as `take` makes them.
    """
    owner = f"{kind.name}.load_state_dict"
    wanted = "one group" if len(groups) == 1 else f"{len(groups)} groups"
    try:
        loaded = [_as_dict(group) for group in state_dict["param_groups"]]
        numbers = [list(group["params"]) for group in loaded]
        entries = {int(i): _as_dict(entry) for i, entry in state_dict["state"].items()}
        if len(loaded) != len(groups):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f'{owner}: state_dict must hold "state" and {wanted} in "param_groups", as state_dict() returns.'
        ) from None
    for i, (group, own) in enumerate(zip(numbers, groups, strict=True)):
        if len(group) != len(own["params"]):
            of = "" if len(groups) == 1 else f" in group {i}"
            raise ValueError(
                f"{owner}: state_dict is for {len(group)} parameters{of}, "
                f"but this optimiser has {len(own['params'])}{' there' if of else ''}."
            )
    every = [number for group in numbers for number in group]
    strangers = [number for number in entries if number not in every]
    if strangers or len(set(every)) != len(every):
        what = f"has state of parameter {strangers[0]}, but numbers" if strangers else "numbers"
        raise ValueError(f"{owner}: state_dict {what} its parameters {every}; pass what state_dict() returned.")
    options = [_options(owner, group, kind, kept) for group in loaded]
    params = [param for group in groups for param in group["params"]]
    states = {
        param: _entry(owner, i, param, entries.get(number, {}), kind, take)
        for i, (number, param) in enumerate(zip(every, params, strict=True))
    }
    return options, {param: state for param, state in states.items() if state}


def _as_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):  # dict would take pairs of anything, and a large array for a long time
        raise TypeError
    return dict(value)


def _options(owner: str, group: Group, kind: Kind, kept: Sequence[str]) -> Group:
    for name in ("amsgrad", "maximize", "decoupled_weight_decay"):
        if name in group and name not in kind.options and bool(group[name]) != kind.constants.get(name, False):
            what = f"uses {name}, which is not supported" if group[name] else f"has {name}=False"
            raise ValueError(f"{owner}: state_dict {what}; pass one of {kind.name}.")
    names = ("lr", *kind.options)
    group = {**dict.fromkeys(kind.off_by_default, False), **group}
    missing = [name for name in names if name not in group]
    if missing:
        raise ValueError(f"{owner}: state_dict has no {missing[0]}; pass one of {kind.name}.")
    return {name: group[name] for name in (*names, *kept) if name in group}


def _entry(owner: str, i: int, param: Parameter, entry: State, kind: Kind, take: Take) -> State:
    loaded: State = {}
    for name, value in entry.items():
        if value is None:  # PyTorch's SGD without momentum
            continue
        if name not in kind.states:
            raise ValueError(
                f"{owner}: state of parameter {i} has {name}, which {kind.name} does not use; "
                f"pass the state of {kind.name}."
            )
        if name == "step":
            loaded[name] = _as_step(value, f"{owner}: step of parameter {i}")
            continue
        try:
            loaded[name] = take(value, param, name in kind.never_negative)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{owner}: {name} of parameter {i} {error}.") from None
    absent = [name for name in kind.states if name not in loaded and name not in kind.optional_states]
    if loaded and absent:
        raise ValueError(f"{owner}: state of parameter {i} has no {absent[0]}; pass the state of {kind.name}.")
    return loaded


def like(param: Parameter, dtype: np.dtype[Any]) -> Any:
    """A new array in the shape and memory order of a parameter, for its state."""
    return np.empty_like(param.data, dtype, subok=False)


def _as_step(value: Any, what: str) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = -1.0
    if not number.is_integer() or not 0 <= number <= 2**53:
        raise ValueError(f"{what} must be a whole number from 0 to 2**53, got {shown(value)}.")
    return int(number)
