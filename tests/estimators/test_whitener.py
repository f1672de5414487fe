"""Whitener: its definition, the five matrices, data of less than full rank, parts and weights, bad input."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from tolerances import EPS

from normcore.estimators import StandardScaler, Whitener

METHODS = ("pca", "zca", "cholesky", "pca-cor", "zca-cor")
MIXING = np.array([[2.0, 0.5, -1.0, 0.3], [0.0, 1.0, 0.7, -2.0], [0.0, 0.0, 0.5, 0.2], [0.0, 0.0, 0.0, 3.0]])


@pytest.fixture
def x(rng):
    return rng.normal(size=(400, 4)) @ MIXING + [10, -200, 0.5, 3]


def dependent(x):
    """Rank 4 in 7 columns: a copy, a constant and a sum besides."""
    return np.column_stack([x[:, 0], x[:, 0], x[:, 1], np.full(len(x), 2.5), x[:, 2], x[:, :3].sum(1), x[:, 3]])


def expected(method, cov):
    """W by the formulas of Kessy, Lewin & Strimmer 2018."""
    values, vectors = np.linalg.eigh(cov)
    scale = np.diag(1 / np.sqrt(np.diag(cov)))
    theta, g = np.linalg.eigh(scale @ cov @ scale)
    matrix = {
        "pca": np.diag(values[::-1] ** -0.5) @ vectors.T[::-1],
        "zca": vectors @ np.diag(values**-0.5) @ vectors.T,
        "cholesky": np.linalg.inv(np.linalg.cholesky(cov)),
        "pca-cor": np.diag(theta[::-1] ** -0.5) @ g.T[::-1] @ scale,
        "zca-cor": g @ np.diag(theta**-0.5) @ g.T @ scale,
    }[method]
    if not method.startswith("pca"):
        return matrix
    directions = vectors.T[::-1] if method == "pca" else g.T[::-1]
    signs = np.sign(directions[np.arange(len(cov)), np.abs(directions).argmax(1)])
    return signs[:, None] * matrix


@pytest.mark.parametrize("method", METHODS)
def test_the_matrix_is_that_of_the_paper(x, method):
    whitener = Whitener(method).fit(x)
    cov = np.cov(x, rowvar=False)
    np.testing.assert_allclose(whitener.covariance_, cov, rtol=1e-12)
    np.testing.assert_allclose(whitener.whitening_, expected(method, cov), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(whitener.whitening_ @ whitener.unwhitening_, np.eye(4), atol=1e-12)
    assert whitener.rank_ == 4
    assert (np.diff(whitener.eigenvalues_) <= 0).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ddof", [0, 1, 2.5])
def test_the_result_is_white_and_the_way_back_leads_back(x, method, dtype, ddof):
    x = x.astype(dtype)
    whitener = Whitener(method, ddof=ddof)
    z = whitener.fit_transform(x)
    assert z.dtype == x.dtype
    wide = z.astype(np.float64)
    cov = (wide - wide.mean(0)).T @ (wide - wide.mean(0)) / (len(x) - ddof)
    np.testing.assert_allclose(cov, np.eye(4), atol=1e-11 + EPS[dtype])  # each z is rounded
    np.testing.assert_allclose(wide.mean(0), 0, atol=1e-12 + EPS[dtype])
    back = whitener.inverse_transform(z)
    assert back.dtype == x.dtype
    # z of up to 4 is rounded, multiplied by deviations of up to 4, and the sum of four rounded again; and the two
    # matrices are inverse to one another up to their condition.
    np.testing.assert_allclose(back, x.astype(np.float64), rtol=EPS[dtype], atol=160 * EPS[dtype])


def test_pca_is_that_of_scikit(x):
    theirs = PCA(whiten=True).fit_transform(x)
    ours = Whitener("pca").fit_transform(x)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-8, atol=1e-10)


def test_cor_methods_whiten_the_standardised(x):
    standard = StandardScaler().fit_transform(x)
    for method in ("pca", "zca"):
        ours = Whitener(f"{method}-cor").fit_transform(x)
        np.testing.assert_allclose(ours, Whitener(method).fit_transform(standard), atol=1e-10)
    # Units do not matter.
    scaled = Whitener("zca-cor").fit_transform(x * [1e6, 1, 1e-6, 1])
    np.testing.assert_allclose(scaled, Whitener("zca-cor").fit_transform(x), atol=1e-9)


def test_zca_is_closest_to_the_data_and_cholesky_takes_features_in_order(x):
    centred = x - x.mean(0)
    distance = {method: ((Whitener(method).fit_transform(x) - centred) ** 2).sum() for method in METHODS}
    assert min(distance, key=distance.__getitem__) == "zca"
    changed = x.copy()
    changed[:, 2:] = changed[:, 2:] ** 3
    one, two = (Whitener("cholesky").fit_transform(data) for data in (x, changed))
    np.testing.assert_allclose(one[:, :2], two[:, :2], atol=1e-12)
    assert (np.triu(Whitener("cholesky").fit(x).whitening_, 1) == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("parts", [1, 5])
def test_null_directions_stay_at_zero(x, method, dtype, parts):
    """scikit-learn's PCA(whiten=True) gives values of hundreds of thousands here."""
    data = dependent(x).astype(dtype)
    whitener = Whitener(method)
    for rows in np.array_split(data, parts):
        whitener.partial_fit(rows)
    z = whitener.transform(data)
    assert whitener.rank_ == 4
    assert whitener.constant_features_.tolist() == [False] * 3 + [True] + [False] * 3
    assert np.abs(z).max() < 6
    values = np.linalg.eigvalsh(np.cov(z.astype(np.float64), rowvar=False))
    np.testing.assert_allclose(values, [0, 0, 0, 1, 1, 1, 1], atol=1e-5 if dtype == "float32" else 1e-9)
    np.testing.assert_allclose(whitener.inverse_transform(z), data, rtol=4 * EPS[dtype], atol=400 * EPS[dtype])
    if method.startswith("pca"):
        assert (z[:, 4:] == 0).all()
    if method == "cholesky":
        assert np.flatnonzero((z == 0).all(0)).tolist() == [1, 3, 5]


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_that_was_rounded_differently_has_no_direction(x, rng, method):
    data = np.column_stack([x, rng.choice([0.1 + 0.2, 0.3], len(x))])
    whitener = Whitener(method).fit(data)
    assert whitener.rank_ == 4
    assert (whitener.whitening_[:, 4] == 0).all()
    np.testing.assert_allclose(whitener.inverse_transform(whitener.transform(data)), data, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_large_constant_hides_no_small_feature(x, method):
    """It is rounded to the same float32 in every row, so nothing of that is in the covariance."""
    data = np.column_stack([x * 1e-3, np.full(len(x), 1e6)]).astype(np.float32)
    whitener = Whitener(method).fit(data)
    assert whitener.rank_ == 4
    assert (whitener.whitening_[:, 4] == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("mean", "std", "small"), [(1e6, 1, 1e-2), (1e6, 1, 1e-4), (2020, 5, 1e-4)])
def test_a_large_feature_hides_no_small_ones(rng, method, mean, std, small):
    """Its rounding in float32 is along its own axis, and nowhere else."""
    scales = np.array([small, small, std])
    for order in ([0, 1, 2], [2, 0, 1]):
        data = (rng.normal(size=(1000, 3)) * scales + [0, 0, mean])[:, order].astype(np.float32)
        whitener = Whitener(method).fit(data)
        assert whitener.rank_ == 3
        z = whitener.transform(data.astype(np.float64))
        # eigh is off by float64's eps of the largest of eigenvalues that are up to 1e10 apart.
        np.testing.assert_allclose(np.cov(z, rowvar=False), np.eye(3), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_coarse_feature_hides_no_correlation_of_others(rng, method):
    """At 1e6 float32 leaves a twentieth of this variance to rounding, more than the two others differ by."""
    one, two, coarse = rng.normal(size=(3, 1000))
    data = np.column_stack([one, one + 0.1 * two, 1e6 + 0.3 * coarse]).astype(np.float32)
    assert Whitener(method).fit(data).rank_ == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rows", "features"), [(40, 8), (50, 300), (300, 50)])
def test_rounding_is_no_direction(rng, method, rows, features):
    """Three directions in float32 at all offsets and scales; with few rows the rounding of many features adds up."""
    data = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, features)) * 10.0 ** rng.integers(-2, 3, features)
    data = (data + rng.choice([0, 1, 100], features)).astype(np.float32)
    whitener = Whitener(method).fit(data)
    assert whitener.rank_ <= 3
    assert np.abs(whitener.transform(data)).max() < 6


