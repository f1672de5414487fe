"""What RunningMoments and RunningCovariance have in common: parts, iterators, memory maps, state."""

from __future__ import annotations

import json
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, laid_out

import normcore as nc
from normcore import RunningCovariance, RunningMoments
from normcore._streaming import down, fold

KINDS = [RunningMoments, RunningCovariance]
VALUES = {RunningMoments: ("count", "mean", "var", "std", "min", "max"), RunningCovariance: ("count", "mean", "cov")}


def fed(kind, x, weights=None, **options):
    running = kind(**options)
    running.update(x, weights)
    return running


def assert_same(one, two, **tolerance):
    """Bit for bit, or within a tolerance."""
    for name in VALUES[type(one)]:
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), **({"rtol": 0} | tolerance), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_is_its_batches(rng, kind):
    x, w = rng.normal(size=(30, 3)) + 100, rng.random(30)
    cuts = [0, 1, 1, 17, 30]
    batches, weights = np.split(x, cuts), np.split(w, cuts)
    one, two = kind(), kind()
    one.update(iter(batches))
    assert_same(one, fed(kind, x), rtol=1e-12)
    two.update((b for b in batches), (v for v in weights))
    assert_same(two, fed(kind, x, w), rtol=1e-12)
    two.update(iter([]))
    assert_same(two, fed(kind, x, w), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_that_fails_changes_nothing(rng, kind):
    running = fed(kind, rng.normal(size=(5, 2)))
    before = running.state_dict()

    def batches(last):
        yield np.ones((2, 2))
        yield last

    def broken():
        yield np.ones((2, 2))
        raise OSError("the disk is gone")

    with pytest.raises(ValueError, match=r"x has shape \(2, 3\) and so has 3 features, but there were 2 before"):
        running.update(batches(np.ones((2, 3))))
    with pytest.raises(ValueError, match="but there were 3 before"):
        kind().update(iter([np.ones((2, 3)), np.ones((2, 2))]))
    with pytest.raises(OSError, match="the disk is gone"):
        running.update(broken())
    with pytest.raises(
        TypeError, match="sample_weight must be an iterator like x, of the weights of each batch, got lis"
    ):
        running.update(batches(np.ones((2, 2))), [1, 1, 1, 1])
    for weights in ([[1, 1]], [[1, 1]] * 3):
        with pytest.raises(ValueError, match="one of the two iterators ended before the other"):
            running.update(batches(np.ones((2, 2))), iter(weights))
    for name, value in running.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.fixture
def compiled():
    """The reference backend, which somebody may have chosen for the whole process, takes memory as it likes."""
    with nc.use_backend("cython"):
        yield


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_memory_map_is_read_in_place(rng, tmp_path, kind, order):
    x = rng.normal(size=(200_000, 8)).astype(np.float32)
    written = np.memmap(tmp_path / "x", np.float32, "w+", shape=x.shape, order=order)
    written[...] = x
    written.flush()
    there = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape, order=order)
    for part in (there, there[::2], there[:, ::2]):
        tracemalloc.start()
        running = fed(kind, part)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # The widest: 2**18 values as float64 for covariance, centred, and what finds the missing ones.
        assert peak < 8e6 if kind is RunningCovariance else peak < 2.5e6, "more than a few blocks"
        np.testing.assert_allclose(running.mean, np.mean(part, axis=0, dtype=np.float64), atol=1e-12)
        np.testing.assert_allclose(running.var, np.var(part, axis=0, dtype=np.float64), rtol=1e-10)


