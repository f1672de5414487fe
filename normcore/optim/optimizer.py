"""What all optimisers share: the list of parameters, their state, saving and loading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np

from normcore.nn import Module, Parameter
from normcore.nn._checks import Array, as_number, as_state, shown

State = dict[str, Any]  # what is kept for a parameter: arrays of its shape, and "step", an int

_TOGETHER = 1 << 15  # values: about what stays in cache. A larger parameter is a group of its own


class Optimizer:
    """Base class. An optimiser of your own has `_update`, and names its options and state arrays.

    Small parameters are laid end to end and stepped as one array, because calls on them cost more than arithmetic.
    float16 parameters are stepped, and their state is kept, in float32: Adam's eps is 0 in float16.

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
    _never_negative: ClassVar[tuple[str, ...]] = ()  # of the state

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
        self._groups = _grouped(self.params, [{} for _ in self.params])

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
        complete = True
        for param in self.params:
            grad = param.grad
            if grad is None:
                complete = False
            elif grad.shape != param.data.shape:
                raise ValueError(
                    f"{type(self).__name__}.step: a parameter of shape {param.data.shape} has a grad of shape "
                    f"{grad.shape}; set grad to an array of the shape of data."
                )
        if not complete:
            self._part_from_those_without_gradient()
        for group in self._groups:
            if complete or group.params[0].grad is not None:
                data, grad = group.gather()
                self._update(data, grad, group.state, group.a, group.b)
                group.scatter()

    def _update(self, data: Array, grad: Array, state: State, a: Array, b: Array) -> None:
        """Change `data` in place, element by element: it may be several parameters laid end to end.

        `grad` must be left alone; `a` and `b` are scratch arrays of its shape.
        """
        raise NotImplementedError

    def _part_from_those_without_gradient(self) -> None:
        """See to it that in each group all parameters have a gradient, or none has."""
        if all(len({param.grad is None for param in group.params}) == 1 for group in self._groups):
            return
        states = self._states()
        parts: tuple[list[int], list[int]] = [], []
        for i, param in enumerate(self.params):
            parts[param.grad is None].append(i)
        self._groups = [
            group for part in parts for group in _grouped([self.params[i] for i in part], [states[i] for i in part])
        ]

    def _states(self) -> list[State]:
        """Copies of what is kept for each parameter."""
        kept = {id(param): state for group in self._groups for param, state in group.states()}
        return [kept[id(param)] for param in self.params]

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
        state = {i: entry for i, entry in enumerate(self._states()) if entry}
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
        strangers = [number for number in entries if number not in numbers]
        if strangers or len(set(numbers)) != len(numbers):
            what = f"has state of parameter {strangers[0]}, but numbers" if strangers else "numbers"
            raise ValueError(f"{owner}: state_dict {what} its parameters {numbers}; pass what state_dict() returned.")
        unsupported = [name for name in ("amsgrad", "maximize", "decoupled_weight_decay") if group.get(name)]
        missing = [name for name in ("lr", *self.option_names) if name not in group]
        if unsupported or missing:
            what = f"uses {unsupported[0]}, which is not supported" if unsupported else f"has no {missing[0]}"
            raise ValueError(f"{owner}: state_dict {what}; pass one of {type(self).__name__}.")
        options = {name: group[name] for name in ("lr", *self.option_names)}
        # Building a second optimiser checks the options by the rules of the first.
        checked = type(self)(self.params, **options)
        states = [
            self._load_entry(owner, i, param, entries.get(number, {}))
            for i, (number, param) in enumerate(zip(numbers, self.params, strict=True))
        ]
        for name in options:
            setattr(self, name, getattr(checked, name))
        self._groups = _grouped(self.params, states)

    def _load_entry(self, owner: str, i: int, param: Parameter, entry: State) -> State:
        loaded: State = {}
        for name, value in entry.items():
            if value is None:  # PyTorch's SGD without momentum
                continue
            if name not in self.state_names:
                raise ValueError(
                    f"{owner}: state of parameter {i} has {name}, which {type(self).__name__} does not use; "
                    f"pass the state of {type(self).__name__}."
                )
            if name == "step":
                loaded[name] = _as_step(value, f"{owner}: step of parameter {i}")
                continue
            try:
                loaded[name] = as_state(value, param.shape, _working_dtype(param), name in self._never_negative)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(f"{owner}: {name} of parameter {i} {error}.") from None
        absent = [name for name in self.state_names if name not in loaded]
        if loaded and absent:
            raise ValueError(
                f"{owner}: state of parameter {i} has no {absent[0]}; pass the state of {type(self).__name__}."
            )
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        # The arrays of a group are views of shared memory, which neither a pickle nor deepcopy would keep so.
        return {**{name: value for name, value in vars(self).items() if name != "_groups"}, "_groups": self._states()}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes)
        self._groups = _grouped(self.params, attributes["_groups"])

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("lr", *self.option_names))
        return f"{type(self).__name__}({len(self.params)} parameters, {options})"