@pytest.mark.parametrize("method", METHODS)
def test_what_was_once_coarse_stays_coarse(x, method):
    """Rounding in float32 is in the statistics, whatever comes after it."""
    data = dependent(x).astype(np.float32)
    whitener = Whitener(method).partial_fit(data[:300]).partial_fit(data[300:].astype(np.float64))
    assert whitener.rank_ == 4


@pytest.mark.parametrize("method", METHODS)
def test_fewer_rows_than_features(rng, method):
    x = rng.normal(size=(6, 20))
    whitener = Whitener(method)
    z = whitener.fit_transform(x)
    assert whitener.rank_ == 5
    assert np.abs(z).max() < 6
    np.testing.assert_allclose(whitener.inverse_transform(z), x, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_constants(method):
    whitener = Whitener(method)
    z = whitener.fit_transform(np.full((5, 3), 14.62))
    assert whitener.rank_ == 0
    assert (z == 0).all()
    np.testing.assert_array_equal(whitener.inverse_transform(z), np.full((5, 3), 14.62))


@pytest.mark.parametrize("scale", [1e-60, 1e60])
@pytest.mark.parametrize("method", METHODS)
def test_the_scale_of_all_data_does_not_matter(x, method, scale):
    np.testing.assert_allclose(Whitener(method).fit_transform(x * scale), Whitener(method).fit_transform(x), atol=1e-9)


def test_the_tolerance_is_relative_to_the_largest_eigenvalue(rng):
    x = rng.normal(size=(500, 3)) * [1e3, 1, 1e-3]  # eigenvalues of 1e6, 1 and 1e-6
    ranks = [Whitener(tol=tol).fit(x).rank_ for tol in (None, 0.0, 1e-13, 1e-8, 1e-4)]
    assert ranks == [3, 3, 3, 2, 1]
    assert (Whitener("pca", tol=1e-4).fit_transform(x)[:, 1:] == 0).all()
    assert Whitener("cholesky", tol=1e-4).fit(x).rank_ == 1


@pytest.mark.parametrize("method", METHODS)
def test_eps_shrinks(x, method):
    eps = 0.5
    whitener = Whitener(method, eps=eps).fit(x)
    cov = whitener.covariance_
    if method.endswith("-cor"):
        scale = np.sqrt(np.diag(cov))
        shrunk = cov + eps * np.diag(scale**2)
        np.testing.assert_allclose(np.linalg.det(whitener.whitening_) ** -2, np.linalg.det(shrunk), rtol=1e-9)
    else:
        shrunk = cov + eps * np.eye(4)
    np.testing.assert_allclose(whitener.whitening_ @ shrunk @ whitener.whitening_.T, np.eye(4), atol=1e-10)
    z = whitener.transform(x)
    assert np.linalg.eigvalsh(np.cov(z, rowvar=False)).max() < 1
    np.testing.assert_allclose(whitener.inverse_transform(z), x, atol=1e-11)
    # What depends on the rest stays at zero, or put back, all the same.
    data = dependent(x)
    flat = Whitener(method, eps=eps).fit(data)
    assert flat.rank_ == 4
    np.testing.assert_allclose(flat.inverse_transform(flat.transform(data)), data, atol=1e-9)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 9), max_size=5), st.sampled_from(METHODS), st.booleans())
