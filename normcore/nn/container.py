"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import overload

from ._checks import Array
from .module import Module


class Sequential(Module):
    """Layers applied in order; backward goes through them in reverse.

    Parameters
    ----------
    *layers : Module
        Their names are "0", "1", ..., so the keys of the state dict are PyTorch's: "0.weight", "1.running_mean".

    Notes
    -----
    Each layer checks its own input. When a later one refuses, batch norm layers before it have already taken the batch
    into their running statistics, as in PyTorch. `Trainer.fit` tries the whole model on two rows first.

    Raises
    ------
    TypeError
        If something is not a Module.
    ValueError
        If one layer object appears twice: it could keep only its last forward, and gradients would be wrong.
    """

    def __init__(self, *layers: Module) -> None:
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
                first = seen.setdefault(id(module), position)
                if first != position:
                    raise ValueError(
                        f"Sequential: the same {type(module).__name__} object is in layers {first} and {position}; "
                        "make one for each place, since a layer keeps only its last forward for backward."
                    )
        self._layers = tuple(layers)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs of position, as a string, and layer."""
        for position, layer in enumerate(self._layers):
            yield str(position), layer

    def forward(self, x: Array) -> Array:
        """Return the output of the last layer."""
        for layer in self._layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Array) -> Array:
        """Set the gradients of all parameters and return dx."""
        for layer in reversed(self._layers):
            dy = layer.backward(dy)
        return dy

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        return Sequential(*self._layers[index]) if isinstance(index, slice) else self._layers[index]
