"""StandardScaler, MinMaxScaler, MeanScaler, UnitLengthScaler: by hand, against scikit-learn, laws, bad input."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import preprocessing
from sklearn.exceptions import NotFittedError
from strategies import LAYOUTS, laid_out
from tolerances import EPS

import normcore as nc
from normcore.estimators import MeanScaler, MinMaxScaler, StandardScaler, UnitLengthScaler

COLUMNS = [
    StandardScaler,
    lambda **k: StandardScaler(with_mean=False, **k),
    lambda **k: StandardScaler(with_std=False, **k),
    MinMaxScaler,
    lambda **k: MinMaxScaler((-3, 5), **k),
    MeanScaler,
    lambda **k: UnitLengthScaler(axis=0, **k),
    lambda **k: UnitLengthScaler("l1", axis=0, **k),
    lambda **k: UnitLengthScaler("max", axis=0, **k),
]
ALL = [*COLUMNS, UnitLengthScaler, lambda **k: UnitLengthScaler("l1", **k)]
DTYPES = ["float16", "float32", "float64"]


def some(rng, dtype="float64", rows=60):
    return (rng.normal(size=(rows, 4)) * [1, 5, 0.1, 20] + [0, 100, 1, -50]).astype(dtype)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_by_hand():
    x = np.array([[1.0, 10.0], [2.0, 10.0], [3.0, 10.0], [6.0, 10.0]])
    standard = StandardScaler().fit(x)
    assert standard.mean_.tolist() == [3, 10]
    assert standard.var_.tolist() == [3.5, 0]
    assert standard.scale_.tolist() == [np.sqrt(3.5), 1]
    assert standard.constant_features_.tolist() == [False, True]
    assert standard.n_samples_seen_ == 4
    np.testing.assert_allclose(standard.transform(x)[:, 0], np.array([-2, -1, 0, 3]) / np.sqrt(3.5), rtol=1e-15)
    assert (standard.transform(x)[:, 1] == 0).all()
    minmax = MinMaxScaler((-1, 1)).fit(x)
    np.testing.assert_allclose(minmax.transform(x)[:, 0], [-1, -0.6, -0.2, 1], rtol=1e-15)
    assert (minmax.transform(x)[:, 1] == -1).all()
    assert (minmax.data_range_.tolist(), minmax.constant_features_.tolist()) == ([5, 0], [False, True])
    np.testing.assert_allclose(MeanScaler().fit_transform(x)[:, 0], [-0.4, -0.2, 0, 0.6], rtol=1e-15)
    np.testing.assert_allclose(UnitLengthScaler().fit_transform([[3, 4], [0, 0], [-5, 12]])[0], [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(UnitLengthScaler(axis=0).fit([[3, 1], [4, 0]]).norm_, [5, 1], rtol=1e-15)


# --- against scikit-learn ---------------------------------------------------------------------------------------------

PEERS = [
    (StandardScaler, preprocessing.StandardScaler, {}),
    (StandardScaler, preprocessing.StandardScaler, {"with_mean": False}),
    (StandardScaler, preprocessing.StandardScaler, {"with_std": False}),
    (StandardScaler, preprocessing.StandardScaler, {"with_std": False, "with_mean": False}),
    (MinMaxScaler, preprocessing.MinMaxScaler, {}),
    (MinMaxScaler, preprocessing.MinMaxScaler, {"feature_range": (-3, 5), "clip": True}),
    (UnitLengthScaler, preprocessing.Normalizer, {}),
    (UnitLengthScaler, preprocessing.Normalizer, {"norm": "l1"}),
    (UnitLengthScaler, preprocessing.Normalizer, {"norm": "max"}),
]
ATTRIBUTES = ("mean_", "var_", "scale_", "min_", "data_min_", "data_max_", "data_range_", "n_features_in_")


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ours", "theirs", "options"), PEERS)
def test_against_scikit(rng, ours, theirs, options, dtype, holes):
    x = some(rng, dtype)
    if holes and theirs is not preprocessing.Normalizer:
        x[rng.random(x.shape) < 0.2] = np.nan
    one, two = ours(**options).fit(x), theirs(**options).fit(x)
    eps = EPS[dtype] if "MinMax" in str(ours) else EPS["float64"]  # scikit-learn keeps a range in the dtype of x
    for name in ATTRIBUTES:
        if hasattr(two, name):
            expected = getattr(two, name)
            if expected is None:
                assert getattr(one, name) is None
            else:
                np.testing.assert_allclose(getattr(one, name), expected, rtol=200 * eps, atol=200 * eps, err_msg=name)
    if hasattr(two, "n_samples_seen_"):
        np.testing.assert_array_equal(one.n_samples_seen_, two.n_samples_seen_)
    y, expected = one.transform(x * dtype_of(x)(1.1)), two.transform(x * dtype_of(x)(1.1))
    assert y.dtype == x.dtype
    # scikit-learn centres and scales in the dtype of x: off by its eps times the offset, 100 deviations here.
    np.testing.assert_allclose(y, expected, rtol=20 * EPS[dtype], atol=400 * EPS[dtype])
    if hasattr(two, "inverse_transform"):
        back, expected = one.inverse_transform(y), two.inverse_transform(y)
        assert back.dtype == x.dtype
        np.testing.assert_allclose(back, expected, rtol=20 * EPS[dtype], atol=400 * EPS[dtype])


def dtype_of(x):
    return x.dtype.type


def test_weights_against_scikit(rng):
    x, w = some(rng), rng.integers(0, 4, 60) * 0.5
    one, two = StandardScaler().fit(x, sample_weight=w), preprocessing.StandardScaler().fit(x, sample_weight=w)
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-12, err_msg=name)
    one.partial_fit(x[:20])
    two.partial_fit(x[:20], sample_weight=np.ones(20))
    np.testing.assert_allclose(one.scale_, two.scale_, rtol=1e-12)


def test_weights_and_rows_add_up(rng):
    x = some(rng)
    for make in (StandardScaler, MeanScaler, lambda: UnitLengthScaler(axis=0)):
        scaler = make().fit(x[:3], sample_weight=[0.5, 0.25, 1])
        assert scaler.n_samples_seen_ == 1.75
        assert scaler.partial_fit(x[:10]).n_samples_seen_ == 11.75
        assert scaler.partial_fit(x[:2], sample_weight=[1, 1]).n_samples_seen_ == 13.75
        assert scaler.fit(x).n_samples_seen_ == 60


# --- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", COLUMNS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_inverse_transform_undoes_transform(rng, make, dtype):
    x = some(rng, dtype)
    scaler = make().fit(x)
    back = scaler.inverse_transform(scaler.transform(x))
    assert back.dtype == x.dtype
    # A rounding on the way there, of a result of up to the size of x, and one on the way back.
    np.testing.assert_allclose(back, x, rtol=4 * EPS[dtype], atol=4 * EPS[dtype] * np.abs(x).max(0).max())


@given(st.integers(0, 2**32), st.lists(st.integers(1, 9), max_size=5), st.integers(0, len(COLUMNS) - 1), st.booleans())
def test_partial_fit_is_fit(seed, sizes, which, holes):
    rng = np.random.default_rng(seed)
    x = some(rng, rows=sum(sizes) + 4)
    if holes:
        x[rng.random(x.shape) < 0.2] = np.nan
        x[-4:] = some(rng, rows=4)
    parts = COLUMNS[which]()
    for rows in np.split(x, np.cumsum(sizes)):
        assert parts.partial_fit(rows) is parts
    whole = COLUMNS[which]().fit(x)
    np.testing.assert_array_equal(parts.n_samples_seen_, whole.n_samples_seen_)
    np.testing.assert_array_equal(parts.constant_features_, whole.constant_features_)
    np.testing.assert_allclose(parts.transform(x), whole.transform(x), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("make", [StandardScaler, MeanScaler, lambda: UnitLengthScaler(axis=0)])
def test_whole_weights_are_repetitions(rng, make):
    x, times = some(rng), rng.integers(0, 4, 60)
    one = make().fit(x, sample_weight=times)
    two = make().fit(np.repeat(x, times, axis=0))
    assert one.n_samples_seen_ == two.n_samples_seen_
    np.testing.assert_allclose(one.transform(x), two.transform(x), rtol=1e-12, atol=1e-12)


def test_fit_forgets(rng):
    x = some(rng)
    scaler = StandardScaler().fit(x * 3).partial_fit(x)
    np.testing.assert_array_equal(scaler.fit(x).scale_, StandardScaler().fit(x).scale_)
    assert scaler.fit(x[:, :2]).n_features_in_ == 2


@pytest.mark.parametrize("make", ALL)
def test_nan_stays_where_it_is(rng, make):
    x = some(rng)
    holes = rng.random(x.shape) < 0.2
    x[holes] = np.nan
    x[5] = np.nan
    y = make().fit(x).transform(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_sizes_give_the_same(rng, make, layout):
    x = laid_out(some(rng, rows=3000), layout)
    assert x.size > 4096  # past the short way
    scaler = make().fit(x)
    twin = make().fit(np.ascontiguousarray(x))
    y = scaler.transform(x)
    # Where rows are neighbours the order of summation is another.
    np.testing.assert_allclose(y, twin.transform(np.ascontiguousarray(x)), rtol=1e-12, atol=1e-12)
    rows = np.concatenate([scaler.transform(x[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(rows, y[:20], rtol=4 * EPS["float64"], atol=1e-14)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "bool", "longdouble", ">f4", "object"])
def test_dtypes(rng, make, dtype):
    x = (rng.integers(0, 2, (30, 3)) if dtype == "bool" else rng.integers(1, 50, (30, 3))).astype(dtype)
    scaler = make().fit(x)
    y = scaler.transform(x)
    assert y.dtype == (np.dtype(dtype) if dtype in DTYPES else np.float64)
    expected = make().fit(x.astype(float)).transform(x.astype(float))
    np.testing.assert_allclose(y, expected, atol=4 * EPS[y.dtype.name] * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("rows", [3, 3000])
def test_copy_false_writes_into_the_input(rng, make, rows):
    x = some(rng, rows=rows)
    expected = make().fit(x).transform(x)
    kept = x.copy()
    assert make(copy=False).fit(x).transform(x, copy=True) is not x
    np.testing.assert_array_equal(x, kept)
    y = make(copy=False).fit(x).transform(x)
    assert np.shares_memory(y, x)
    np.testing.assert_array_equal(y, expected)
    x = kept.copy()
    assert np.shares_memory(make().fit(x).transform(x, copy=False), x)
    assert not np.shares_memory(make(copy=False).fit(kept).transform(kept.astype(int)), kept)


def test_float32_at_an_offset_loses_nothing(rng):
    """The mean is subtracted before anything is rounded; scikit-learn rounds it to float32 first."""
    x = (rng.normal(size=(5000, 2)) + 1e6).astype(np.float32)
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(0)) / exact.std(0)
    np.testing.assert_allclose(StandardScaler().fit_transform(x), expected, atol=4 * EPS["float32"] * 5)
    low, high = exact.min(0), exact.max(0)
    np.testing.assert_allclose(MinMaxScaler().fit_transform(x), (exact - low) / (high - low), atol=4 * EPS["float32"])


def test_minmax_reaches_its_ends_and_clips(rng):
    x = some(rng)
    scaler = MinMaxScaler((2, 3)).fit(x)
    y = scaler.transform(x)
    assert (y.min(0) == 2).all()
    np.testing.assert_allclose(y.max(0), 3, rtol=1e-15)
    outside = np.concatenate([x - 100, x + 100])
    assert scaler.transform(outside).max() > 3
    clipped = MinMaxScaler((2, 3), clip=True).fit(x)
    for rows in (outside, outside[:1]):
        assert clipped.transform(rows).min() >= 2
        assert clipped.transform(rows).max() <= 3
    np.testing.assert_allclose(scaler.min_, scaler.transform(np.zeros((1, 4)))[0], rtol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "l1", "max"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_unit_length(rng, norm, dtype):
    x = some(rng, dtype)
    x[3] = 0
    x[4, 1] = np.nan
    y = UnitLengthScaler(norm).fit_transform(x).astype(np.float64)
    size = {
        "l2": lambda a: np.sqrt((a * a).sum(1)),
        "l1": lambda a: np.abs(a).sum(1),
        "max": lambda a: np.abs(a).max(1),
    }
    lengths = size[norm](np.where(np.isnan(y), 0, y))
    assert lengths[3] == 0
    np.testing.assert_allclose(np.delete(lengths, 3), 1, rtol=8 * EPS[dtype])


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("norm", ["l2", "l1", "max"])
def test_lengths_neither_overflow_nor_vanish(rng, norm, scale):
    x = some(rng)
    expected = UnitLengthScaler(norm).fit_transform(x)
    np.testing.assert_allclose(UnitLengthScaler(norm).fit_transform(x * scale), expected, rtol=1e-12)


def test_what_has_no_inverse_says_so():
    assert hasattr(UnitLengthScaler(axis=0), "inverse_transform")
    assert not hasattr(UnitLengthScaler(), "inverse_transform")


# --- constant features ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 14.62, 1e-4, -3e4])
@pytest.mark.parametrize("make", [StandardScaler, MinMaxScaler, MeanScaler])
@pytest.mark.parametrize("parts", [1, 7])
def test_a_constant_becomes_exactly_nothing(rng, make, value, dtype, parts):
    """scikit-learn#17794: a column of 14.62 became -1."""
    x = np.column_stack([np.full(10_001, value), rng.normal(size=10_001)]).astype(dtype)
    x[rng.random(x.shape) < 0.1] = np.nan if parts == 7 else value
    x[0] = value
    scaler = make()
    for rows in np.array_split(x, parts):
        scaler.partial_fit(rows)
    assert scaler.constant_features_.tolist() == [True, False]
    assert scaler.scale_[0] == 1
    y = scaler.transform(x)
    assert (y[:, 0] == 0).all() if parts == 1 else np.nanmax(np.abs(y[:, 0])) == 0
    np.testing.assert_array_equal(scaler.inverse_transform(y)[:, 0], x[:, 0])


