"""What the perceptrons refuse, with scikit-learn's types and words where it refuses the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from normcore.data import load_digits
from normcore.estimators import MLPClassifier, MLPRegressor
from normcore.training import Callback

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = load_digits()
X, Y = DIGITS.X[:100], DIGITS.y[:100]
NUMBERS = X[:, 20]


def fitted(**arguments):
    return MLPClassifier(max_iter=1, random_state=0, **arguments).fit(X, Y)


@pytest.mark.parametrize(
    "name, value",
    [
        ("hidden_layer_sizes", "many"), ("activation", "gelu"), ("solver", "adamw"), ("alpha", -1.0), ("alpha", "a"),
        ("batch_size", 0), ("batch_size", "all"), ("learning_rate", "fast"), ("learning_rate_init", 0.0),
        ("power_t", -1), ("max_iter", 0), ("max_iter", 1.5), ("shuffle", "no"), ("random_state", "zero"), ("tol", -1),
        ("momentum", 1.5), ("nesterovs_momentum", 1.0), ("early_stopping", "yes"), ("validation_fraction", 1.0),
        ("beta_1", 1.0), ("beta_2", 1.0), ("epsilon", 0.0), ("n_iter_no_change", 0), ("max_fun", 0),
        ("norm", "instance"), ("norm", True), ("dropout", 1.0), ("dropout", -0.1), ("dropout", "half"),
        ("callbacks", Callback()), ("warm_start", None), ("verbose", "loud"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_parameters_are_named_with_what_came(estimator, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of {estimator.__name__} must be .* Got"):
        estimator(**{name: value}).fit(X, Y)
    # Nothing else was looked at, and nothing learned.
    assert not hasattr(estimator(**{name: value}), "model_")


@pytest.mark.parametrize("name, value", [("class_weight", "equal"), ("class_weight", [1, 2])])
def test_parameters_of_the_classifier(name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MLPClassifier must be"):
        MLPClassifier(**{name: value}).fit(X, Y)


def test_the_loss_of_the_regressor():
    with pytest.raises(InvalidParameterError, match="The 'loss' parameter of MLPRegressor must be"):
        MLPRegressor(loss="huber").fit(X, NUMBERS)


@pytest.mark.parametrize(
    "arguments, call, error, message",
    [
        ({"hidden_layer_sizes": (10, 0)}, {}, ValueError, "hidden_layer_sizes must be > 0, got [10, 0]."),
        ({"hidden_layer_sizes": (10.5,)}, {}, TypeError, "hidden_layer_sizes must hold whole numbers, got [10.5]."),
        (
            {"solver": "lbfgs", "dropout": 0.5}, {}, ValueError,
            "dropout needs a solver that goes through the data epoch by epoch, but solver='lbfgs' does not; use "
            "solver='adam' or 'sgd', or leave dropout out.",
        ),
        ({"solver": "lbfgs", "callbacks": [Callback()]}, {}, ValueError, "callbacks needs a solver that goes"),
        ({"solver": "lbfgs"}, {"validation_data": (X, Y)}, ValueError, "validation_data needs a solver that goes"),
        ({"callbacks": [print]}, {}, TypeError, "callbacks must hold Callback objects, got builtin_function_or_method"),
        (
            {"batch_size": 1}, {}, ValueError,
            "norm='batch' needs more than one row in a batch, got batch_size=1; give it more rows, or use norm='layer' "
            "or norm=None.",
        ),
        ({"class_weight": {3: -1.0}}, {}, ValueError, "class_weight must hold weights that are not negative, got {3:"),
        ({"class_weight": {77: 1.0}}, {}, ValueError, "The classes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], are not in"),
        ({}, {"sample_weight": np.ones(99)}, ValueError, "sample_weight.shape == (99,), expected (100,)!"),
        ({}, {"sample_weight": -np.ones(100)}, ValueError, "Negative values in data passed to `sample_weight`"),
        ({}, {"sample_weight": np.full(100, np.nan)}, ValueError, "Input sample_weight contains NaN"),
        ({}, {"validation_data": X}, ValueError, "validation_data must be a tuple (X, y) or (X, y, sample_"),
        ({}, {"validation_data": (X,)}, ValueError, "(X, y, sample_weight), got tuple of length 1."),
        ({}, {"validation_data": (X[:, :3], Y)}, ValueError, "X has 3 features, but MLPClassifier is expecting 64"),
        (
            {}, {"validation_data": (X, Y[:50])}, ValueError,
            "validation_data: X has 100 rows, for which y must hold one target of 10 output(s) each, got shape (50,",
        ),
        ({}, {"validation_data": (X, Y + 5)}, ValueError, "`y` has classes not in `self.classes_`"),
        ({}, {"validation_data": (X * np.nan, Y)}, ValueError, "Input X contains NaN"),
        ({"early_stopping": True, "validation_fraction": 0.01}, {}, ValueError, "The validation set is too small."),
    ],
)  # fmt: skip
def test_what_does_not_go_together(arguments, call, error, message):
    clf = MLPClassifier(**arguments)
    with pytest.raises(error, match=re.escape(message)):
        clf.fit(X, Y, **call)
    assert not hasattr(clf, "model_")
    with pytest.raises(NotFittedError):
        clf.predict(X)


def test_weights_that_leave_nothing():
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        MLPClassifier().fit(X, Y, np.zeros(100))
    weights = np.eye(100)[0]
    with pytest.raises(ValueError, match="sample_weight is 0 for every row that is held out for validation"):
        MLPRegressor(early_stopping=True, random_state=0).fit(X, NUMBERS, weights)
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        MLPClassifier().fit(X, Y, validation_data=(X, Y, np.zeros(100)))
    with pytest.raises(ValueError, match="leave no row that counts"):
        MLPClassifier(class_weight=dict.fromkeys(range(10), 0.0)).fit(X, Y)


def test_class_weight_of_labels_and_of_parts():
    labels = np.stack([Y % 2, Y > 4], axis=1)
    with pytest.raises(ValueError, match="class_weight is for rows of one class each, but y has labels"):
        MLPClassifier(class_weight="balanced").fit(X, labels)
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported by partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=np.arange(10))


def test_one_row():
    for arguments in ({}, {"solver": "lbfgs"}):
        with pytest.raises(ValueError, match="norm='batch' needs more than one row in a batch, got n_samples=1"):
            MLPClassifier(**arguments).fit(X[:1], Y[:1])
    clf = fitted()
    with pytest.raises(ValueError, match="got n_samples=1"):
        clf.partial_fit(X[:1], Y[:1])
    for norm in ("layer", "rms", None):
        MLPRegressor(norm=norm, max_iter=1, random_state=0).fit(X[:1], NUMBERS[:1])
    # Without hidden layers there is no norm.
    MLPRegressor(hidden_layer_sizes=(), max_iter=1, random_state=0).fit(X[:1], NUMBERS[:1])
    MLPClassifier((), batch_size=1, max_iter=1, random_state=0).fit(X, Y).partial_fit(X[:1], Y[:1])


@pytest.mark.parametrize("method", ["fit", "predict", "predict_proba", "score", "partial_fit"])
@pytest.mark.parametrize(
    "rows, error, message",
    [
        (np.where(X.max() == X, np.nan, X), ValueError, "Input X contains NaN"),
        (np.where(X.max() == X, np.inf, X), ValueError, "Input X contains infinity"),
        (X[0], ValueError, "Expected 2D array, got 1D array instead"),
        (X[:0], ValueError, "Found array with 0 sample"),
        (np.full((100, 64), "a"), ValueError, "could not convert string to float|dtype='numeric' is not compatible"),
        (X + 1j, ValueError, "Complex data not supported"),
        (sp.csr_matrix(np.where(X.max() == X, np.nan, X)), ValueError, "contains NaN"),
    ],
    ids=["NaN", "infinity", "1D", "empty", "strings", "complex", "sparse NaN"],
)
def test_rows_that_are_no_numbers(method, rows, error, message):
    clf = MLPClassifier() if method == "fit" else fitted()
    call = getattr(clf, method)
    with pytest.raises(error, match=message):
        call(rows, Y) if method in ("fit", "score", "partial_fit") else call(rows)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "partial_fit"])
def test_another_number_of_features(method):
    arguments = (X[:, :30], Y) if method == "partial_fit" else (X[:, :30],)
    with pytest.raises(ValueError, match="X has 30 features, but MLPClassifier is expecting 64 features as input"):
        getattr(fitted(), method)(*arguments)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "score"])
def test_before_fit(method):
    with pytest.raises(NotFittedError, match="This MLPClassifier instance is not fitted yet"):
        getattr(MLPClassifier(), method)(*((X, Y) if method == "score" else (X,)))
    with pytest.raises(NotFittedError, match="This MLPRegressor instance is not fitted yet"):
        MLPRegressor().predict(X)


def test_targets():
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(X, NUMBERS)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        MLPRegressor().fit(X, NUMBERS * np.nan)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MLPClassifier().fit(X, Y[:5])
    with pytest.raises(ValueError, match=r"y must not be negative with loss='poisson', but its smallest value is -1"):
        MLPRegressor(loss="poisson").fit(X, -np.ones(100))
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        MLPClassifier(max_iter=1).fit(X, Y[:, None])


def test_partial_fit():
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        MLPClassifier().partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        MLPClassifier().partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        MLPRegressor(early_stopping=True).partial_fit(X, NUMBERS)
    with pytest.raises(AttributeError, match=r"partial_fit is only available for stochastic|has no attribute"):
        MLPRegressor(solver="lbfgs").partial_fit(X, NUMBERS)


def test_a_network_cannot_go_on_as_another_one():
    clf = fitted(warm_start=True)
    for change in ({"hidden_layer_sizes": (5,)}, {"norm": None}, {"activation": "tanh"}, {"dropout": 0.5}):
        before = clf.get_params()
        with pytest.raises(ValueError, match="MLPClassifier goes on with the network that it has, of sizes"):
            clf.set_params(**change).fit(X, Y)
        clf.set_params(**before)
    clf.fit(X, Y)


def test_a_failed_fit_leaves_the_network_of_the_one_before():
    clf = fitted()
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="The validation set is too small"):
        clf.set_params(early_stopping=True, validation_fraction=0.01).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sample_weight": -np.ones(100)}, "Negative values in data passed to `sample_weight`"),
        ({"sample_weight": np.ones(3)}, r"sample_weight.shape == \(3,\)"),
        ({"validation_data": (X, Y)}, "X has 64 features"),
    ],
)
def test_a_failed_fit_to_other_data_leaves_what_was_known_of_those_before(arguments, message):
    clf = fitted()
    before = clf.predict(X)
    with pytest.raises(ValueError, match=message):
        clf.fit(X[:, :3], Y > 4, **arguments)
    assert clf.n_features_in_ == 64
    assert clf.n_outputs_ == 10
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    np.testing.assert_array_equal(clf.predict(X), before)
    clf.partial_fit(X, Y)


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")
def test_a_solver_that_ran_away(norm):
    rows = np.finfo(np.float64).max * np.random.RandomState(0).uniform(size=(10, 2))
    with pytest.raises(ValueError, match=r"Solver produced non-finite parameter weights\. The input data may contain"):
        MLPRegressor(norm=norm, random_state=0).fit(rows, np.arange(10.0))
