"""torch.compile of what PyTorch's eager contender calls, for this very shape, into a result that is reused.

Every compilation takes seconds, so it competes on `grid.COMPILED` in float32 only.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benches.cases import Problem
from benches.grid import COMPILED as SHAPES

from . import torch_
from .base import Contender, NotOffered, Ways


def _ways(p: Problem) -> Ways:
    if p.case.shape not in SHAPES or p.case.dtype != "float32":
        raise NotOffered("compiled on a part of the shapes only")
    import torch

    t = torch_.tensors(p)
    backward = p.case.direction == "backward"
    operation = torch_.backward(p, t) if backward else torch_.functional_forward(p, t)
    out = torch.zeros_like(t.x)

    def into(*arguments: Any) -> Any:
        results = operation.function(*arguments)
        if isinstance(results, tuple):
            return out.copy_(results[0]), *results[1:]
        return out.copy_(results)

    torch._dynamo.reset()  # what was compiled before is not called again, and there is a limit
    call = partial(torch.compile(into, dynamic=False), *operation.arguments)
    call()
    return {"torch.compile": call}


COMPILED = Contender("compile", _ways, torch_.absent, torch_.session, peer=True)
