"""Whitener: unit variance and no correlation."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data

from normcore.covariance import RunningCovariance
from normcore.estimators._learning import WeightedLearning, checked_weights, unchanged_by_errors
from normcore.estimators._masked import refuse_masks
from normcore.estimators._scaler import is_constant
from normcore.estimators._transform import Array, CheckedTransformer, Float64, QuickTransformer
from normcore.estimators._whitening import METHODS, whitening

_EPS = float(np.finfo(np.float64).eps)
_BLOCK = 1 << 18  # values multiplied in one go, in float64


class Whitener(WeightedLearning, QuickTransformer, CheckedTransformer):
    r"""Make features uncorrelated and of unit variance.

    .. math:: z = W (x - mean), \quad W \Sigma W^T = I

    With the covariance :math:`\Sigma = U \Lambda U^T = V^{1/2} P V^{1/2}`, where V is the diagonal of variances and the
    correlation :math:`P = G \Theta G^T`, there is a choice of W:

    ============ ===================================== ======================================================
    method       W                                     what for
    ============ ===================================== ======================================================
    "pca"        :math:`\Lambda^{-1/2} U^T`            principal components, from the largest on
    "zca"        :math:`U \Lambda^{-1/2} U^T`          closest to the data themselves; images stay images
    "cholesky"   :math:`L^{-1}, \Sigma = L L^T`        each feature less what those before it explain
    "pca-cor"    :math:`\Theta^{-1/2} G^T V^{-1/2}`    "pca" of standardised data
    "zca-cor"    :math:`G \Theta^{-1/2} G^T V^{-1/2}`  closest to the standardised data
    ============ ===================================== ======================================================

    Data whose features depend on one another have directions in which nothing varies. Dividing by their variance, which
    is rounding, gives anything up to millions; here they stay at 0, and `inverse_transform` puts the data back.

    Parameters
    ----------
    method : {"pca", "zca", "cholesky", "pca-cor", "zca-cor"}, default="pca"
        Which of them.
    eps : float, default=0.0
        Added to the eigenvalues before dividing by their roots (for "cholesky", to the variances): directions of little
        variance are blown up less. In squared units of the data; for "-cor", where variances are 1, in none.
    ddof : float, default=1
        The covariance is divided by ``n_samples - ddof``: the result has unit variance as `numpy.cov` counts it, and as
        scikit-learn's ``PCA(whiten=True)`` gives it. 0 for that of StandardScaler and `numpy.std`.
    tol : float, default=None
        Eigenvalues of at most `tol` times the largest are taken for 0. None: what rounding may leave in that direction,
        of each feature in the precision of the data, and of float64.
    copy : bool, default=True
        False writes the result of `transform` into its input where that is a float array.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of each feature, float64.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance, divided by ``n_samples - ddof``.
    eigenvalues_ : ndarray of shape (n_features,)
        Of the covariance or, for "-cor", of the correlation; from the largest on.
    rank_ : int
        How many directions are not null.
    whitening_, unwhitening_ : ndarray of shape (n_features, n_features)
        W, and what goes back: ``z = whitening_ @ (x - mean_)``, ``x = unwhitening_ @ z + mean_``.
    constant_features_ : ndarray of bool, shape (n_features,)
        Which features have no variance beyond rounding.
    n_samples_seen_ : int or float
        Number of rows, or the sum of their weights.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    See Also
    --------
    StandardScaler : Unit variance alone.
    normcore.RunningCovariance : The statistics by themselves.

    Notes
    -----
    Covariance, matrices and products are float64; the result has the dtype of its input. Each of "pca" and "pca-cor"'s
    directions has the sign that makes its largest entry positive. With "cholesky" a feature that depends on those
    before it is the one that is 0. Every `partial_fit` decomposes the covariance once. NaN is refused: a row with a
    missing value has no place to go to.

    Kessy, Lewin & Strimmer 2018, Optimal whitening and decorrelation; there Cholesky's W is the upper triangular
    :math:`chol(\Sigma^{-1})^T`, which goes from the last feature to the first.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore.estimators import Whitener
    >>> x = np.random.default_rng(0).standard_normal((500, 2)) @ [[3.0, 1.0], [0.0, 0.5]]
    >>> z = Whitener().fit_transform(x)
    >>> np.allclose(np.cov(z, rowvar=False), np.eye(2))
    True
    >>> whitener = Whitener(method="zca").fit(np.column_stack([x, x.sum(1)]))
    >>> whitener.rank_
    2
    """

    _statistics: RunningCovariance
    _precision: float  # eps of the coarsest data so far
    _rows: float  # how many had a weight beyond 0
    _weighted: bool

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn's way
        "method": [StrOptions(set(METHODS))],
        "eps": [Interval(Real, 0, None, closed="left")],
        "ddof": [Interval(Real, 0, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="left"), None],
        "copy": ["boolean"],
    }
    _finite = True

    def __init__(
        self, method: str = "pca", *, eps: float = 0.0, ddof: float = 1, tol: float | None = None, copy: bool = True
    ) -> None:
        self.method = method
        self.eps = eps
        self.ddof = ddof
        self.tol = tol
        self.copy = copy

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Learn from `X` as well: the result is that of `fit` on all rows so far, however they were cut.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Some more of the data. The first blocks are counted, and there is nothing to transform by until there are
            more rows than `ddof`.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, not negative; a row of weight 0 is as if it were not there. A first block needs a
            weight beyond 0; later ones whose weights are all 0 change nothing.

        Returns
        -------
        self : object
            Fitted, once there are rows enough.
        """
        return self._learn(X, sample_weight, fresh=not hasattr(self, "_statistics"), whole=False)

    @property
    def _unfitted(self) -> str | None:  # type: ignore[override] # a plain attribute elsewhere
        if "_statistics" not in vars(self):
            return None
        return (
            f"This %(name)s instance has seen n_samples={self._statistics.count:g} so far, and needs more than ddof = "
            f"{self.ddof:g}; call 'partial_fit' with more rows before using this estimator."
        )

    def _learn(self, X: Any, sample_weight: Any, fresh: bool, whole: bool = True) -> Any:
        with unchanged_by_errors(self):
            self._validate_params()
            refuse_masks(X=X, sample_weight=sample_weight)
            X = validate_data(self, X, reset=fresh, dtype=FLOAT_DTYPES)
            if sample_weight is not None:
                sample_weight = checked_weights(sample_weight, X, fresh)
            statistics = RunningCovariance()
            statistics.update(X, sample_weight)
            precision = float(np.finfo(X.dtype).eps)
            weighted = sample_weight is not None
            rows = statistics.count if sample_weight is None else float(np.count_nonzero(sample_weight))
            if not fresh:
                statistics.merge(self._statistics)
                rows += self._rows
                precision, weighted = max(precision, self._precision), weighted or self._weighted
            enough = statistics.count > self.ddof
            if not enough and (whole or hasattr(self, "n_samples_seen_")):
                raise ValueError(
                    f"Found n_samples={statistics.count:g}, with which the covariance is divided by n_samples - ddof = "
                    f"{statistics.count - self.ddof:g}; pass more rows, or a smaller ddof."
                )
            self._statistics, self._precision, self._weighted, self._rows = statistics, precision, weighted, rows
            if enough:  # else the rows are kept for those that come
                self.n_samples_seen_ = statistics.count if weighted else int(statistics.count)
                self._decompose(statistics, precision, rows)
        return self

    def _decompose(self, statistics: RunningCovariance, precision: float, rows: float) -> None:
        mean, var = statistics.mean, statistics.var
        cov = statistics.covariance(self.ddof)
        constant = is_constant(var, mean, np.asarray(rows))
        tol, noise = self.tol, np.zeros(len(mean))
        if tol is None:
            # Rounding x to its dtype adds a variance of (eps x)**2 / 12 at most, here four times that for a margin; in
            # directions that are chosen among many by few rows, Marchenko & Pastur's factor more. And eigh is off by
            # float64's eps.
            tol = 10 * len(mean) * _EPS
            noise = (mean * mean + var) * precision**2 / 3 * (1 + np.sqrt(len(mean) / rows)) ** 2
        found = whitening(self.method, cov, constant, float(self.eps), tol, noise)
        self.mean_, self.covariance_, self.constant_features_ = mean, cov, constant
        self.whitening_, self.unwhitening_, self.eigenvalues_, self.rank_ = found

    def _apply(self, X: Array, out: Array | None) -> Array:
        return _products(X, self.mean_, self.whitening_, None, out)

    def _invert(self, X: Array, out: Array | None) -> Array:
        return _products(X, None, self.unwhitening_, self.mean_, out)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of the columns of the result.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            As for scikit-learn's transformers: the names of `fit`, or any where there were none.

        Returns
        -------
        ndarray of str objects
            "whitener0", "whitener1", ... for "pca" and "pca-cor", whose columns are directions; else those of the
            features.
        """
        names = super().get_feature_names_out(input_features)
        if not self.method.startswith("pca"):
            return names
        check_is_fitted(self, msg=self._unfitted)
        prefix = type(self).__name__.lower()
        return np.asarray([f"{prefix}{i}" for i in range(self.n_features_in_)], dtype=object)


def _products(X: Array, centre: Float64 | None, matrix: Float64, shift: Float64 | None, out: Array | None) -> Array:
    """(X - centre) @ matrix.T + shift in float64, a block of rows at a time."""
    result = np.empty(X.shape, X.dtype) if out is None else out
    step = max(1, _BLOCK // X.shape[1])
    for start in range(0, len(X), step):
        rows = X[start : start + step]
        centred = rows.astype(np.float64) if centre is None else np.subtract(rows, centre, dtype=np.float64)
        here = result[start : start + step]
        product = np.matmul(centred, matrix.T, out=here if here.dtype == np.float64 and out is None else None)
        if shift is not None:
            product += shift
        if product is not here:
            here[...] = product
    return result
