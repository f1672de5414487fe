"""Which parameters decay."""

from __future__ import annotations

from typing import Any

from normcore.nn import Module, Parameter
from normcore.nn._checks import as_number


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return groups for an optimiser in which biases and parameters of normalisation layers do not decay.

    Parameters
    ----------
    model : Module
        Whose parameters they are.
    weight_decay : float
        For all the others: the weights that multiply.

    Returns
    -------
    list of dict
        `[{"params": [...], "weight_decay": weight_decay}, {"params": [...], "weight_decay": 0.0}]`, without a group
        that would be empty. Left undecayed is what is called "bias", what has fewer than two dimensions, and what
        belongs to a normalisation layer.

    Raises
    ------
    TypeError
        If `model` is not a Module or `weight_decay` not a number.
    ValueError
        If `weight_decay` is negative or not finite.

    Examples
    --------
    >>> import normcore as nc
    >>> model = nc.MLP([784, 128, 10])
    >>> optimizer = nc.optim.AdamW(nc.optim.decay_groups(model, weight_decay=0.05), lr=1e-3)
    >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    [(2, 0.05), (4, 0.0)]
    """
    if not isinstance(model, Module):
        raise TypeError(f"decay_groups: model must be a normcore.nn.Module, got {type(model).__name__}.")
    weight_decay = as_number(weight_decay, "weight_decay", "decay_groups", "[0, inf)")
    decayed: list[Parameter] = []
    spared: list[Parameter] = []
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Parameter):
                # Of all layers only those that normalise have an eps.
                exempt = name == "bias" or value.data.ndim < 2 or hasattr(module, "eps")
                (spared if exempt else decayed).append(value)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