@pytest.mark.parametrize("weighted", [False, True])
def test_a_constant_that_was_rounded_differently_is_constant(rng, weighted):
    x = np.column_stack([rng.choice([0.1 + 0.2, 0.3], 1000), rng.normal(size=1000)])
    for make in (StandardScaler, MeanScaler):
        scaler = make().fit(x, sample_weight=rng.random(1000) + 0.1 if weighted else None)
        assert scaler.constant_features_.tolist() == [True, False]
    assert MinMaxScaler().fit(x).constant_features_.tolist() == [True, False]


@pytest.mark.parametrize("factor", [1e-13, 1.0, 1e13])
def test_the_unit_of_weights_does_not_matter(rng, factor):
    """N of the bound is a number of rows: 1000 weights of 1e13 would call everything constant, of 1e-13 nothing."""
    x = np.column_stack([rng.choice([0.1 + 0.2, 0.3], 1000), rng.normal(size=1000)])
    scaler = StandardScaler().fit(x, sample_weight=np.full(1000, factor))
    assert scaler.constant_features_.tolist() == [True, False]
    np.testing.assert_allclose(scaler.scale_, [1, x[:, 1].std()], rtol=1e-12)
    scaler.partial_fit(x, sample_weight=np.full(1000, factor))
    assert scaler.constant_features_.tolist() == [True, False]


