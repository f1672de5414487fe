"""The fast lane where it is compiled (``_compiled_lane.pyx``), and a closed one elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normcore._compiled_lane import backward as backward
    from normcore._compiled_lane import forward as forward
    from normcore._compiled_lane import learn as learn
else:
    try:
        from normcore._compiled_lane import backward, forward, learn
    except ImportError:

        def closed(*arguments: Any) -> None:
            """Every call goes the general way."""

        backward = forward = learn = closed
