"""With norm=None the estimators are scikit-learn's, epoch by epoch: scikit-learn is the oracle.

Each epoch rounds differently (the order of a few products) and the next one amplifies it, so that the tolerance is that
of a long trajectory. The starting values are equal to the bit.
"""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from sklearn import neural_network as theirs
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from tolerances import tol

from normcore import estimators as ours
from normcore.data import load_digits
from normcore.nn import Dropout

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS = 410  # two batches of 200 and one of 10
DIGITS = load_digits()
X = DIGITS.X[:ROWS].astype(np.float64) / 16
CLASSES = DIGITS.y[:ROWS]
NUMBERS = X @ np.random.RandomState(0).standard_normal((64, 3))
LABELS = make_multilabel_classification(ROWS, 64, n_classes=4, random_state=0)
WEIGHTS = np.random.RandomState(1).uniform(0.1, 3.0, ROWS)

NEW = "sample_weight" in inspect.signature(theirs.MLPClassifier.fit).parameters
since_1_7 = pytest.mark.skipif(not NEW, reason="scikit-learn's has no sample_weight and no loss before 1.7")
CURVES = ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_", "n_iter_", "t_")


def pair(name, X, y, sample_weight=None, **arguments):
    """Both estimators, fitted with the same arguments."""
    fitted = []
    for module, own in ((theirs, {}), (ours, {"norm": None})):
        estimator = getattr(module, name)(**{"max_iter": 12, "random_state": 3, **arguments, **own})
        fitted.append(estimator.fit(X, y) if sample_weight is None else estimator.fit(X, y, sample_weight))
    return fitted


def assert_the_same(their, our, X, dtype=np.float64):
    near = tol(dtype, kind="long trajectory")
    for name in CURVES:
        want, got = getattr(their, name), getattr(our, name)
        if want is None:
            assert got is None, name
        else:
            np.testing.assert_allclose(got, want, **near, err_msg=name)
    for name in ("coefs_", "intercepts_"):
        for want, got in zip(getattr(their, name), getattr(our, name), strict=True):
            assert got.dtype == want.dtype == dtype
            np.testing.assert_allclose(got, want, **near, err_msg=name)
    for name in ("out_activation_", "n_layers_", "n_outputs_", "n_features_in_"):
        assert getattr(our, name) == getattr(their, name)
    np.testing.assert_allclose(our.loss_, their.loss_, **near)
    if hasattr(their, "classes_"):
        np.testing.assert_array_equal(our.classes_, their.classes_)
        np.testing.assert_array_equal(our.predict(X), their.predict(X))
        np.testing.assert_allclose(our.predict_proba(X), their.predict_proba(X), **near)
        np.testing.assert_allclose(our.predict_log_proba(X), their.predict_log_proba(X), **near)
    else:
        np.testing.assert_allclose(our.predict(X), their.predict(X), **near)
    np.testing.assert_allclose(our.score(X, our.predict(X)), 1.0)


SETTINGS = {
    "defaults": {},
    "two layers": {"hidden_layer_sizes": (20, 10)},
    "no layer": {"hidden_layer_sizes": ()},
    "an int": {"hidden_layer_sizes": 15},
    "identity": {"activation": "identity"},
    "logistic": {"activation": "logistic"},
    "tanh": {"activation": "tanh"},
    "strong penalty": {"alpha": 10.0, "batch_size": 64},
    "no penalty": {"alpha": 0.0},
    "adam's numbers": {"learning_rate_init": 0.01, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    "in order": {"shuffle": False, "batch_size": 100},
    "more than all rows": {"batch_size": ROWS},
    "stopping": {"early_stopping": True, "n_iter_no_change": 3, "tol": 0.05, "max_iter": 40},
    "converging": {"tol": 0.05, "n_iter_no_change": 2, "max_iter": 60, "learning_rate_init": 0.01},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1},
    "plain momentum": {"solver": "sgd", "learning_rate_init": 0.1, "nesterovs_momentum": False},
    "no momentum": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate_init": 0.5, "learning_rate": "invscaling", "power_t": 0.2},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "tol": 0.05, "n_iter_no_change": 1,
        "max_iter": 50,
    },
}  # fmt: skip


@pytest.mark.parametrize("arguments", SETTINGS.values(), ids=SETTINGS)
def test_many_classes(arguments):
    assert_the_same(*pair("MLPClassifier", X, CLASSES, **arguments), X)


