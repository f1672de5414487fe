"""The short way of `transform`: the same numbers as the long one, and the same refusals, for every small array."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.utils.validation import check_array

from normcore.estimators import MeanScaler, MinMaxScaler, StandardScaler, UnitLengthScaler, Whitener, _transform

ALL = [
    StandardScaler,
    lambda: StandardScaler(with_mean=False),
    lambda: StandardScaler(with_std=False),
    lambda: StandardScaler(with_mean=False, with_std=False),
    MinMaxScaler,
    lambda: MinMaxScaler((1, 2), clip=True),
    MeanScaler,
    UnitLengthScaler,
    lambda: UnitLengthScaler("l1"),
    lambda: UnitLengthScaler(axis=0),
    Whitener,
]


@pytest.fixture
def long_way(monkeypatch):
    """Counts how often scikit-learn's checks ran."""
    calls = []

    def counted(*args, **options):
        calls.append(1)
        return real(*args, **options)

    real = _transform.validate_data
    monkeypatch.setattr(_transform, "validate_data", counted)
    return calls


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 3])
def test_both_ways_give_the_same_bits(rng, long_way, make, dtype, rows):
    x = (rng.normal(size=(50, 6)) * 3 + 10).astype(dtype)
    scaler = make().fit(x)
    few = x[:rows]
    quick = scaler.transform(few)
    assert not long_way
    np.testing.assert_array_equal(quick, scaler.transform(few, copy=True))
    assert len(long_way) == 1
    assert type(quick) is np.ndarray
    assert quick.dtype == x.dtype
    assert not np.shares_memory(quick, few)
    np.testing.assert_array_equal(scaler.transform(few[:, ::-1])[:, 0], scaler.transform(few[:, ::-1].copy())[:, 0])


@pytest.mark.parametrize("make", ALL)
def test_what_is_not_plain_goes_the_long_way(rng, long_way, make):
    x = rng.normal(size=(50, 6)) + 10
    scaler = make().fit(x)
    expected = scaler.transform(x[:2])
    others = [x[:2].tolist(), x[:2].astype(np.longdouble), x[:2].astype(">f8"), np.asfortranarray(x)[:2].view(Sub)]
    for count, other in enumerate(others, 1):
        np.testing.assert_allclose(scaler.transform(other), expected, rtol=1e-12, atol=1e-12)
        assert len(long_way) == count
    for wrong in (x[:1, :5], x[:0], x[0], np.full((1, 6), np.inf)):
        with pytest.raises(ValueError, match=r"expecting 6 features|0 sample|Expected 2D|infinity"):
            scaler.transform(wrong)


class Sub(np.ndarray):
    """Not a plain array."""


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_values_are_no_infinities_and_warn_of_nothing(make, dtype):
    largest = np.finfo(dtype).max
    x = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]], dtype)
    scaler = make().fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            scaler.transform(np.array([[largest / 8, 1.0]], dtype))
        except RuntimeWarning:  # a product beyond the dtype, by a matrix
            assert isinstance(scaler, Whitener)


def test_attributes_count_as_they_are(rng):
    """Nothing is kept besides the attributes: who changes one, or its entries, changes the transform."""
    x = rng.normal(size=(50, 3))
    scaler = StandardScaler().fit(x)
    scaler.transform(x[:1])
    scaler.mean_ = np.array([1.0, 2.0, 3.0])
    scaler.scale_[:] = [2, 4, 8]
    for rows in (1, 50):
        np.testing.assert_allclose(scaler.transform(x[:rows]), (x[:rows] - [1, 2, 3]) / [2, 4, 8], rtol=1e-14)
    scaler.set_params(with_mean=False)
    np.testing.assert_allclose(scaler.transform(x[:1]), x[:1] / [2, 4, 8], rtol=1e-14)
    scaler.set_params(with_mean=True, with_std=False)  # as scikit-learn's: each is asked for at every transform
    for rows in (1, 50):
        np.testing.assert_allclose(scaler.transform(x[:rows]), x[:rows] - [1, 2, 3], rtol=1e-14)
        np.testing.assert_allclose(scaler.inverse_transform(x[:rows]), np.add(x[:rows], [1, 2, 3]), rtol=1e-14)


