"""Scalers and whitener where scikit-learn's users put them: pipelines, searches, other processes, files."""

from __future__ import annotations

import copy
import pickle

import joblib
import numpy as np
import pytest
from sklearn import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from normcore.data import load_digits
from normcore.estimators import MeanScaler, MinMaxScaler, StandardScaler, UnitLengthScaler, Whitener

ALL = [StandardScaler(), MinMaxScaler(), MeanScaler(), UnitLengthScaler(), UnitLengthScaler(axis=0), Whitener()]


@pytest.fixture
def data(rng):
    x = rng.normal(size=(120, 5)) @ rng.normal(size=(5, 5)) * [1, 1e3, 1e-3, 10, 1] + [0, 5e3, 1, 0, -4]
    return x, (x @ [1, 1e-3, 1e3, 0.1, -1] > np.median(x @ [1, 1e-3, 1e3, 0.1, -1])).astype(int)


@pytest.mark.parametrize("scaler", ALL, ids=str)
def test_pipeline_and_two_processes(data, scaler):
    x, y = data
    pipeline = make_pipeline(scaler, LogisticRegression())
    one = cross_val_score(pipeline, x, y, cv=3)
    np.testing.assert_array_equal(cross_val_score(pipeline, x, y, cv=3, n_jobs=2), one)
    assert one.mean() > (0.4 if scaler.__class__ is UnitLengthScaler else 0.8)


def test_search(data):
    x, y = data
    grid = {
        "whitener__method": ["pca", "zca-cor"],
        "whitener__eps": [0.0, 0.1],
        "standardscaler__with_mean": [True, False],
    }
    search = GridSearchCV(make_pipeline(StandardScaler(), Whitener(), LogisticRegression()), grid, cv=2).fit(x, y)
    assert len(search.cv_results_["params"]) == 8
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.8


@pytest.mark.parametrize("scaler", ALL, ids=str)
@pytest.mark.parametrize("copied", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy, "joblib"])
def test_copies_transform_and_go_on(data, scaler, copied, tmp_path):
    x, _ = data
    fitted = clone(scaler).fit(x[:60])
    if copied == "joblib":
        joblib.dump(fitted, tmp_path / "scaler")
        twin = joblib.load(tmp_path / "scaler")
    else:
        twin = copied(fitted)
    np.testing.assert_array_equal(twin.transform(x), fitted.transform(x))
    np.testing.assert_array_equal(twin.partial_fit(x[60:]).transform(x), fitted.partial_fit(x[60:]).transform(x))


@pytest.mark.parametrize("scaler", ALL, ids=str)
def test_a_clone_is_new(data, scaler):
    twin = clone(clone(scaler).fit(data[0]))
    assert twin.get_params() == scaler.get_params()
    assert not [name for name in vars(twin) if name.endswith("_")]
    assert str(twin) == str(scaler)


def test_in_a_column_transformer(data):
    x, _ = data
    columns = ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", Whitener("zca"), [2, 3, 4])])
    z = columns.fit_transform(x)
    np.testing.assert_allclose(z[:, :2], StandardScaler().fit_transform(x[:, :2]), rtol=1e-12)
    np.testing.assert_allclose(np.cov(z[:, 2:], rowvar=False), np.eye(3), atol=1e-9)
    assert columns.get_feature_names_out().tolist() == ["a__x0", "a__x1", "b__x2", "b__x3", "b__x4"]


def test_weights_reach_a_scaler_in_a_pipeline(data):
    x, y = data
    w = np.linspace(0, 1, len(x))
    pipeline = make_pipeline(StandardScaler(), Ridge()).fit(x, y, standardscaler__sample_weight=w)
    np.testing.assert_allclose(pipeline[0].mean_, np.average(x, axis=0, weights=w), rtol=1e-12)


def test_digits_whiten():
    """64 pixels, three of them constant and some nearly so: rank 61, and no value blown up."""
    x = load_digits().X
    whitener = Whitener("zca")
    z = whitener.fit_transform(x)
    assert whitener.rank_ == 61
    assert whitener.constant_features_.sum() == 3
    assert z.dtype == x.dtype
    values = np.linalg.eigvalsh(np.cov(z.astype(np.float64), rowvar=False))
    np.testing.assert_allclose(values, [0] * 3 + [1] * 61, atol=1e-5)