@pytest.mark.parametrize("name", ["defaults", "stopping", "adaptive", "logistic"])
def test_two_classes(name):
    y = np.where(CLASSES < 5, "few", "many")
    assert_the_same(*pair("MLPClassifier", X, y, **SETTINGS[name]), X)


@pytest.mark.parametrize("name", ["defaults", "stopping", "sgd"])
def test_labels(name):
    assert_the_same(*pair("MLPClassifier", *LABELS, **SETTINGS[name]), LABELS[0])


@pytest.mark.parametrize("name", ["defaults", "stopping", "adaptive", "no layer"])
@pytest.mark.parametrize("y", [NUMBERS[:, 0], NUMBERS], ids=["one output", "three outputs"])
def test_numbers(name, y):
    arguments = {**SETTINGS[name], "learning_rate_init": 0.01}
    assert_the_same(*pair("MLPRegressor", X, y, **arguments), X)


@since_1_7
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_counts(solver):
    y = np.random.RandomState(2).poisson(np.exp(X[:, 20] + 1))
    assert_the_same(*pair("MLPRegressor", X, y, loss="poisson", solver=solver), X)


@since_1_7
@pytest.mark.parametrize("name", ["defaults", "stopping", "sgd", "adaptive"])
@pytest.mark.parametrize(
    "estimator, y",
    [("MLPClassifier", CLASSES), ("MLPClassifier", LABELS[1]), ("MLPRegressor", NUMBERS)],
    ids=["classes", "labels", "numbers"],
)
def test_sample_weights(estimator, y, name):
    arguments = {**SETTINGS[name], "learning_rate_init": 0.01}
    assert_the_same(*pair(estimator, X, y, WEIGHTS, **arguments), X)


def test_float32_stays_float32():
    their, our = pair("MLPClassifier", X.astype(np.float32), CLASSES)
    assert_the_same(their, our, X.astype(np.float32), np.float32)
    assert our.predict_proba(X).dtype == np.float32


def test_other_numbers_become_float64():
    their, our = pair("MLPClassifier", DIGITS.X[:ROWS].astype(np.int64), CLASSES)
    assert_the_same(their, our, DIGITS.X[:ROWS].astype(np.int64))


