"""transform: scikit-learn's checks for everything, and a short way for a few rows in a plain array."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import FLOAT_DTYPES, _check_n_features, check_array, check_is_fitted, validate_data

from normcore.estimators._masked import refuse_masks

Array: TypeAlias = NDArray[Any]
Float64: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

_FEW = 4096  # values: beyond, scikit-learn's checks cost little beside the work
_PLAIN = (np.dtype(np.float64), np.dtype(np.float32))


class CheckedTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc] # sklearn has no types
    """What a subclass does with an array, behind scikit-learn's checks and containers."""

    copy: bool
    _finite: bool | str = "allow-nan"  # what to let through, as `ensure_all_finite` of check_array

    _unfitted: str | None = None  # what to say before there is anything to transform by; None for scikit-learn's words

    def _apply(self, X: Array, out: Array | None) -> Array:
        """Transform a float array of the right number of features, into `out` if given (then it is X)."""
        raise NotImplementedError

    def _invert(self, X: Array, out: Array | None) -> Array:
        """Undo `_apply`."""
        raise NotImplementedError

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        # scikit-learn wraps this one for set_output. What users call, and read about, is in QuickTransformer.
        check_is_fitted(self, msg=self._unfitted)
        copy = self.copy if copy is None else copy
        refuse_masks(X=X)
        X = validate_data(
            self, X, reset=False, dtype=FLOAT_DTYPES, ensure_all_finite=self._finite, force_writeable=not copy
        )
        return self._apply(X, None if copy else X)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            What `transform` returned, or looks like it.
        copy : bool, default=None
            False writes the result into `X` where it is a float array. None: as the estimator was made.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Of the dtype of `X`.
        """
        check_is_fitted(self, msg=self._unfitted)
        copy = self.copy if copy is None else copy
        refuse_masks(X=X)
        X = check_array(
            X,
            dtype=FLOAT_DTYPES,
            ensure_all_finite=self._finite,
            force_writeable=not copy,
            estimator=self,
            input_name="X",
        )
        _check_n_features(self, X, reset=False)
        return self._invert(X, None if copy else X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_samples_seen_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._finite == "allow-nan"
        tags.transformer_tags.preserves_dtype = ["float64", "float32", "float16"]
        return tags


class QuickTransformer:
    """Goes before a `CheckedTransformer` among the bases, where scikit-learn does not wrap it.

    Its checks and its wrapping take fifty times as long as scaling a row does. None of them can find anything in a
    plain array of the right width with finite values, when nobody has asked for another container and there are no
    feature names to miss; anything else goes the long way, and gets its errors there.
    """

    copy: bool

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Transform `X` by what was learned from the data of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            What to transform.
        copy : bool, default=None
            False writes the result into `X` where it is a float array. None: as the estimator was made.

        Returns
        -------
        X_tr : ndarray of shape (n_samples, n_features)
            Of the dtype of `X` if that is floating point, else float64; or what `set_output` asked for.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            If `X` has another number of features, other feature names, infinite values or none, or is sparse.
        """
        if type(X) is np.ndarray and X.ndim == 2 and 0 < X.size <= _FEW and X.dtype in _PLAIN and copy is None:
            state = self.__dict__
            if (
                "n_samples_seen_" in state
                and state.get("n_features_in_") == X.shape[1]  # not there after fitting what has no shape
                and "feature_names_in_" not in state
                and "_sklearn_output_config" not in state
                and self.copy
                and get_config()["transform_output"] == "default"
                and b"\0" not in np.isfinite(X).tobytes()  # .all(), at half the price
            ):
                return self._apply(X, None)  # type: ignore[attr-defined] # of the other base
        return super().transform(X, copy)  # type: ignore[misc] # of the other base