@pytest.mark.parametrize("holes", [False, True])
def test_memory_is_bounded_with_holes_and_weights(rng, holes):
    x = rng.normal(size=(300_000, 4))
    x[::7, 1] = np.nan if holes else 0.0
    weights = rng.random(len(x))
    tracemalloc.start()
    fed(RunningMoments, x, weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes  # the weights as float64, and a few blocks


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_layouts(rng, monkeypatch, kind, layout, axis):
    monkeypatch.setattr("normcore.moments._BLOCK", 50)
    monkeypatch.setattr("normcore.covariance._BLOCK", 50)
    x = laid_out(rng.normal(size=(5, 6, 7)), layout, axis=1)
    columns = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    running = fed(kind, x, axis=axis)
    np.testing.assert_allclose(running.mean, columns.mean(0), atol=1e-14)
    if kind is RunningMoments:
        np.testing.assert_allclose(running.var, columns.var(0), rtol=1e-12, atol=1e-30)
        np.testing.assert_array_equal([running.min, running.max], [columns.min(0), columns.max(0)])
    else:
        np.testing.assert_allclose(running.cov, np.cov(columns, rowvar=False, ddof=0), atol=1e-14)


@given(st.integers(0, 2**32), st.sampled_from(KINDS), st.booleans(), st.sampled_from([0.0, 1e3, -1e6]))
def test_any_grouping_gives_the_same(seed, kind, weighted, offset):
    """((a b) (c d)), (((a b) c) d), (d (c (b a))) and all at once."""
    rng = np.random.default_rng(seed)
    scale = np.array([1, 1e-3, 1e3])
    parts = [rng.normal(size=(n, 3)) * scale + offset for n in rng.integers(0, 9, 4)]
    weights = [rng.random(len(part)) if weighted else None for part in parts]
    leaves = [fed(kind, part, w) for part, w in zip(parts, weights, strict=True)]

    def merged(a, b):
        result = kind()
        result.merge(a)
        result.merge(b)
        return result

    a, b, c, d = leaves
    whole = fed(kind, np.concatenate(parts), np.concatenate(weights) if weighted else None)
    # Means are rounded to eps times the offset, and squared distances of groups move by that times the distance.
    tolerance = {"rtol": 1e-9, "atol": 1e-12 + 1e-15 * offset**2 * 1e-3}
    for tree in (
        merged(merged(a, b), merged(c, d)),
        merged(merged(merged(a, b), c), d),
        merged(d, merged(c, merged(b, a))),
    ):
        if kind is RunningMoments:
            assert_same(tree, whole, **tolerance)
            continue
        # Of a covariance, the rounding of one feature's mean times the distance in the other, which may be far larger
        # than the covariance of the two.
        moved = 8 * np.finfo(float).eps * abs(offset) * np.add.outer(scale, scale)
        np.testing.assert_allclose(tree.count, whole.count, rtol=1e-12)
        np.testing.assert_allclose(tree.mean, whole.mean, **tolerance)
        assert np.all(
            np.abs(tree.cov - whole.cov) <= moved + tolerance["rtol"] * np.abs(whole.cov) + tolerance["atol"]
        ) or (np.isnan(tree.cov).all() and np.isnan(whole.cov).all())


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_is_plain_and_complete(rng, kind):
    running = fed(kind, rng.normal(size=(9, 2)), axis=1)
    state = running.state_dict()
    assert type(state) is dict
    assert {type(value) for value in state.values()} <= {int, bool, np.ndarray}
    as_arrays = {key: np.asarray(value) for key, value in state.items()}  # what npz makes of it
    as_lists = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in state.items()}
    for given_state in (state, json.loads(json.dumps(as_lists)), as_arrays, pickle.loads(pickle.dumps(state))):
        twin = kind()
        twin.load_state_dict(given_state)
        assert twin.axis == 1
        assert_same(twin, running)
        twin.update([[1e9, 1e9]])
        assert np.max(running.count) == 9
    state["mean"][...] = 0
    assert (running.mean != 0).all()
    fresh = kind(axis=1)
    twin.load_state_dict(fresh.state_dict())
    assert np.max(twin.count) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_states_change_nothing(rng, kind):
    running = fed(kind, rng.normal(size=(9, 2)))
    good = running.state_dict()
    before = repr(running)
    cases = [
        ({}, "state_dict must have the keys"),
        ({**good, "more": 1}, "state_dict must have the keys"),
        ({key: value for key, value in good.items() if key != "mean"}, "state_dict must have the keys"),
        ({**good, "mean": np.zeros(3)}, r"must have shape \(3,"),
        ({**good, "mean": np.zeros((1, 2))}, r"state_dict\['mean'\] must have shape \(2,\), .* got \(1, 2\)"),
        ({**good, "mean": None}, r"state_dict\['mean'\] must be real numbers, got NoneType"),
        ({**good, "mean": ["a", "b"]}, r"state_dict\['mean'\] must be real numbers, got list"),
        ({**good, "mean": [[1.0], [1.0, 2.0]]}, r"state_dict\['mean'\] must be real numbers, got list"),
        ({**good, "axis": [1, 2]}, r"state_dict\['axis'\] must be a single value, got shape \(2,\)"),
        ({**good, "count": -good["count"]}, r"state_dict\['count'\] must be finite and not negative"),
        ({**good, "count": good["count"] * np.nan}, r"state_dict\['count'\] must be finite and not negative"),
    ]
    for state, message in cases:
        with pytest.raises(ValueError, match=message):
            running.load_state_dict(state)
        assert repr(running) == before
    for state in (None, [1], "axis"):
        with pytest.raises(TypeError, match=r"state_dict must be a mapping, got .*; pass what state_dict\(\) returned"):
            running.load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
def test_advice_that_can_be_followed(kind):
    for x, name in ((None, "NoneType"), ({"a": [1.0]}, "dict"), ([[None, 1.0]], "list")):
        with pytest.raises(TypeError, match=f"x must be an array of numbers, got {name}, .*; pass numbers alone"):
            kind().update(x)
    with pytest.raises(TypeError, match=r"got complex128; pass x\.real and x.imag as features of their own"):
        kind().update([[1j]])
    for axis in (True, np.False_):
        with pytest.raises(TypeError, match="axis must be an int, got "):
            kind(axis)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_go_on(rng, kind):
    x = rng.normal(size=(9, 2))
    twin = pickle.loads(pickle.dumps(fed(kind, x)))
    twin.update(x[:3])
    assert_same(twin, fed(kind, np.concatenate([x, x[:3]])), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_weight_zero_is_not_there(rng, kind):
    x = rng.normal(size=(9, 2))
    weights = rng.random(9)
    weights[4] = 0
    without = fed(kind, np.delete(x, 4, axis=0), np.delete(weights, 4))
    for value in (np.nan, np.inf, 1e300):
        x[4] = value
        assert_same(fed(kind, x, weights), without, rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.1, 14.62, 1e9 / 3])
