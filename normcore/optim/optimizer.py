"""What all optimisers share: groups of parameters, their options and state, saving and loading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from normcore._shown import shown
from normcore.nn import Module, Parameter
from normcore.nn._checks import Array, as_number

from . import _compiled
from ._gradients import check_for_step
from ._state import Group, Kind, State, Take, converted, declared, saved, unpacked, working_dtype

Params = Iterable[Parameter] | Iterable[Group]

# What a group may hold besides the options: a name of the user's, and what schedules leave there, as PyTorch's do.
_KEPT = ("name", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")


class Option:
    """An option as an attribute: reads the group that is stepped now, or the first; sets all groups."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Optimizer | None, owner: type | None = None) -> Any:
        if optimizer is None:
            return self
        group = vars(optimizer).get("_now") or optimizer._defaults
        try:
            return group[self.name]
        except KeyError:
            raise AttributeError(f"{type(optimizer).__name__} has no {self.name} yet") from None

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        if self.name == "lr":
            value = as_number(value, "lr", type(optimizer).__name__, "[0, inf)")
        vars(optimizer).setdefault("_defaults", {})[self.name] = value
        for group in vars(optimizer).get("param_groups", ()):
            group[self.name] = value


class Optimizer:
    """Base class. An optimiser of your own has `_update`, and names its options and state arrays.

    float16 parameters are stepped, and their state is kept, in float32: Adam's eps is 0 in float16.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        `model.parameters()`; or groups with options of their own, `[{"params": [...], "lr": 0.1}, {"params": [...]}]`,
        where an option that a group does not name is that of the other arguments.
    lr : float
        Learning rate; at least 0.

    Attributes
    ----------
    param_groups : list of dict
        For each group its "params", "lr" and further options, which may be set between steps.
    params : list of Parameter
        Those of all groups.
    lr : float
        That of the first group. Setting it, or any option, as an attribute sets it in all groups.
    state : dict
        From Parameter to what is kept for it.

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
    _off_by_default: ClassVar[tuple[str, ...]] = ()  # options that `repr` shows only when they are on
    _optional_states: ClassVar[tuple[str, ...]] = ()  # kept only with some option
    _never_negative: ClassVar[tuple[str, ...]] = ()  # of the state
    _constants: ClassVar[Mapping[str, Any]] = {}  # in PyTorch's state dict, but no option here

    lr: float = Option("lr")  # type: ignore[assignment] # a descriptor that gives and takes a float

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in cls.option_names:
            setattr(cls, name, Option(name))

    def __init__(self, params: Params, lr: float) -> None:
        self._defaults: Group  # which the first option to be set has made
        self.lr = lr
        self.state: dict[Parameter, State] = {}
        name = type(self).__name__
        found = _as_list(params, name)
        groups: list[Any] = found if isinstance(found[0], dict) else [{"params": found}]
        checked = [self._checked_group(group) for group in groups]
        _check_once([param for group in checked for param in group["params"]], name)
        self.param_groups: list[Group] = checked
        self._sound: list[Any] = [self._values(group) for group in checked]
        self._now: Group | None = checked[0]

    @property
    def params(self) -> list[Parameter]:
        """The parameters of all groups."""
        return [param for group in self.param_groups for param in group["params"]]

    def add_param_group(self, param_group: Group) -> None:
        """Add a group: a dict with "params" and any of the options, as in the constructor.

        Raises
        ------
        ValueError, TypeError
            As the constructor does. Nothing has been added then.
        """
        group = self._checked_group(param_group)
        _check_once([*self.params, *group["params"]], type(self).__name__)
        self.param_groups.append(group)
        self._sound.append(self._values(group))

    def step(self) -> None:
        """Change every parameter that has a gradient, in place.

        Raises
        ------
        ValueError, TypeError
            If a gradient is no array of the shape of its parameter or shares its memory, a parameter is read-only, or
            an option in `param_groups` is not what the constructor would take. No parameter has been changed then.
        """
        groups = self.param_groups
        fused = _compiled.fused()
        for group in groups:
            if fused is None or fused.misfit(group["params"]):
                self._check_gradients(group["params"])
        for i, group in enumerate(groups):
            values = self._values(group)
            if values != self._sound[i]:
                self._check_options(group)
                self._sound[i] = self._values(group)
        first = self._now
        try:
            for group in groups:
                self._now = group
                for param in self._step_together(group):
                    self._step_alone(param)
        finally:
            self._now = first

    def _values(self, group: Group) -> list[Any]:
        return [group[name] for name in ("lr", *self.option_names)]

    def _check_gradients(self, params: Sequence[Parameter]) -> None:
        for param in params:
            if param.grad is not None:
                check_for_step(param, f"{type(self).__name__}.step")

    def _step_together(self, group: Group) -> Iterable[Parameter]:
        """Step the parameters of a group with a compiled loop; return those that are left for `_update`."""
        return [param for param in group["params"] if param.grad is not None]

    def _step_alone(self, param: Parameter) -> None:
        assert param.grad is not None
        state = self.state.setdefault(param, {})
        dtype = working_dtype(param)
        data, grad = np.asarray(param.data), np.asarray(param.grad)  # of no subclass
        data, grad = data.astype(dtype, copy=False), grad.astype(dtype, copy=False)
        a, b = np.empty_like(data), np.empty_like(data)
        self._update(data, grad, state, a, b)
        if data is not param.data:
            np.asarray(param.data)[...] = data

    def _update(self, data: Array, grad: Array, state: State, a: Array, b: Array) -> None:
        """Change `data` in place, element by element, with the options that the attributes show now.

        `grad` must be left alone; `a` and `b` are scratch arrays of its shape.
        """
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
        return saved(self.param_groups, self.state, self._constants)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where the optimiser that gave `state_dict` was; one of PyTorch's will do.

        Raises
        ------
        ValueError
            If it belongs to other parameters or another optimiser. Nothing has been changed then.
        """
        options, state = self._taken(state_dict, converted)
        for group, own in zip(options, self.param_groups, strict=True):
            own.update(group)
        self.state = state

    def _check_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raise what `load_state_dict` would, but for the numbers in arrays, of which none is read."""
        self._taken(state_dict, declared)

    def _taken(self, state_dict: Mapping[str, Any], take: Take) -> tuple[list[Group], dict[Parameter, State]]:
        """What `load_state_dict` takes over, its arrays as `take` makes them."""
        kind = Kind(
            type(self).__name__, self.option_names, self.state_names, self._never_negative, self._constants,
            self._off_by_default, self._optional_states,
        )  # fmt: skip
        options, state = unpacked(state_dict, self.param_groups, kind, _KEPT, take)
        for group, own in zip(options, self.param_groups, strict=True):
            try:
                self._check_options({**group, "params": own["params"]})
            except TypeError as error:  # no less a wrong state dict
                raise ValueError(str(error)) from None
        return options, state

    # Groups

    def _checked_group(self, given: Any) -> Group:
        name = type(self).__name__
        if not isinstance(given, Mapping):
            raise TypeError(f"{name}: params must hold Parameter objects or only dicts, got {type(given).__name__}.")
        if "params" not in given:
            raise ValueError(f'{name}: a group of params has no "params"; it holds {", ".join(map(repr, given))}.')
        known = ("params", "lr", *self.option_names, *_KEPT)
        unknown = [key for key in given if key not in known]
        if unknown:
            raise ValueError(
                f"{name}: a group of params has {shown(unknown[0])}, which is no option of {name}; "
                f"it may have {', '.join(('lr', *self.option_names))}."
            )
        options = {key: given.get(key, self._defaults[key]) for key in ("lr", *self.option_names)}
        group = {**options, **{key: given[key] for key in _KEPT if key in given}}
        group["params"] = _as_list(given["params"], name)
        for param in group["params"]:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"{name}: params must hold Parameter objects, got {type(param).__name__}; pass model.parameters()."
                )
        if any(key in given for key in options):
            self._check_options(group)
        return group

    def _check_options(self, group: Group) -> None:
        """Put options of a group into the form that the constructor gives them, or raise what it raises."""
        options = {name: group[name] for name in ("lr", *self.option_names)}
        # Building a second optimiser checks the options by the rules of the first.
        checked = type(self)(group["params"][:1], **options)
        group.update({name: getattr(checked, name) for name in options})

    def __repr__(self) -> str:
        groups = self.param_groups
        parts = []
        for name in ("lr", *self.option_names):
            values = [group[name] for group in groups]
            if name in self._off_by_default and not any(values):
                continue
            parts.append(f"{name}={values[0] if all(value == values[0] for value in values) else values!r}")
        count = f"{len(self.params)} parameters" + (f" in {len(groups)} groups" if len(groups) > 1 else "")
        return f"{type(self).__name__}({count}, {', '.join(parts)})"


def _as_list(params: Any, name: str) -> list[Any]:
    if isinstance(params, (Module, Parameter)):
        raise TypeError(
            f"{name}: params must be an iterable of parameters, got {type(params).__name__}; pass model.parameters()."
        )
    try:
        if isinstance(params, Mapping):
            raise TypeError
        found = list(params)
    except Exception:  # an __iter__ of somebody else's may raise anything
        got = type(params).__name__ if isinstance(params, Mapping) else shown(params)  # a state dict is long
        raise TypeError(
            f"{name}: params must be an iterable of parameters, got {got}; pass model.parameters()."
        ) from None
    if not found:
        raise ValueError(
            f"{name}: params is empty; pass model.parameters() of a model that has some (an iterator works once)."
        )
    return found


def _check_once(params: Sequence[Parameter], name: str) -> None:
    if len({id(param) for param in params}) != len(params):
        raise ValueError(f"{name}: params holds the same Parameter twice; pass each one once.")
