"""The perceptrons among scikit-learn's tools: its estimator checks, pipelines, searches, copies and pickles."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from normcore.data import load_digits
from normcore.estimators import MLPClassifier, MLPRegressor
from normcore.training import EarlyStopping

DIGITS = load_digits()
X, Y = DIGITS.X[:400].astype(np.float64), DIGITS.y[:400]
NUMBERS = X[:, 20] - X[:, 43]


NETWORKS = [
    MLPClassifier(),
    MLPRegressor(),
    # max_iter as in scikit-learn's own run of the checks on its MLP
    MLPClassifier(norm=None, max_iter=100),
    MLPRegressor(norm=None, max_iter=100),
]


@parametrize_with_checks(NETWORKS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class TestTools:
    def test_pipeline(self):
        pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=40, random_state=0)).fit(X, Y)
        assert pipeline.score(X, Y) > 0.95

    def test_arguments_of_fit_go_through_a_pipeline(self):
        pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=3, random_state=0))
        scaled = StandardScaler().fit_transform(X)
        pipeline.fit(X, Y, mlpclassifier__validation_data=(scaled[:50], Y[:50]))
        assert len(pipeline[-1].validation_curve_) == 3

    def test_search(self):
        grid = {"norm": ["batch", "layer", None], "dropout": [0.0, 0.2]}
        search = GridSearchCV(MLPClassifier(max_iter=5, random_state=0), grid, cv=2).fit(X, Y)
        assert set(search.best_params_) == set(grid)
        assert search.best_estimator_.norm == search.best_params_["norm"]

    def test_cross_validation_in_two_processes_gives_what_one_gives(self):
        estimator = MLPClassifier(max_iter=5, random_state=0, callbacks=[EarlyStopping("loss", patience=3)])
        one = cross_val_score(estimator, X, Y, cv=3)
        np.testing.assert_array_equal(cross_val_score(estimator, X, Y, cv=3, n_jobs=2), one)

    def test_clone_takes_arguments_and_leaves_what_was_learned(self):
        estimator = MLPRegressor(max_iter=2, random_state=0, norm="layer", dropout=0.1).fit(X, NUMBERS)
        copied = clone(estimator)
        assert copied.get_params() == estimator.get_params()
        assert not hasattr(copied, "model_")
        np.testing.assert_array_equal(copied.fit(X, NUMBERS).predict(X), estimator.predict(X))

    def test_names_of_features(self):
        """As data frames leave them; scikit-learn's checks try it with pandas where there is one."""
        estimator = MLPClassifier(max_iter=2, random_state=0).fit(X, Y)
        estimator.feature_names_in_ = np.array([f"pixel {i}" for i in range(64)], object)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            estimator.predict(X)


def copies(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return {
        "pickle": pickle.loads(pickle.dumps(estimator)),
        "joblib": joblib.load(file),
        "deepcopy": copy.deepcopy(estimator),
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_copies_predict_the_same_and_go_on_the_same(solver, norm):
    estimator = MLPClassifier(solver=solver, norm=norm, max_iter=3, random_state=0, warm_start=True).fit(X, Y)
    copied = copies(estimator)
    want = estimator.predict_proba(X)
    if solver == "lbfgs":
        estimator.fit(X, Y)
    else:
        estimator.partial_fit(X, Y)
    for name, it in copied.items():
        np.testing.assert_array_equal(it.predict_proba(X), want, err_msg=name)
        it.fit(X, Y) if solver == "lbfgs" else it.partial_fit(X, Y)
        np.testing.assert_array_equal(it.predict_proba(X), estimator.predict_proba(X), err_msg=name)
        # Still one memory, also in the copy.
        assert np.shares_memory(it.coefs_[0], it.model_[0].weight.data)
        it.coefs_[0][...] = 0.0
        assert not np.array_equal(it.predict_proba(X), estimator.predict_proba(X))


def test_a_pickle_holds_the_weights_once():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = MLPClassifier((500,), solver="lbfgs", max_iter=1, random_state=0).fit(X, Y)
    weights = sum(coef.nbytes for coef in estimator.coefs_)
    assert weights < len(pickle.dumps(estimator)) < 1.5 * weights


def test_what_was_never_fitted_can_be_pickled_and_copied():
    for it in copies(MLPClassifier(norm="rms")).values():
        assert it.norm == "rms"