@pytest.mark.filterwarnings("error")
def test_a_range_beyond_float64_is_scaled():
    x = np.array([[1e308, 1.0], [-1e308, 2.0], [0.0, 3.0], [np.nan, 2.0]])
    for low, high in ((0.0, 1.0), (-3.0, 5.0)):
        scaler = MinMaxScaler((low, high)).fit(x)
        y = scaler.transform(x)
        expected = low + (high - low) * np.array([[1, 0], [0, 0.5], [0.5, 1], [np.nan, 0.5]])
        np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(scaler.inverse_transform(y), x, rtol=1e-14, atol=1e294)
        assert not scaler.constant_features_.any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200, 1e307])
def test_lengths_of_columns_neither_overflow_nor_vanish(norm, scale):
    x = np.array([[3 * scale, 0.0, 1.0], [-4 * scale, 0.0, 1.0], [np.nan, np.nan, 1.0]])
    length = {"l1": 7, "l2": 5, "max": 4}[norm]
    for weights, times in ((None, 1), (np.array([4.0, 4.0, 1.0]), {"l1": 4, "l2": 2, "max": 1}[norm])):
        if length * times * scale > 1e308:
            continue  # too long for float64
        scaler = UnitLengthScaler(norm, axis=0).fit(x, sample_weight=weights)
        np.testing.assert_allclose(scaler.norm_[0], length * times * scale, rtol=1e-3 if scale == 1e-320 else 1e-14)
        parts = UnitLengthScaler(norm, axis=0)
        for row in range(3):
            parts.partial_fit(x[row : row + 1], sample_weight=None if weights is None else weights[row : row + 1])
        np.testing.assert_allclose(parts.norm_, scaler.norm_, rtol=1e-3 if scale == 1e-320 else 1e-14)
        assert scaler.constant_features_.tolist() == [False, True, False]
        if 1e-300 < scale < 1e300:  # beyond, the reciprocal of the length is
            expected = np.divide([3, -4], length * times)
            np.testing.assert_allclose(scaler.transform(x)[:2, 0], expected, rtol=1e-14)


