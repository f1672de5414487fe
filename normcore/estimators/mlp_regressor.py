"""MLPRegressor: scikit-learn's, with normalisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from normcore.nn._checks import Array
from normcore.training import Callback

from ._descent import Data
from ._masked import refuse_masks
from ._mlp import FLOATS, BaseMLP, has_partial_fit
from ._mlp_docs import ATTRIBUTES, FIT, PARAMETERS, documented
from ._objective import Objective, of_regressor


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc] # sklearn has no types
    __doc__ = documented(
        """Multilayer perceptron that predicts numbers: scikit-learn's `MLPRegressor` with normalisation between layers.

    All arguments, attributes and methods of scikit-learn's are here and mean the same, so that changing the import is
    all it takes; with `norm=None` it learns the same network, epoch by epoch. What is added: `norm`, `dropout`,
    `callbacks`, `validation_curve_`, `model_`, and `validation_data` in `fit`.

    The loss of a row with prediction p is `(p - y)**2 / 2`, or half the Poisson deviance, `y * log(y / p) - y + p`. The
    penalty `alpha / 2 * sum(coefs_**2)` is divided by the number of rows in the batch, or by their weights added up.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        "poisson" is for counts, y >= 0: the network's outputs are logarithms of their expectations.
    {parameters}

    Attributes
    ----------
    {attributes}

    Raises
    ------
    ValueError, TypeError
        By `fit`, as scikit-learn: for parameters and data that are not as above, for NaN and infinity, or when the
        solver ran away.
    sklearn.exceptions.NotFittedError
        By the other methods before `fit`.

    See Also
    --------
    MLPClassifier, normcore.MLP, normcore.Trainer

    Notes
    -----
    For several outputs scikit-learn reports the squared error as the mean over them, and its gradient is that of their
    sum. So are `loss_` and the steps of "adam" and "sgd" here. "lbfgs" minimises the sum; scikit-learn hands SciPy the
    mean with the gradient of the sum.

    Starting values are those of Glorot & Bengio (2010), batch norm that of Ioffe & Szegedy (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from normcore.estimators import MLPRegressor
    >>> X = np.linspace(-3, 3, 200)[:, None]
    >>> reg = MLPRegressor(hidden_layer_sizes=(20,), solver="lbfgs", random_state=0).fit(X, np.sin(X[:, 0]))
    >>> reg.score(X, np.sin(X[:, 0])) > 0.99
    True
    """,
        parameters=PARAMETERS,
        attributes=ATTRIBUTES.format(score="R2", output='"identity" or "exp"'),
    )

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }
    _score_name = "r2"

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        norm: str | None = "batch",
        dropout: float = 0.0,
        callbacks: Iterable[Callback] | None = None,
    ) -> None:
        self._take(locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> MLPRegressor:
        self._fit(X, y, sample_weight, validation_data)
        return self

    fit.__doc__ = FIT.replace("{y}", "y : array of shape (n_samples,) or (n_samples, n_outputs)")

    @available_if(has_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Go once through these rows, from where the network is.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            The rows.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array of shape (n_samples,), optional
            How much each row counts.

        Returns
        -------
        MLPRegressor
            Itself.
        """
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Return the network's prediction for each row.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the network's dtype.
        """
        return self._predicted(self._outputs(X))

    # What BaseMLP asks for

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        refuse_masks(X=X, y=y)
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True, dtype=FLOATS, reset=reset
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, self._checked_targets(y, "y")

    def _validation_target(self, y: Any) -> Array:
        return self._checked_targets(check_array(y, ensure_2d=False, input_name="y"), "validation_data's y")

    def _checked_targets(self, y: Array, name: str) -> Array:
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(f"{name} must not be negative with loss='poisson', but its smallest value is {y.min():g}.")
        return y.reshape(-1, 1) if y.ndim == 1 else y

    def _make_objective(self) -> Objective:
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        return of_regressor(self.loss, self.n_outputs_)

    def _as_target(self, y: Array, dtype: np.dtype[Any]) -> Array:
        return y.astype(dtype)

    def _class_weights(self, y: Array, incremental: bool) -> Array | None:
        return None

    def _predicted(self, output: Array) -> Array:
        if self.out_activation_ == "exp":
            np.exp(output, out=output)
        return output.ravel() if output.shape[1] == 1 else output

    def _score_outputs(self, output: Array, data: Data) -> float:
        predicted = self._predicted(output)
        if not np.isfinite(predicted).all():
            return float("nan")
        target = data.target[:, 0] if predicted.ndim == 1 else data.target
        return float(r2_score(target, predicted, sample_weight=data.weights))
