"""What all optimisers share: the list of parameters, their state, saving and loading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from normcore.nn import Module, Parameter
from normcore.nn._checks import Array, as_number


class Optimizer:
    """Base class. An optimiser of your own has `_update`, and names its options and state arrays.

    Parameters
    ----------
    params : iterable of Parameter
        `model.parameters()`.
    lr : float
        Learning rate; at least 0.

    Attributes
    ----------
    params : list of Parameter
    lr : float
        May be set between steps.

    Raises
    ------
    ValueError
        If there are no parameters, one appears twice, or `lr` is negative or not finite.
    TypeError
        If something is not a Parameter.
    """

    # Names, as in PyTorch's state dict, of the options besides lr and of what is kept for each parameter: arrays of its
    # shape, and "step", an int.
    option_names: ClassVar[tuple[str, ...]] = ()
    state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Parameter], lr: float) -> None:
        name = type(self).__name__
        if isinstance(params, (Module, Parameter)):
            raise TypeError(
                f"{name}: params must be an iterable of parameters, got {type(params).__name__}; "
                "pass model.parameters()."
            )
        try:
            self.params = list(params)
        except TypeError:
            raise TypeError(
                f"{name}: params must be an iterable of parameters, got {params!r}; pass model.parameters()."
            ) from None
        if not self.params:
            raise ValueError(
                f"{name}: params is empty; pass model.parameters() of a model that has some (an iterator works once)."
            )
        for param in self.params:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"{name}: params must hold Parameter objects, got {type(param).__name__}; pass model.parameters()."
                )
        if len({id(param) for param in self.params}) != len(self.params):
            raise ValueError(f"{name}: params holds the same Parameter twice; pass each one once.")
        self.lr = lr
        self.state: list[dict[str, Any]] = [{} for _ in self.params]
        self._scratch = _scratch_pairs(self.params)

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = as_number(value, "lr", type(self).__name__, "[0, inf)")

    def step(self) -> None:
        """Change every parameter that has a gradient, in place.

        Raises
        ------
        ValueError
            If a gradient has another shape than its parameter. No parameter has been changed then.
        """
        for param in self.params:
            if param.grad is not None and param.grad.shape != param.data.shape:
                raise ValueError(
                    f"{type(self).__name__}.step: a parameter of shape {param.data.shape} has a grad of shape "
                    f"{param.grad.shape}; set grad to an array of the shape of data."
                )
        for param, state, (a, b) in zip(self.params, self.state, self._scratch, strict=True):
            if param.grad is not None:
                self._update(param.data, param.grad, state, a, b)

    def _update(self, data: Array, grad: Array, state: dict[str, Any], a: Array, b: Array) -> None:
        """Change `data` in place. `grad` must be left alone; `a` and `b` are scratch arrays of its shape."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Set `grad` of all parameters to None. Not needed between steps, since `backward` sets gradients."""
        for param in self.params:
            param.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Copies of options and state, laid out as PyTorch does.

        Returns
        -------
        dict
            `{"state": {i: {...}}, "param_groups": [{"lr": ..., ..., "params": [0, 1, ...]}]}`, where i numbers the
            parameters. PyTorch's optimisers load it when the arrays are made tensors.
        """
        state = {
            i: {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in entry.items()}
            for i, entry in enumerate(self.state)
            if entry
        }
        group = {name: getattr(self, name) for name in ("lr", *self.option_names)}
        return {"state": state, "param_groups": [{**group, "params": list(range(len(self.params)))}]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where the optimiser that gave `state_dict` was; one of PyTorch's with a single group will do.

        Raises
        ------
        ValueError
            If it belongs to other parameters or another optimiser. Nothing has been changed then.
        """
        owner = f"{type(self).__name__}.load_state_dict"
        try:
            (group,) = state_dict["param_groups"]
            numbers = list(group["params"])
            entries = {int(i): dict(entry) for i, entry in state_dict["state"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(
                f'{owner}: state_dict must hold "state" and one group in "param_groups", as state_dict() returns.'
            ) from None
        if len(numbers) != len(self.params):
            raise ValueError(
                f"{owner}: state_dict is for {len(numbers)} parameters, but this optimiser has {len(self.params)}."
            )
        unsupported = [name for name in ("amsgrad", "maximize", "decoupled_weight_decay") if group.get(name)]
        missing = [name for name in ("lr", *self.option_names) if name not in group]
        if unsupported or missing:
            what = f"uses {unsupported[0]}, which is not supported" if unsupported else f"has no {missing[0]}"
            raise ValueError(f"{owner}: state_dict {what}; pass one of {type(self).__name__}.")
        options = {name: group[name] for name in ("lr", *self.option_names)}
        # Building a second optimiser checks the options by the rules of the first.
        checked = type(self)(self.params, **options)
        state = [
            self._load_entry(owner, i, param, entries.get(number, {}))
            for i, (number, param) in enumerate(zip(numbers, self.params, strict=True))
        ]
        for name in options:
            setattr(self, name, getattr(checked, name))
        self.state = state

    def _load_entry(self, owner: str, i: int, param: Parameter, entry: dict[str, Any]) -> dict[str, Any]:
        loaded: dict[str, Any] = {}
        for name, value in entry.items():
            if value is None:  # PyTorch's SGD without momentum
                continue
            if name not in self.state_names:
                raise ValueError(
                    f"{owner}: state of parameter {i} has {name}, which {type(self).__name__} does not use; "
                    f"pass the state of {type(self).__name__}."
                )
            if name == "step":
                loaded[name] = int(value)
            else:
                array = np.asarray(value).astype(param.dtype)  # always a copy; also of a tensor
                if array.shape != param.shape:
                    raise ValueError(
                        f"{owner}: {name} of parameter {i} has shape {array.shape}, expected {param.shape}."
                    )
                loaded[name] = array
        absent = [name for name in self.state_names if name not in loaded]
        if loaded and absent:
            raise ValueError(
                f"{owner}: state of parameter {i} has no {absent[0]}; pass the state of {type(self).__name__}."
            )
        return loaded

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("lr", *self.option_names))
        return f"{type(self).__name__}({len(self.params)} parameters, {options})"


def _scratch_pairs(params: list[Parameter]) -> list[tuple[Array, Array]]:
    """Two scratch arrays for each parameter. All share the memory of the largest, which so stays in cache."""
    size = max(param.data.size for param in params)
    memory = {dtype: np.empty((2, size), dtype) for dtype in {param.dtype for param in params}}
    pairs = []
    for param in params:
        first, second = memory[param.dtype][:, : param.data.size]
        pairs.append((first.reshape(param.shape), second.reshape(param.shape)))
    return pairs
