"""What the two multilayer perceptrons share: constructor, fitting, and the way from X to the network's outputs."""

from __future__ import annotations

import operator
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from normcore.nn import MLP
from normcore.nn._checks import Array
from normcore.optim import Optimizer
from normcore.training import Callback
from normcore.training._listeners import check_callbacks

from . import _descent, _network, _steps
from ._coefficients import Coefficients
from ._descent import Data
from ._learning import unchanged_by_errors
from ._masked import refuse_masks
from ._objective import Objective
from ._rows import Rows

STOCHASTIC = ("sgd", "adam")
FLOATS = (np.float64, np.float32)


class BaseMLP(Coefficients, BaseEstimator, ABC):  # type: ignore[misc] # sklearn has no types
    """Base of `MLPClassifier` and `MLPRegressor`."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(_network.ACTIVATIONS))],
        "solver": [StrOptions({"lbfgs", *STOCHASTIC})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "norm": [StrOptions(set(_network.NORMS)), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "callbacks": ["array-like", None],
    }
    _score_name: ClassVar[str]

    # The arguments of both constructors, and what fit leaves behind.
    hidden_layer_sizes: Any
    activation: str
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    norm: str | None
    dropout: float
    callbacks: Iterable[Callback] | None

    n_features_in_: int
    n_outputs_: int
    n_layers_: int
    n_iter_: int
    t_: int
    out_activation_: str
    loss_: float
    best_loss_: Any  # None with early stopping
    loss_curve_: list[float]
    validation_scores_: Any  # None, all three, without validation
    validation_curve_: Any
    best_validation_score_: Any
    _no_improvement_count: int
    _optimizer: Optimizer
    _structure: tuple[Any, ...]

    # What the two have of their own

    @abstractmethod
    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        """X and y by scikit-learn's rules; y as the network's targets with one column for each output."""

    @abstractmethod
    def _make_objective(self) -> Objective:
        """The loss for `n_outputs_` and `out_activation_`, and these two set."""

    @abstractmethod
    def _as_target(self, y: Array, dtype: np.dtype[Any]) -> Array:
        """Targets as the objective takes them."""

    @abstractmethod
    def _validation_target(self, y: Any) -> Array:
        """The y of the caller's validation data as `_validate_input` returns it."""

    @abstractmethod
    def _score_outputs(self, output: Array, data: Data) -> float:
        """Accuracy or R2 of the network's outputs."""

    @abstractmethod
    def _class_weights(self, y: Array, incremental: bool) -> Array | None:
        """How much each row counts because of its class."""

    def _take(self, arguments: dict[str, Any]) -> None:
        """Make the arguments of a constructor attributes, as they are: what scikit-learn wants of it."""
        self.__dict__.update({name: value for name, value in arguments.items() if name not in ("self", "__class__")})

    # Fitting

    def _fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None, incremental: bool = False
    ) -> None:
        with unchanged_by_errors(self):
            hidden = self._hidden_sizes()
            callbacks = [] if incremental else check_callbacks(self.callbacks)
            self._check_combinations(callbacks, validation_data, incremental)
            first = not hasattr(self, "model_") or not (self.warm_start or incremental)
            X, y = self._validate_input(X, y, incremental, reset=first)
            weights = _checked_weights(sample_weight, X)
            random_state = check_random_state(self.random_state)
            structure = (X.shape[1], *hidden, y.shape[1]), self.activation, self.norm, self.dropout
            if not first and structure != self._structure:
                raise ValueError(
                    f"{type(self).__name__} goes on with the network that it has, of sizes, activation, norm and "
                    f"dropout {self._structure}, but parameters and data now ask for {structure}; set them back, or "
                    "begin anew with warm_start=False."
                )
            self.n_outputs_ = y.shape[1]
            objective = self._make_objective()
            model = _network.build(*structure, X.dtype, random_state) if first else self._synced()
            dtype = np.dtype(np.float64) if self.solver == "lbfgs" else next(model.parameters()).dtype
            data, validation = self._split(X, y, weights, validation_data, random_state, dtype, incremental)
            if hidden:
                self._check_rows(len(data.rows))  # without hidden layers there is no norm
        if first:
            self._begin(model, structure)
        if self.solver == "lbfgs":
            from ._lbfgs import minimise  # SciPy's optimisers, for those who use them

            minimise(self, data, objective, _network.build(*structure, dtype, np.random.RandomState(0)))
        else:
            if not isinstance(self.batch_size, str) and self.batch_size > len(data.rows):
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=4
                )
            self._open_curves(validation is not None)
            if not incremental or not hasattr(self, "_optimizer"):
                self._optimizer = self._make_optimizer()
            _descent.descend(self, data, validation, objective, random_state, self._optimizer, callbacks, incremental)
        # Running statistics included.
        if not all(np.isfinite(array).all() for array in _network.arrays(self.model_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        try:
            return [operator.index(size) for size in sizes]
        except TypeError:
            raise TypeError(f"hidden_layer_sizes must hold whole numbers, got {sizes}.") from None

    def _check_combinations(self, callbacks: list[Callback], validation_data: Any, incremental: bool) -> None:
        """What goes with what."""
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.solver not in STOCHASTIC:
            for name, given in (
                ("dropout", self.dropout), ("callbacks", callbacks), ("validation_data", validation_data is not None)
            ):  # fmt: skip
                if given:
                    raise ValueError(
                        f"{name} needs a solver that goes through the data epoch by epoch, but solver="
                        f"{self.solver!r} does not; use solver='adam' or 'sgd', or leave {name} out."
                    )

    def _check_rows(self, count: int) -> None:
        if self.norm == "batch" and (count < 2 or (self.solver in STOCHASTIC and self._batch_rows(count) < 2)):
            what = f"n_samples={count}" if count < 2 else f"batch_size={self.batch_size}"
            raise ValueError(
                f"norm='batch' needs more than one row in a batch, got {what}; give it more rows, or use norm='layer' "
                "or norm=None."
            )

    def _batch_rows(self, count: int) -> int:
        """`batch_size` for so many rows."""
        if isinstance(self.batch_size, str):
            return min(200, count)
        return min(int(self.batch_size), count)

    def _begin(self, model: MLP, structure: tuple[Any, ...]) -> None:
        """Take a new network, and forget everything about the one before."""
        for name in ("_optimizer", "loss_curve_"):
            self.__dict__.pop(name, None)
        self.model_, self._structure = model, structure
        self.n_layers_ = len(structure[0])
        self.n_iter_ = self.t_ = 0
        self._link()

    def _open_curves(self, validates: bool) -> None:
        """The attributes that grow with the epochs, where there are none that go on."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            self._no_improvement_count = 0
            self.best_loss_ = self.validation_scores_ = self.validation_curve_ = self.best_validation_score_ = None
        if not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = np.inf
        if validates and self.validation_scores_ is None:
            self.validation_scores_, self.validation_curve_ = [], []
            self.best_validation_score_ = -np.inf

    def _split(
        self,
        X: Any,
        y: Array,
        weights: Array | None,
        validation_data: Any,
        random_state: np.random.RandomState,
        dtype: np.dtype[Any],
        incremental: bool,
    ) -> tuple[Data, Data | None]:
        """The rows to train on, and those to validate with, if any."""
        validation, trained = None, None
        if validation_data is not None:
            validation = self._validation(validation_data, dtype)
        elif self.early_stopping and self.solver in STOCHASTIC:
            # As scikit-learn: several labels, and the columns of several classes, are not stratified.
            stratify = y.astype(bool) if is_classifier(self) and self.n_outputs_ == 1 else None
            trained, held_out = train_test_split(
                np.arange(X.shape[0]),
                random_state=random_state,
                test_size=self.validation_fraction,
                stratify=stratify,
            )
            if len(held_out) < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
                )
            held_weights = None if weights is None else weights[held_out]
            validation = Data(Rows(X, dtype, held_out), self._as_target(y[held_out], dtype), held_weights)
            y, weights = y[trained], None if weights is None else weights[trained]
        if validation is not None and validation.weights is not None and not validation.weights.any():
            raise ValueError(
                "sample_weight is 0 for every row that is held out for validation, so none counts; pass "
                "validation_data with weights above 0."
            )
        by_class = self._class_weights(y, incremental)
        if by_class is not None:
            weights = by_class if weights is None else weights * by_class
        if weights is not None and not weights.any():
            raise ValueError(
                "sample_weight and class_weight leave no row that counts; give some rows a weight above 0."
            )
        return Data(Rows(X, dtype, trained), self._as_target(y, dtype), weights), validation

    def _validation(self, validation_data: Any, dtype: np.dtype[Any]) -> Data:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise ValueError(
                "validation_data must be a tuple (X, y) or (X, y, sample_weight), got "
                f"{type(validation_data).__name__}{_length(validation_data)}."
            )
        X, y, *rest = validation_data
        refuse_masks(**{"validation_data's X": X, "validation_data's y": y})
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=FLOATS, reset=False)
        y = self._validation_target(y)
        if y.shape != (X.shape[0], self.n_outputs_):
            raise ValueError(
                f"validation_data: X has {X.shape[0]} rows, for which y must hold one target of {self.n_outputs_} "
                f"output(s) each, got shape {y.shape}."
            )
        return Data(Rows(X, dtype), self._as_target(y, dtype), _checked_weights(rest[0] if rest else None, X))

    def _make_optimizer(self) -> Optimizer:
        coefs, others = _descent.parameters(self)
        return _steps.make(
            self.solver,
            coefs,
            others,
            lr=self.learning_rate_init,
            betas=(self.beta_1, self.beta_2),
            eps=self.epsilon,
            momentum=self.momentum,
            nesterov=self.nesterovs_momentum,
        )

    # Predicting

    def _outputs(self, X: Any) -> Array:
        """What the network returns for X: logits, logarithms or numbers."""
        if not hasattr(self, "model_"):
            check_is_fitted(self, "model_")
        model = self._synced()
        if not self._is_plain(X):
            refuse_masks(X=X)
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return _network.outputs(model, Rows(X, self.intercepts_[0].dtype))

    def _is_plain(self, X: Any) -> bool:
        """Whether validate_data, which takes longer than the network for a single row, would return X as it is."""
        return (
            type(X) is np.ndarray
            and X.dtype in FLOATS
            and X.ndim == 2
            and X.shape[0] > 0
            and X.shape[1] == self.n_features_in_
            and "feature_names_in_" not in self.__dict__
            and bool(np.isfinite(X).all())
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def has_partial_fit(estimator: BaseMLP) -> bool:
    """Whether the solver goes epoch by epoch; otherwise an AttributeError that says so."""
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


def _length(value: Any) -> str:
    return f" of length {len(value)}" if isinstance(value, (tuple, list)) else ""


def _checked_weights(sample_weight: Any, X: Any) -> Array | None:
    """float64 weights; None where every row counts as one."""
    if sample_weight is None:
        return None
    refuse_masks(sample_weight=sample_weight)
    weights: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return None if (weights == 1.0).all() else weights