def test_partial_fit_is_fit(seed, sizes, method, weighted):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30 + sum(sizes), 4)) @ MIXING + 50
    weights = rng.integers(1, 4, len(x)).astype(float) if weighted else None
    parts, whole = Whitener(method), Whitener(method).fit(x, sample_weight=weights)
    for rows in np.split(np.arange(len(x)), 30 + np.cumsum(sizes)):
        if len(rows):
            parts.partial_fit(x[rows], sample_weight=None if weights is None else weights[rows])
    assert parts.n_samples_seen_ == whole.n_samples_seen_
    # As means: W and z up to what a rounding of the covariance moves them.
    np.testing.assert_allclose(parts.covariance_, whole.covariance_, rtol=1e-9, atol=1e-10)
    z = parts.transform(x)
    back = parts.inverse_transform(z)
    np.testing.assert_allclose(back, x, atol=1e-9)
    if not method.startswith("pca"):  # close eigenvalues share their directions as they like
        np.testing.assert_allclose(z, whole.transform(x), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_whole_weights_are_repetitions(x, rng, method):
    times = rng.integers(0, 4, len(x))
    one, two = Whitener(method).fit(x, sample_weight=times), Whitener(method).fit(np.repeat(x, times, axis=0))
    assert one.n_samples_seen_ == two.n_samples_seen_ == times.sum()
    np.testing.assert_allclose(one.transform(x), two.transform(x), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1e-13, 1e13])
