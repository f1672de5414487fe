from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from normcore.nn import Parameter

def use_vectors(name: str) -> str: ...
def misfit(params: list[Parameter]) -> bool: ...
def adam(
    params: list[Parameter],
    states: dict[Parameter, dict[str, Any]],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    decoupled: bool,
    threads: Callable[[int], int],
) -> list[Parameter]: ...
def sgd(
    params: list[Parameter],
    states: dict[Parameter, dict[str, Any]],
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    threads: Callable[[int], int],
) -> list[Parameter]: ...
def squares(array: NDArray[Any]) -> float | None: ...