@pytest.mark.parametrize("container", ["csr_matrix", "csc_matrix", "csr_array", "csc_array"])
def test_sparse_rows(container):
    import scipy.sparse as sp

    sparse = getattr(sp, container)(X)
    their, our = pair("MLPClassifier", sparse, CLASSES, early_stopping=True)
    assert_the_same(their, our, sparse)
    np.testing.assert_allclose(our.predict_proba(sparse), our.predict_proba(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name, y", [("MLPClassifier", CLASSES), ("MLPRegressor", NUMBERS)])
def test_starting_values_are_equal_to_the_bit(name, y):
    for dtype in (np.float32, np.float64):
        for activation in ("relu", "logistic"):
            # A learning rate this small moves nothing.
            arguments = {"activation": activation, "learning_rate_init": 1e-300, "max_iter": 1, "solver": "sgd"}
            their, our = pair(name, X.astype(dtype), y, hidden_layer_sizes=(7, 5), **arguments)
            for want, got in zip(their.coefs_ + their.intercepts_, our.coefs_ + our.intercepts_, strict=True):
                np.testing.assert_array_equal(got, want)


def test_dropout_changes_neither_starting_values_nor_what_is_predicted_twice():
    arguments = {"learning_rate_init": 1e-300, "max_iter": 1, "solver": "sgd", "random_state": 3, "norm": None}
    plain = ours.MLPClassifier(**arguments).fit(X, CLASSES)
    dropped = ours.MLPClassifier(dropout=0.5, **arguments).fit(X, CLASSES)
    np.testing.assert_array_equal(dropped.coefs_[0], plain.coefs_[0])
    np.testing.assert_array_equal(dropped.predict_proba(X), plain.predict_proba(X))
    assert any(isinstance(layer, Dropout) for layer in dropped.model_)
    assert dropped.loss_ != plain.loss_


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_and_what_follows(solver):
    arguments = {"solver": solver, "random_state": 3, "learning_rate_init": 0.01, "learning_rate": "adaptive"}
    their = theirs.MLPClassifier(**arguments)
    our = ours.MLPClassifier(norm=None, **arguments)
    for _ in range(15):
        for rows in (slice(0, 150), slice(150, ROWS)):
            for estimator in (their, our):
                estimator.partial_fit(X[rows], CLASSES[rows], classes=np.arange(10))
    assert_the_same(their, our, X)


@pytest.mark.parametrize("name", ["defaults", "invscaling"])
def test_warm_start(name):
    """Not with early stopping: scikit-learn then trains in the arrays in which it keeps the best weights."""
    fitted = []
    for module, own in ((theirs, {}), (ours, {"norm": None})):
        estimator = module.MLPClassifier(random_state=3, warm_start=True, **own)
        estimator.set_params(**{**SETTINGS[name], "max_iter": 4})
        for _ in range(3):
            estimator.fit(X, CLASSES)
        fitted.append(estimator)
    assert len(fitted[1].loss_curve_) == 12
    assert_the_same(*fitted, X)


def test_a_random_state_object_goes_on():
    fitted = []
    for module, own in ((theirs, {}), (ours, {"norm": None})):
        rng = np.random.RandomState(5)
        estimator = module.MLPClassifier(random_state=rng, max_iter=2, **own).fit(X, CLASSES)
        fitted.append((estimator, rng.uniform()))
    assert_the_same(fitted[0][0], fitted[1][0], X)
    assert fitted[0][1] == fitted[1][1]


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
@pytest.mark.parametrize("weights", [None, pytest.param(WEIGHTS, marks=since_1_7)], ids=["plain", "weighted"])
@pytest.mark.parametrize("name, y", [("MLPClassifier", CLASSES), ("MLPRegressor", NUMBERS[:, 0])])
def test_lbfgs_takes_the_same_iterations(name, y, weights, activation):
    """Few iterations: the fifth with tanh tries a step whose loss scikit-learn cuts off at 27, where it is 44."""
    their, our = pair(name, X, y, weights, solver="lbfgs", max_iter=4, activation=activation)
    np.testing.assert_allclose(our.loss_, their.loss_, rtol=1e-8)
    assert our.n_iter_ == their.n_iter_ == 4
    for want, got in zip(their.coefs_, our.coefs_, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert not hasattr(our, "loss_curve_")
    assert not hasattr(our, "partial_fit")


def test_lbfgs_finds_what_scikit_learn_finds():
    """Without a hidden layer the problem is convex, and has one solution."""
    arguments = {"solver": "lbfgs", "max_iter": 500, "hidden_layer_sizes": (), "alpha": 1.0, "tol": 1e-7}
    their, our = pair("MLPClassifier", X, CLASSES, **arguments)
    np.testing.assert_allclose(our.loss_, their.loss_, rtol=1e-6)
    np.testing.assert_allclose(our.predict_proba(X), their.predict_proba(X), atol=1e-3)


def test_lbfgs_with_several_outputs_finds_the_ridge_regression():
    """No hidden layer: `(X'X + alpha I) W = X'Y`, centred. SciPy ends where the loss no longer falls by 2e-9 of it."""
    arguments = {"solver": "lbfgs", "hidden_layer_sizes": (), "alpha": 2.0, "tol": 1e-8, "max_iter": 2000}
    reg = ours.MLPRegressor(norm=None, random_state=0, **arguments).fit(X, NUMBERS)
    rows, targets = X - X.mean(axis=0), NUMBERS - NUMBERS.mean(axis=0)
    want = np.linalg.solve(rows.T @ rows + 2.0 * np.eye(64), rows.T @ targets)
    np.testing.assert_allclose(reg.coefs_[0], want, atol=3e-4)
    loss = ((reg.predict(X) - NUMBERS) ** 2).mean() / 2 + 2.0 / 2 * (reg.coefs_[0] ** 2).sum() / ROWS
    np.testing.assert_allclose(reg.loss_, loss, rtol=1e-12)


def test_the_words_are_the_same(capsys):
    """verbose prints what scikit-learn prints, and it warns of the same."""
    said, warned = [], []
    for module, own in ((theirs, {}), (ours, {"norm": None})):
        for arguments in (
            {"early_stopping": True, "max_iter": 3, "batch_size": 10_000},
            {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1, "max_iter": 100},
        ):
            estimator = module.MLPClassifier(verbose=True, random_state=0, **arguments, **own)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator.fit(X, CLASSES)
            warned.append([(warning.category, str(warning.message), warning.filename) for warning in caught])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Learning rate too small" in said[1]
    their, our = warned[:2], warned[2:]
    assert [[one[:2] for one in each] for each in their] == [[one[:2] for one in each] for each in our]
    assert [one[0] for one in our[0]] == [UserWarning, ConvergenceWarning]
    assert {one[2] for one in our[0]} == {__file__}  # where fit is called, not inside of us