def test_the_unit_of_weights_does_not_matter(x, rng, method, factor):
    weights = rng.random(len(x)) + 0.1
    one = Whitener(method, ddof=0).fit(x, sample_weight=weights)
    two = Whitener(method, ddof=0).fit(x, sample_weight=weights * factor)
    assert two.rank_ == 4
    assert not two.constant_features_.any()
    np.testing.assert_allclose(two.transform(x), one.transform(x), atol=1e-9)


def test_a_block_whose_weights_are_all_zero_changes_nothing(x):
    whitener = Whitener().fit(x, sample_weight=np.full(len(x), 2.0))
    before = whitener.transform(x)
    whitener.partial_fit(x[:5] + 1e9, sample_weight=np.zeros(5))
    np.testing.assert_array_equal(whitener.transform(x), before)
    assert whitener.n_samples_seen_ == 2 * len(x)


def test_blocks_and_copy(x, monkeypatch):
    whitener = Whitener("zca").fit(x)
    expected = whitener.transform(x)
    monkeypatch.setattr("normcore.estimators.whitener._BLOCK", 30)
    np.testing.assert_allclose(whitener.transform(x), expected, atol=1e-13)
    kept = x.copy()
    z = whitener.transform(x, copy=False)
    assert np.shares_memory(z, x)
    np.testing.assert_allclose(z, expected, atol=1e-13)
    np.testing.assert_allclose(whitener.inverse_transform(z, copy=False), kept, atol=1e-12)
    assert np.shares_memory(z, x)


