"""Rows of a dense or a sparse matrix, as dense arrays of the network's dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore.nn._checks import Array


class Rows:
    """Gives rows by slice or index.

    Sparse rows are made dense batch by batch, so that never more of them is in memory than a batch; prediction takes
    them as they are.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (N, features)
    dtype : dtype
    index : ndarray of int, optional
        The rows that count as all; every one when not given.
    """

    def __init__(self, X: Any, dtype: np.dtype[Any], index: Array | None = None) -> None:
        self.is_sparse = not isinstance(X, np.ndarray)
        self._X = X.tocsr() if self.is_sparse else X
        self._dtype = dtype
        self._index = index
        # take is several times quicker on short rows, but copies an array whole whose memory has gaps.
        self._takes = not self.is_sparse and X.flags.c_contiguous

    def __len__(self) -> int:
        return int(self._X.shape[0]) if self._index is None else len(self._index)

    def take(self, at: slice | Array) -> Array:
        """The rows `at`, which may be a view of the caller's."""
        where = at if self._index is None else self._index[at]
        if self.is_sparse:
            found: Array = self._X[where].toarray()
        elif self._takes and not isinstance(where, slice):
            found = self._X.take(where, axis=0)
        else:
            found = self._X[where]
        return found if found.dtype == self._dtype else found.astype(self._dtype)

    def take_sparse(self, at: slice) -> Any:
        """The rows `at` of a sparse matrix, as a sparse matrix."""
        return self._X[at if self._index is None else self._index[at]].astype(self._dtype, copy=False)
