"""The fast lane where it is compiled (``_compiled_lane.pyx``), and a closed one elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normcore._plan import Plan

try:
    from normcore._compiled_lane import backward as backward
    from normcore._compiled_lane import forward as forward
    from normcore._compiled_lane import learn as learn
except ImportError:

    def forward(op: str, options: tuple[Any, ...], *arrays: Any) -> Any:  # noqa: ARG001 - the lane's signature
        """None: every call goes the general way."""

    def backward(op: str, dy: Any, ctx: Any, out: Any) -> Any:  # noqa: ARG001 - the lane's signature
        """None: every call goes the general way."""

    def learn(plan: Plan, options: tuple[Any, ...]) -> None:
        """Nothing to learn for."""
