"""Batch norm of one feature in plain Python, every intermediate kept, with either kind of variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

POPULATION, SAMPLE = "population", "sample"


class Steps(NamedTuple):
    """What is computed for one feature; a list has a number for each row of the batch.

    Attributes
    ----------
    x : list of float
        The values.
    mean : float
        sum(x) / m.
    centred, squares : list of float
        x - mean, and its square.
    divisor : int
        m for the population variance, m - 1 for the sample variance.
    var, std : float
        sum(squares) / divisor, and sqrt(var + eps).
    xhat, y : list of float
        centred / std, and gamma * xhat + beta.
    dy, dxhat : list of float
        The gradient of y, which is given, and gamma * dy.
    dbeta, dgamma : float
        sum(dy), and sum(dy * xhat).
    dx : list of float
        (dxhat - sum(dxhat) / m - xhat * sum(dxhat * xhat) / divisor) / std.
    """

    x: list[float]
    mean: float
    centred: list[float]
    squares: list[float]
    divisor: int
    var: float
    std: float
    xhat: list[float]
    y: list[float]
    dy: list[float]
    dxhat: list[float]
    dbeta: float
    dgamma: float
    dx: list[float]


def steps(x: Sequence[float], dy: Sequence[float], kind: str, gamma: float, beta: float, eps: float) -> Steps:
    """Return every intermediate of batch norm of one feature, forward and backward.

    Parameters
    ----------
    x, dy : sequence of float
        The feature in each row of the batch, and the gradient of the loss for its output.
    kind : {"population", "sample"}
        Which variance.
    gamma, beta, eps : float
        As in the paper.

    Examples
    --------
    >>> done = steps([1.0, 2.0, 3.0, 6.0], [1.0, 0.0, 0.0, 0.0], "population", 1.0, 0.0, 0.5)
    >>> done.mean, done.var, done.xhat
    (3.0, 3.5, [-1.0, -0.5, 0.0, 1.5])
    """
    m = len(x)
    divisor = m if kind == POPULATION else m - 1
    mean = sum(x) / m
    centred = [value - mean for value in x]
    squares = [value * value for value in centred]
    var = sum(squares) / divisor
    std = math.sqrt(var + eps)
    xhat = [value / std for value in centred]
    dxhat = [gamma * value for value in dy]
    along = sum(a * b for a, b in zip(dxhat, xhat, strict=True))
    return Steps(
        x=list(x),
        mean=mean,
        centred=centred,
        squares=squares,
        divisor=divisor,
        var=var,
        std=std,
        xhat=xhat,
        y=[gamma * value + beta for value in xhat],
        dy=list(dy),
        dxhat=dxhat,
        dbeta=sum(dy),
        dgamma=sum(a * b for a, b in zip(dy, xhat, strict=True)),
        dx=[(a - sum(dxhat) / m - b * along / divisor) / std for a, b in zip(dxhat, xhat, strict=True)],
    )