class _Group:
    """Parameters of one dtype that have always stepped together, and their state: a single array for each name."""

    def __init__(self, params: Sequence[Parameter], states: Sequence[State], memory: Array) -> None:
        self.params = params
        ends = list(accumulate((param.data.size for param in params), initial=0))
        self._slices = [slice(start, stop) for start, stop in pairwise(ends)]
        # A parameter alone, unless float16, is stepped where it is.
        self._alone = len(params) == 1 and params[0].dtype == memory.dtype
        shape = params[0].shape if self._alone else (ends[-1],)
        self.a, self.b, self._data, self._grad = (row[: ends[-1]].reshape(shape) for row in memory)
        self._views = [self._data.reshape(-1)[part].reshape(param.shape) for param, part in self._pairs()]
        self.state: State = {}
        for name, value in states[0].items():
            if isinstance(value, np.ndarray):
                value = np.concatenate([state[name] for state in states], axis=None).reshape(shape)
            self.state[name] = value

    def _pairs(self) -> Iterable[tuple[Parameter, slice]]:
        return zip(self.params, self._slices, strict=True)

    def gather(self) -> tuple[Array, Array]:
        """Values and gradients of all parameters."""
        if self._alone:
            (param,) = self.params
            assert param.grad is not None
            return param.data, param.grad
        np.concatenate([param.data for param in self.params], axis=None, out=self._data)
        np.concatenate([param.grad for param in self.params], axis=None, out=self._grad)
        return self._data, self._grad

    def scatter(self) -> None:
        """Put the values back into the parameters."""
        if not self._alone:
            for param, view in zip(self.params, self._views, strict=True):
                param.data[...] = view

    def states(self) -> Iterable[tuple[Parameter, State]]:
        """Copies of the state of each parameter."""
        for param, part in self._pairs():
            state = self.state.copy()
            for name, value in state.items():
                if isinstance(value, np.ndarray):
                    state[name] = value.reshape(-1)[part].reshape(param.shape).copy()
            yield param, state


def _grouped(params: Sequence[Parameter], states: Sequence[State]) -> list[_Group]:
    """The parameters in groups: of one dtype, with the same count of steps, and not too large together."""
    groups: list[list[int]] = []
    last: dict[Any, tuple[list[int], int]] = {}  # of each kind, and its size
    for i, (param, state) in enumerate(zip(params, states, strict=True)):
        kind = param.dtype, *((name, None if isinstance(v, np.ndarray) else v) for name, v in state.items())
        group, size = last.get(kind, ([], 0))
        if not group or size + param.data.size > _TOGETHER:
            group, size = [], 0
            groups.append(group)
        group.append(i)
        last[kind] = group, size + param.data.size
    largest: dict[np.dtype[Any], int] = {}
    for group in groups:
        dtype = _working_dtype(params[group[0]])
        largest[dtype] = max(largest.get(dtype, 0), sum(params[i].data.size for i in group))
    # All groups of a dtype share the memory of the largest, which so stays in cache.
    memory = {dtype: np.empty((4, size), dtype) for dtype, size in largest.items()}
    return [
        _Group([params[i] for i in group], [states[i] for i in group], memory[_working_dtype(params[group[0]])])
        for group in groups
    ]


def _working_dtype(param: Parameter) -> np.dtype[Any]:
    return np.dtype(np.float32) if param.dtype.itemsize < 4 else param.dtype


def _as_step(value: Any, what: str) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = -1.0
    if not number.is_integer() or not 0 <= number <= 2**53:
        raise ValueError(f"{what} must be a whole number from 0 to 2**53, got {shown(value)}.")
    return int(number)
