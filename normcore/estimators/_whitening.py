"""The matrices that whiten a covariance, and those that go back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from normcore.estimators._transform import Bools, Float64

METHODS = ("pca", "zca", "cholesky", "pca-cor", "zca-cor")


class Whitening(NamedTuple):
    """z = forward @ (x - mean), x = backward @ z + mean."""

    forward: Float64  # (C, C)
    backward: Float64  # (C, C)
    eigenvalues: Float64  # of the covariance or, for "-cor", of the correlation; from the largest on
    rank: int


def whitening(method: str, cov: Float64, constant: Bools, eps: float, tol: float, noise: Float64) -> Whitening:
    """Matrices for one of METHODS; features marked as constant have no share in any direction.

    Directions whose eigenvalue is at most `tol` times the largest are null: forward and backward are 0 there. So are
    those whose variance is at most what `noise`, the variance of each feature's rounding, gives along them.
    """
    cov = np.where(constant | constant[:, None], 0.0, cov)
    noise = np.where(constant, 0.0, noise)
    if method == "cholesky":
        return _cholesky(cov, eps, tol, noise)
    scale = np.ones(len(cov))
    if method.endswith("-cor"):
        scale = np.sqrt(np.where(constant, 1.0, np.diagonal(cov)))
        cov = cov / scale / scale[:, None]
    values, vectors = eigenvalues(cov)
    # Features are rounded each by itself: a direction has of it what its entries take, not that of the largest feature.
    kept = values > np.maximum(tol * values[0], noise / scale**2 @ vectors**2)
    root = np.sqrt(np.where(kept, values + eps, 1.0))
    forward = np.where(kept[:, None], vectors.T / root[:, None], 0.0)
    backward = np.where(kept, vectors * root, 0.0)
    if method.startswith("zca"):
        forward, backward = vectors @ forward, backward @ vectors.T
    return Whitening(forward / scale, scale[:, None] * backward, values, int(kept.sum()))


def eigenvalues(matrix: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues from the largest on, none negative, and vectors whose largest entry is positive."""
    # Of a matrix around 1: LAPACK's own rescaling would lose the smallest eigenvalues of a tiny or huge one.
    size = np.abs(matrix).max(initial=0.0) or 1.0
    values, vectors = np.linalg.eigh(matrix / size)
    values, vectors = np.maximum(values[::-1], 0.0) * size, vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    return values, vectors * np.where(vectors[largest, np.arange(len(values))] < 0, -1.0, 1.0)


def _cholesky(cov: Float64, eps: float, tol: float, noise: Float64) -> Whitening:
    values = eigenvalues(cov)[0]
    kept = _independent(cov, tol * values[0], noise)
    among = np.ix_(kept, kept)
    identity = np.eye(int(kept.sum()))
    factor = np.linalg.cholesky(cov[among] + eps * identity)
    forward, backward = np.zeros_like(cov), np.zeros_like(cov)
    forward[among] = np.tril(np.linalg.solve(factor, identity))
    backward[among] = factor
    # A feature that depends on those before it is what these make of it.
    backward[np.ix_(~kept, kept)] = np.linalg.solve(cov[among], cov[np.ix_(kept, ~kept)]).T @ factor
    return Whitening(forward, backward, values, int(kept.sum()))


def _independent(cov: Float64, least: float, noise: Float64) -> Bools:
    """Which features keep a variance beyond `least` and `noise` when what those before them explain is taken away."""
    factor = np.zeros_like(cov)
    rows = np.zeros_like(cov)  # of the inverse of the factor: what is left of feature k is a sum of features
    kept = np.zeros(len(cov), bool)
    for k in range(len(cov)):
        column = cov[k:, k] - factor[k:, :k] @ factor[k, :k]
        left = -factor[k, :k] @ rows[:k]
        left[k] = 1.0
        kept[k] = column[0] > max(least, noise @ left**2)
        if kept[k]:
            factor[k:, k] = column / np.sqrt(column[0])
            rows[k] = left / np.sqrt(column[0])
    return kept
