"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from normcore._shown import shown

from ._checks import Array
from ._norm import Activation, Norm, Skipped, is_pair, is_watched
from .module import Module

_Self = TypeVar("_Self", bound="Sequential")


class Sequential(Module):
    """Layers applied in order; backward goes through them in reverse.

    Parameters
    ----------
    *layers : Module, or one mapping of str to Module
        Their names are "0", "1", ..., so the keys of the state dict are PyTorch's: "0.weight", "1.running_mean". A
        mapping (an `OrderedDict` in PyTorch) gives them names of its own, under which they are attributes too.

    Attributes
    ----------
    fuse : bool
        Whether a norm and the activation behind it run as one kernel (default True). The results are the same to
        rounding. A pair is left alone while either of them has a forward hook, or a `forward` or `backward` of its own.

    Notes
    -----
    Each layer checks its own input. When a later one refuses, batch norm layers before it have already taken the batch
    into their running statistics, as in PyTorch. `Trainer.fit` tries the whole model on two rows first.

    Raises
    ------
    TypeError
        If something is not a Module.
    ValueError
        If one layer object appears twice: it could keep only its last forward, and gradients would be wrong. Or if a
        name is empty, has a dot, or is an attribute already.
    """

    fuse: bool = True
    _layers: tuple[Module, ...] = ()
    _names: tuple[str, ...] = ()
    _steps: tuple[tuple[Module, Activation | None], ...] = ()  # a layer, with the activation that it could do too

    def __init__(self, *layers: Any) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            self._arrange(layers[0].values(), layers[0])
        else:
            self._arrange(layers, map(str, range(len(layers))))

    def _arrange(self, layers: Iterable[Any], names: Iterable[Any]) -> None:
        """Check the layers and their names, take them, and look which of them can run as one."""
        layers, names = tuple(layers), tuple(names)
        seen: dict[int, int] = {}
        for position, layer in enumerate(layers):
            if not isinstance(layer, Module):
                what = (
                    f"the class {layer.__name__}; call it"
                    if isinstance(layer, type)
                    else f"{type(layer).__name__}; pass each layer as an argument of its own"
                )
                raise TypeError(f"Sequential: layer {position} must be a Module, got {what}.")
            for module in layer.modules():
                if module is self:
                    raise ValueError(f"Sequential: layer {position} holds this very Sequential; make another one.")
                first = seen.setdefault(id(module), position)
                if first != position:
                    raise ValueError(
                        f"Sequential: the same {type(module).__name__} object is in layers {first} and {position}; "
                        "make one for each place, since a layer keeps only its last forward for backward."
                    )
        for name in names:
            if not isinstance(name, str) or not name or "." in name or hasattr(type(self), name):
                raise ValueError(
                    f"Sequential: the name of a layer must be a word that is no attribute yet, got {shown(name)}; "
                    "choose another."
                )
        steps: list[tuple[Module, Activation | None]] = []
        behind_pair = False
        for layer, behind in zip(layers, [*layers[1:], None], strict=False):
            if behind_pair:
                behind_pair = False
                continue
            behind_pair = behind is not None and is_pair(layer, behind)
            steps.append((layer, behind if behind_pair else None))
        self._layers, self._names, self._steps = layers, names, tuple(steps)

    def _renumbered(self, layers: list[Module], names: list[str]) -> None:
        """Take these layers; numbers among the names become the new positions."""
        self._arrange(layers, [str(i) if name.isdigit() else name for i, name in enumerate(names)])

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs of name (the position, as a string, unless it was given one) and layer."""
        yield from zip(self._names, self._layers, strict=True)

    def forward(self, x: Array) -> Array:
        """Return the output of the last layer."""
        fuse = self.fuse
        for layer, activation in self._steps:
            if activation is None:
                x = layer(x)
            elif (
                fuse
                and (name := activation.fused_name) is not None
                and not is_watched(layer)
                and not is_watched(activation)
            ):
                assert isinstance(layer, Norm)
                x = layer.forward_fused(x, activation, name)
            else:
                x = activation(layer(x))
        return x

    def backward(self, dy: Array) -> Array:
        """Set the gradients of all parameters and return dx."""
        for layer, activation in reversed(self._steps):
            dy = _step_back(layer, activation, dy)
        return dy

    def backward_parameters(self, dy: Array) -> None:
        """Set the gradients of all parameters; layers in front of the first one that has any are left out."""
        steps = self._steps
        first = 0
        for layer, _ in steps:
            if next(layer.parameters(), None) is not None:
                break
            first += 1
        for layer, activation in reversed(steps[first + 1 :]):
            dy = _step_back(layer, activation, dy)
        for layer, activation in steps[first : first + 1]:
            if activation is None and "backward" not in layer.__dict__:
                layer.backward_parameters(dy)
            else:
                _step_back(layer, activation, dy)

    # As a sequence

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        if not isinstance(index, slice):
            return self._layers[index]
        part = Sequential()
        part.fuse = self.fuse
        part._renumbered(list(self._layers[index]), list(self._names[index]))
        return part

    def __setitem__(self, index: int, layer: Module) -> None:
        layers = list(self._layers)
        layers[index] = layer
        self._arrange(layers, self._names)

    def __delitem__(self, index: int | slice) -> None:
        layers, names = list(self._layers), list(self._names)
        del layers[index], names[index]
        self._renumbered(layers, names)

    def append(self: _Self, layer: Module) -> _Self:
        """Add a layer behind the last, and return self."""
        return self.insert(len(self), layer)

    def extend(self: _Self, layers: Iterable[Module]) -> _Self:
        """Add layers behind the last, and return self."""
        added = list(layers)
        self._renumbered([*self._layers, *added], [*self._names, *["0"] * len(added)])
        return self

    def insert(self: _Self, index: int, layer: Module) -> _Self:
        """Put a layer before the one at `index`, and return self. Numbers in names and state-dict keys move on."""
        layers, names = list(self._layers), list(self._names)
        layers.insert(index, layer)
        names.insert(index, "0")
        self._renumbered(layers, names)
        return self

    def __getattr__(self, name: str) -> Module:
        if name in self._names:
            return self._layers[self._names.index(name)]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _step_back(layer: Module, activation: Activation | None, dy: Array) -> Array:
    """The gradient of the input of a layer, and of the activation behind it if they are a pair."""
    if activation is not None:
        saved = activation._saved
        # Only if the last forward of both was the one they made together.
        if (
            type(saved) is Skipped
            and saved.ctx is layer._saved
            and "backward" not in layer.__dict__
            and "backward" not in activation.__dict__
        ):
            assert isinstance(layer, Norm)
            return layer.backward_fused(dy)
        dy = activation.backward(dy)
    return layer.backward(dy)
