from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def use_vectors(name: str) -> str: ...
def forward(x: Array, weight: Array, bias: Array | None, threads: Callable[[], int]) -> Array | None: ...
def gradients(x: Array, dy: Array, dweight: Array, dbias: Array | None, threads: Callable[[], int]) -> bool: ...
