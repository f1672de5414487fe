from typing import Any

from numpy.typing import NDArray

from normcore._context import NormContext
from normcore._plan import Plan

Array = NDArray[Any]

def forward(
    op: str, options: tuple[Any, ...], x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, out: Any
) -> tuple[Array, NormContext] | None: ...
def backward(op: str, dy: Any, ctx: Any, out: Any) -> tuple[Array, Array | None, Array | None] | None: ...
def learn(plan: Plan, options: tuple[Any, ...]) -> None: ...