def test_a_constant_with_weights_and_holes_has_no_variance(rng, kind, value):
    x, weights = np.full((999, 2), value), rng.random(999)
    x[rng.random(x.shape) < 0.2] = np.nan
    for given_weights in (None, weights):
        running = kind()
        for part in (slice(0, 10), slice(10, None)):
            running.update(x[part], None if given_weights is None else given_weights[part])
        assert (running.mean == value).all()
        assert (running.var == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_is_off_by_the_last_place_only(rng, kind):
    """Also where weights and the sums over them are rounded: the second pass says by how much."""
    values = rng.integers(0, 2, (999, 1)) * 2.0**-20 + 1e6 / 3
    weights = rng.random(999)
    running = fed(kind, values, weights)
    exact = np.average(values[:, 0].astype(np.longdouble), weights=weights.astype(np.longdouble))
    np.testing.assert_allclose(running.mean, float(exact), rtol=2**-52)
    distance = values[:, 0].astype(np.longdouble) - exact
    np.testing.assert_allclose(running.var, float(np.average(distance**2, weights=weights)), rtol=1e-10)


def test_without_extremes(rng):
    x = rng.normal(size=(40, 3))
    x[3, 1] = np.nan
    plain, full = fed(RunningMoments, x, extremes=False), fed(RunningMoments, x)
    for name in ("count", "mean", "var"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(full, name))
    assert np.isnan([plain.min, plain.max]).all()
    assert set(plain.state_dict()) == {"axis", "extremes", "count", "mean", "squares"}
    plain.merge(full)
    assert plain.count.tolist() == [80, 78, 80]
    assert np.isnan(plain.max).all()
    with pytest.raises(ValueError, match="other was made with extremes=False and has no minimum and maximum"):
        full.merge(plain)
    with pytest.raises(TypeError, match="extremes must be True or False, got 'no'"):
        RunningMoments(extremes="no")


def test_the_two_do_not_merge():
    with pytest.raises(TypeError, match="other must be a RunningCovariance, got RunningMoments"):
        RunningCovariance().merge(RunningMoments())


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (1, 3), (7, 2000), (5000, 3), (1030, 1)])
def test_folded_rows_are_all_rows(rng, shape):
    x = rng.integers(0, 100, shape).astype(np.float64)
    rows, rest, k = fold(x)
    assert rows.size + rest.size == x.size
    assert rows.shape[1] == k * shape[1]
    np.testing.assert_array_equal(down(np.add, x, 0.0), x.sum(0))
    np.testing.assert_array_equal(down(np.maximum, x, -np.inf), x.max(0, initial=-np.inf))


@pytest.mark.parametrize("n", [1, 2])
def test_the_number_of_threads_changes_no_bit(rng, n):
    x = rng.normal(size=(100_000, 5)).astype(np.float32)
    x[::9, 2] = np.nan
    with nc.threads(n):
        running = fed(RunningMoments, x)
    assert running.mean.tobytes() == fed(RunningMoments, x).mean.tobytes()
    assert running.var.tobytes() == fed(RunningMoments, x).var.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_beyond_float64_are_refused_and_change_nothing(kind):
    x, half = np.array([[1.0, 2.0], [3.0, 5.0]]), 0.9e308
    refused = r": sample_weight adds up, with what is counted already, to more than float64 holds; divide all "
    merged = r"\.merge: other's weights add up, with what is counted already, to more than float64 holds; divide all "
    empty, full = kind(), fed(kind, x[:1], [half])
    for running in (empty, full):
        before = json.dumps({k: np.asarray(v).tolist() for k, v in running.state_dict().items()})
        with np.errstate(all="raise"):
            with pytest.raises(ValueError, match=rf"^{kind.__name__}\.update{refused}"):
                running.update(x, [half, 1e308])
            with pytest.raises(ValueError, match=rf"^{kind.__name__}\.update{refused}"):
                running.update(iter([x[:1], x[1:]]), iter([[half], [half]]))
            with pytest.raises(ValueError, match=rf"^{kind.__name__}\.update{refused}"):
                running.update(np.ones((1, 3, 2)), [0.7e308])  # a weight counts at every place of its row
        assert json.dumps({k: np.asarray(v).tolist() for k, v in running.state_dict().items()}) == before
    with pytest.raises(ValueError, match=rf"^{kind.__name__}{merged}"):
        full.merge(fed(kind, x[:1], [half]))
    with pytest.raises(ValueError, match=refused):
        full.update(x[1:], [half])
    full.update(x[1:], [half / 2])
    np.testing.assert_allclose(full.mean, [5 / 3, 3.0], rtol=1e-15)