def test_transform_takes_little_more_than_its_result(rng):
    x = rng.random((100_000, 8), np.float32)
    whitener = Whitener().fit(x)
    tracemalloc.start()
    z = whitener.transform(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < z.nbytes + 7e6  # three blocks of 2**18 float64


def test_names(x):
    assert Whitener("pca").fit(x).get_feature_names_out().tolist() == [f"whitener{i}" for i in range(4)]
    assert Whitener("zca").fit(x).get_feature_names_out().tolist() == [f"x{i}" for i in range(4)]
    assert Whitener("zca").fit(x).get_feature_names_out(list("abcd")).tolist() == list("abcd")
    for method in METHODS:
        with pytest.raises(NotFittedError):
            Whitener(method).get_feature_names_out()
        with pytest.raises(ValueError, match="input_features should have length equal to number of features"):
            Whitener(method).fit(x).get_feature_names_out(["a"])


BAD = [
    (lambda x: np.where(x == x[3, 1], np.nan, x), "Input X contains NaN"),
    (lambda x: np.where(x == x[3, 1], np.inf, x), "Input X contains infinity"),
    (lambda x: x[:, :3], "X has 3 features, but Whitener is expecting 4 features as input"),
    (lambda x: x[0], "Expected 2D array, got 1D array instead"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_bad_data_are_refused_and_change_nothing(x, spoil, message):
    whitener = Whitener().fit(x)
    before = pickle.dumps(vars(whitener))
    for method in (whitener.partial_fit, whitener.transform, whitener.inverse_transform):
        with pytest.raises(ValueError, match=message):
            method(spoil(x))
    assert pickle.dumps(vars(whitener)) == before


def test_sparse_data_are_refused(x):
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match="Sparse data was passed for X, but dense data is required"):
        Whitener().fit(csr_array(x))


def test_too_few_rows():
    with pytest.raises(
        ValueError, match="Found n_samples=1, with which the covariance is divided by n_samples - ddof = 0"
    ):
        Whitener().fit(np.ones((1, 2)))
    whitener = Whitener(ddof=0).fit([[1.0, 2.0]])
    assert (whitener.transform([[1.0, 2.0]]) == 0).all()
    with pytest.raises(NotFittedError, match="This Whitener instance is not fitted yet"):
        Whitener().transform(np.ones((1, 2)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [[1, 3], [1, 1, 1], [7, 1]])
def test_a_first_row_waits_for_the_next(x, method, sizes):
    x = x[:30]
    parts = np.split(x, np.cumsum(sizes))
    whitener = Whitener(method).partial_fit(parts[0])
    if len(parts[0]) == 1:
        message = r"This Whitener instance has seen n_samples=1 so far, and needs more than ddof = 1; call 'partial"
        for use in (whitener.transform, whitener.inverse_transform):
            with pytest.raises(NotFittedError, match=message):
                use(x[:1])
        if method.startswith("pca"):
            with pytest.raises(NotFittedError, match=message):
                whitener.get_feature_names_out()
        with pytest.raises(ValueError, match="X has 3 features, but Whitener is expecting 4 features"):
            whitener.partial_fit(x[:, :3])
        whitener = pickle.loads(pickle.dumps(whitener))
    for rows in parts[1:]:
        whitener.partial_fit(rows)
    whole = Whitener(method).fit(x)
    assert whitener.n_samples_seen_ == 30
    np.testing.assert_allclose(whitener.covariance_, whole.covariance_, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(whitener.transform(x), whole.transform(x), atol=1e-6)


def test_a_fit_forgets_the_row_that_waits(x):
    whitener = Whitener().partial_fit(x[:1] + 1e6)
    np.testing.assert_array_equal(whitener.fit(x).transform(x), Whitener().fit(x).transform(x))
    whitener.set_params(ddof=1000)
    with pytest.raises(ValueError, match="Found n_samples=401, with which the covariance is divided by"):
        whitener.partial_fit(x[:1])
    assert whitener.n_samples_seen_ == 400


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ica"}, "The 'method' parameter of Whitener must be a str among"),
        ({"eps": -1.0}, "The 'eps' parameter of Whitener must be a float in the range"),
        ({"ddof": -1}, "The 'ddof' parameter of Whitener must be"),
        ({"tol": 1.0}, "The 'tol' parameter of Whitener must be"),
    ],
)
def test_wrong_parameters(x, options, message):
    with pytest.raises(ValueError, match=message):
        Whitener(**options).fit(x)