def test_what_attributes_and_parameters_have_become_is_refused(rng):
    x = rng.normal(size=(50, 4))
    scaler = StandardScaler().fit(x)
    scaler.scale_ = scaler.scale_[:3]
    for rows in (1, 50):
        with pytest.raises(ValueError, match=r"X has 4 features, but an attribute of the scaler .* the shape \(3,\)"):
            scaler.transform(x[:rows])
        with pytest.raises(ValueError, match="The 'norm' parameter of UnitLengthScaler must be a str among"):
            UnitLengthScaler().fit(x).set_params(norm="zz").transform(x[:rows])


def test_copy_false_is_obeyed(rng):
    x = rng.normal(size=(50, 3))
    scaler = StandardScaler(copy=False).fit(x)
    row = x[:1].copy()
    assert np.shares_memory(scaler.transform(row), row)


# --- containers and names ---------------------------------------------------------------------------------------------


class Listed:
    """A container that is not pandas, which not everybody has."""

    container_lib = "listed"

    def create_container(self, X_output, X_original, columns, inplace=True):  # noqa: ARG002 - scikit-learn's interface
        return {"values": np.asarray(X_output).tolist(), "columns": list(columns())}

    def is_supported_container(self, X):
        return isinstance(X, dict)


@pytest.fixture
def listed(monkeypatch):
    from sklearn.utils._set_output import ADAPTERS_MANAGER

    monkeypatch.setitem(ADAPTERS_MANAGER.adapters, "listed", Listed())


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("make", ALL)
def test_set_output_is_obeyed_by_both_ways(rng, make):
    x = rng.normal(size=(50, 3)) + 5
    scaler = make().fit(x)
    plain = scaler.transform(x[:1])
    names = scaler.get_feature_names_out().tolist()
    expected = {"values": plain.tolist(), "columns": names}
    with sklearn.config_context(transform_output="listed"):
        assert scaler.transform(x[:1]) == expected
    assert scaler.set_output(transform="listed").transform(x[:1]) == expected
    assert make().set_output(transform="listed").fit_transform(x)["columns"] == names
    assert sklearn.clone(scaler).fit(x).transform(x[:1]) == expected
    np.testing.assert_array_equal(scaler.set_output(transform="default").transform(x[:1]), plain)


@pytest.mark.parametrize("make", ALL)
def test_names_that_are_missing_are_missed(rng, make):
    x = rng.normal(size=(50, 3)) + 5
    scaler = make().fit(x)
    expected = scaler.transform(x[:1])
    scaler.feature_names_in_ = np.array(["a", "b", "c"], object)  # as a frame would have left them
    with pytest.warns(UserWarning, match="X does not have valid feature names, but"):
        np.testing.assert_array_equal(scaler.transform(x[:1]), expected)


@pytest.mark.parametrize("make", ALL)
def test_pandas(rng, make):
    pandas = pytest.importorskip("pandas", reason="pandas, whose frames are tested here, is not installed")
    x = rng.normal(size=(50, 3)) + 5
    frame = pandas.DataFrame(x, columns=["a", "b", "c"])
    scaler = make().fit(frame)
    assert scaler.feature_names_in_.tolist() == ["a", "b", "c"]
    expected = make().fit(x).transform(x[:1])
    np.testing.assert_allclose(scaler.transform(frame[:1]), expected, rtol=1e-12)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but"):
        np.testing.assert_allclose(scaler.transform(x[:1]), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
        scaler.transform(frame[["b", "a", "c"]])
    framed = scaler.set_output(transform="pandas").transform(frame[:1])
    assert framed.columns.tolist() == scaler.get_feature_names_out().tolist()
    np.testing.assert_allclose(framed, expected, rtol=1e-12)
    holes = frame.mask(frame > 6)
    if not isinstance(scaler, Whitener):
        np.testing.assert_array_equal(np.isnan(make().fit(holes).transform(holes)), holes.isna())


def test_the_long_way_is_scikits():
    """What is skipped is what check_array finds, so that the two agree on what is refused."""
    for wrong in (np.array([[np.inf]]), np.array([[-np.inf]])):
        with pytest.raises(ValueError, match="infinity"):
            check_array(wrong, ensure_all_finite="allow-nan")
        with pytest.raises(ValueError, match="infinity"):
            StandardScaler().fit([[1.0], [2.0]]).transform(wrong)
    assert np.isnan(StandardScaler().fit([[1.0], [2.0]]).transform(np.array([[np.nan]]))).all()
    with pytest.raises(ValueError, match="NaN"):
        Whitener().fit([[1.0], [2.0]]).transform(np.array([[np.nan]]))
