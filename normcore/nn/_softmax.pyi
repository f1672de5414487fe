from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def losses(output: Array, target: Array) -> tuple[Array, Array, Array] | None: ...
def gradient(exponential: Array, total: Array, target: Array, scale: float) -> Array | None: ...