def test_a_column_that_is_nan_at_first_has_the_length_of_what_follows():
    x = np.array([[np.nan, 1.0], [3.0, 1.0], [4.0, 1.0]])
    scaler = UnitLengthScaler(axis=0).partial_fit(x[:1])
    np.testing.assert_array_equal(scaler.norm_, [np.nan, 1.0])
    np.testing.assert_allclose(scaler.partial_fit(x[1:]).norm_, [5.0, np.sqrt(3)])


def test_a_variance_beyond_float64_is_not_that_of_a_constant():
    x = np.array([[1e200, 1e200], [-1e200, 1e200]])
    with np.errstate(all="ignore"):
        for weights in (None, np.ones(2)):
            scaler = StandardScaler().fit(x, sample_weight=weights)
            assert scaler.constant_features_.tolist() == [False, True]


@pytest.mark.parametrize("name", ["min_", "scale_", "data_min_"])
@pytest.mark.parametrize("in_place", [False, True])
def test_attributes_of_minmax_count_as_scikits(rng, name, in_place):
    """X * scale_ + min_, whichever of them somebody has changed, and however."""
    x = rng.normal(size=(5000, 3)) * 3 + 2
    scalers = [make((1, 3)).fit(x) for make in (MinMaxScaler, preprocessing.MinMaxScaler)]
    for scaler in scalers:
        if in_place:
            getattr(scaler, name)[1] += 0.5
        else:
            setattr(scaler, name, getattr(scaler, name) * [1, 2, 3])
    ours, theirs = scalers
    for rows in (x[:1], x):
        np.testing.assert_allclose(ours.transform(rows), theirs.transform(rows), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(ours.inverse_transform(rows), theirs.inverse_transform(rows), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("make", [StandardScaler, MeanScaler, lambda: UnitLengthScaler(axis=0)])
def test_a_block_whose_weights_are_all_zero_changes_nothing(rng, make):
    x = rng.normal(size=(20, 3))
    scaler = make().fit(x, sample_weight=np.ones(20))
    before = scaler.transform(x)
    scaler.partial_fit(x[:5] + 100, sample_weight=np.zeros(5))
    np.testing.assert_array_equal(scaler.transform(x), before)
    assert scaler.n_samples_seen_ == 20
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(4,\), expected \(5,\)!"):
        scaler.partial_fit(x[:5], sample_weight=np.zeros(4))


@pytest.mark.parametrize("scale", [1e-12, 1e-20, 1e-100, 1e-150])
@pytest.mark.parametrize("make", [StandardScaler, MinMaxScaler, MeanScaler])
def test_data_of_a_tiny_scale_are_not_constant(rng, make, scale):
    """scikit-learn#19527, and its MinMaxScaler to this day."""
    x = rng.normal(size=(100, 2))
    scaler = make().fit(x * scale)
    assert not scaler.constant_features_.any()
    np.testing.assert_allclose(scaler.transform(x * scale), make().fit_transform(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [10, 100, 10_000])
@pytest.mark.parametrize("average", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_is_that_of_rounding(rows, average, dtype):
    """scikit-learn#19788: var <= N eps var + (N eps mean)**2, with float64's eps whatever the data."""
    deviations = np.array([10.0**i for i in range(-30, 20)]).astype(dtype)
    x = np.concatenate(
        [np.broadcast_to(average + deviations, (rows // 2, 50)), np.broadcast_to(average - deviations, (rows // 2, 50))]
    )
    x = x.astype(dtype)
    scaler = StandardScaler(with_mean=False).fit(x)
    eps = np.finfo(np.float64).eps
    wide = deviations.astype(np.float64)
    bounds = rows * eps * wide**2 + (rows * eps * average) ** 2
    within = wide**2 <= bounds
    different = x[0] != x[-1]
    assert within.any()
    assert scaler.constant_features_[within | ~different].all()
    assert (scaler.scale_[within | ~different] == 1).all()
    clear = (wide**2 > 4 * bounds) & different
    # In float32 the two values are rounded, and so is their distance.
    clear &= wide > 100 * EPS[dtype] * average
    assert not scaler.constant_features_[clear].any()
    np.testing.assert_allclose(scaler.scale_[clear], np.sqrt(scaler.var_[clear]))


def test_a_feature_without_values_is_nan_and_not_constant():
    x = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    for make in (StandardScaler, MinMaxScaler, MeanScaler):
        scaler = make().fit(x)
        assert np.asarray(scaler.n_samples_seen_).tolist() == (2 if make is MinMaxScaler else [0, 2])
        assert np.isnan(scaler.transform([[1.0, 2.0]])[0, 0])


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", COLUMNS)
def test_fit_takes_no_memory_of_the_size_of_the_data(rng, make):
    x = rng.random((200_000, 8), np.float32)
    with nc.use_backend("cython"):
        make().fit(x[:10])  # what is imported and allocated once
        tracemalloc.start()
        make().fit(x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 0.1 * x.nbytes


def test_threads_change_no_bit(rng):
    x = rng.random((100_000, 7), np.float32)
    with nc.threads(1):
        one = StandardScaler().fit(x)
        y = one.transform(x)
    with nc.threads(2):
        two = StandardScaler().fit(x)
        assert two.scale_.tobytes() == one.scale_.tobytes()
        assert two.transform(x).tobytes() == y.tobytes()


# --- bad input --------------------------------------------------------------------------------------------------------


def sparse():
    from scipy.sparse import csr_array

    return csr_array(np.eye(4))


BAD = [
    (lambda _: sparse(), TypeError, "Sparse data was passed for X, but dense data is required"),
    (lambda x: np.where(x == x[3, 1], np.inf, x), ValueError, "Input X contains infinity or a value too large"),
    (lambda _: [["a"] * 4], ValueError, "could not convert|dtype='numeric' is not compatible"),
    (lambda x: x + 1j, ValueError, "Complex data not supported"),
    (lambda x: x[0], ValueError, "Expected 2D array, got 1D array instead"),
    (lambda x: x[:0], ValueError, r"Found array with 0 sample\(s\)"),
]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(("spoil", "error", "message"), BAD)
def test_bad_data_are_refused_and_change_nothing(rng, make, spoil, error, message):
    x = some(rng)
    scaler = make().fit(x)
    expected = scaler.transform(x)
    before = pickle.dumps(vars(scaler))
    for method in (scaler.fit, scaler.partial_fit, scaler.transform):
        with pytest.raises(error, match=message):
            method(spoil(x))
        assert pickle.dumps(vars(scaler)) == before
    np.testing.assert_array_equal(scaler.transform(x), expected)


@pytest.mark.parametrize("make", ALL)
def test_other_features_are_refused(rng, make):
    scaler = make().fit(some(rng))
    message = "X has 3 features, but [A-Za-z]+ is expecting 4 features as input"
    for rows in (1, 5000):
        with pytest.raises(ValueError, match=message):
            scaler.transform(np.ones((rows, 3)))
    with pytest.raises(ValueError, match=message):
        scaler.partial_fit(np.ones((2, 3)))
    if hasattr(scaler, "inverse_transform"):
        with pytest.raises(ValueError, match=message):
            scaler.inverse_transform(np.ones((2, 3)))


@pytest.mark.parametrize("make", ALL)
def test_unfitted_use_is_refused(make):
    scaler = make()
    calls = [scaler.transform, *([scaler.inverse_transform] if hasattr(scaler, "inverse_transform") else [])]
    for call in calls:
        with pytest.raises(NotFittedError, match=r"This [A-Za-z]+ instance is not fitted yet. Call 'fit'"):
            call(np.ones((1, 2)))
    with pytest.raises(ValueError, match="infinity"):
        scaler.fit([[np.inf, 1.0]])
    with pytest.raises(NotFittedError):
        scaler.transform(np.ones((1, 2)))


@pytest.mark.parametrize(
    ("scaler", "message"),
    [
        (StandardScaler(with_mean="yes"), "The 'with_mean' parameter of StandardScaler must be"),
        (MinMaxScaler((1, 0)), r"Minimum of desired feature range must be smaller than maximum. Got \(1, 0\)"),
        (MinMaxScaler((1, 2, 3)), "Minimum of desired feature range"),
        (MinMaxScaler([0, 1]), "The 'feature_range' parameter of MinMaxScaler must be an instance of 'tuple'"),
        (MeanScaler(copy=2), "The 'copy' parameter of MeanScaler must be"),
        (UnitLengthScaler("l3"), "The 'norm' parameter of UnitLengthScaler must be a str among"),
        (UnitLengthScaler(axis=2), "The 'axis' parameter of UnitLengthScaler must be"),
    ],
)
def test_wrong_parameters(scaler, message):
    with pytest.raises(ValueError, match=message):
        scaler.fit(np.eye(3))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, 2.0], r"sample_weight.shape == \(2,\), expected \(60,\)!"),
        ([-1.0] * 60, "Negative values in data passed to `sample_weight`"),
        ([np.nan] * 60, "Input sample_weight contains NaN"),
    ],
)
def test_wrong_weights(rng, weight, message):
    scaler = StandardScaler()
    with pytest.raises(ValueError, match=message):
        scaler.fit(some(rng), sample_weight=weight)
    assert not hasattr(scaler, "n_features_in_")
