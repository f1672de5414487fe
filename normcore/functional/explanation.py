"""Which kernel a call would run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from normcore import _dispatch, _planners
from normcore._shown import shown
from normcore.functional import batch, group, instance, layer, rms

# The functions themselves: one of somebody else's may have the name of ours.
_NAMES = {
    getattr(module, name): name
    for name in _planners.PLANNERS
    for module in (batch, group, instance, layer, rms)
    if hasattr(module, name)
}


def explain(function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> _dispatch.Explanation:
    """Say which kernel would run a call, and why each faster one declined; nothing is computed.

    Parameters
    ----------
    function : callable or str
        A function of this module, or its name.
    *args, **kwargs
        What it would be called with. Mistakes raise as they would in the call.

    Returns
    -------
    Explanation
        Print it; or read its ``kernel``, ``num_threads``, ``declined`` (a dict from kernel to reason) and ``plan``.

    Raises
    ------
    ValueError
        If `function` is not one of this module.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> nc.explain(nc.batch_norm, np.ones((8, 4)), training=True).kernel
    'cython: channels'
    """
    name = function if isinstance(function, str) else _NAMES.get(function) if callable(function) else None
    planner = None if name is None else _planners.PLANNERS.get(name)
    if planner is None:
        raise ValueError(f"function must be one of {', '.join(_planners.PLANNERS)}, or its name, got {shown(function)}")
    plan, _ = planner(*args, **kwargs)
    return _dispatch.explanation(plan)
