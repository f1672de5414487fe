"""fit and partial_fit, with and without weights; neither leaves an estimator half changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight


@contextmanager
def unchanged_by_errors(estimator: Any) -> Iterator[None]:
    """Put all attributes back if the block raises: no estimator is half of one fit and half of another."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def checked_weights(sample_weight: Any, X: NDArray[Any], fresh: bool) -> NDArray[np.float64]:
    """One weight for each row; all of them 0 only besides what was learned before."""
    if not fresh and not np.any(sample_weight):  # scikit-learn refuses them in a `fit`, and newer ones everywhere
        return 0.0 * checked_weights(np.add(sample_weight, 1.0), X, True)
    weights: NDArray[np.float64] = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return weights


class Learning:
    """fit and partial_fit, over what another base does with the rows."""

    # (X, sample_weight, fresh) -> self: learn from some rows, from the beginning or besides those before
    _learn: Callable[..., Any]

    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn from `X`, and forget what was learned before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            Fitted.
        """
        return self._learn(X, None, fresh=True)

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Learn from `X` as well: the result is that of `fit` on all rows so far, however they were cut.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Some more of the data.
        y : None
            Ignored.

        Returns
        -------
        self : object
            Fitted.
        """
        return self._learn(X, None, fresh=not hasattr(self, "n_samples_seen_"))


class WeightedLearning(Learning):
    """With weights for the rows."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Learn from `X`, and forget what was learned before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, not negative; a row of weight 0 is as if it were not there.

        Returns
        -------
        self : object
            Fitted.
        """
        return self._learn(X, sample_weight, fresh=True)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Learn from `X` as well: the result is that of `fit` on all rows so far, however they were cut.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Some more of the data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, not negative; a row of weight 0 is as if it were not there. A first
            block needs a weight beyond 0; later ones whose weights are all 0 change nothing.

        Returns
        -------
        self : object
            Fitted.
        """
        return self._learn(X, sample_weight, fresh=not hasattr(self, "n_samples_seen_"))
