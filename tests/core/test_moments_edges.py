"""RunningMoments where counts are nothing, fractions or one: numbers by hand, quick enough for every fault."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc
from normcore import moments as module

NAN = np.nan
FIVE = ("count", "mean", "var", "min", "max")


def values(m):
    return {name: np.asarray(getattr(m, name)).tolist() for name in FIVE}


def of(*parts, weights=None, **options):
    m = nc.RunningMoments(**options)
    for i, part in enumerate(parts):
        m.update(np.array(part, float), None if weights is None else weights[i])
    return m


def same(got, want):
    for name in FIVE:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-15, err_msg=name)


def test_a_feature_without_values_is_nan_and_leaves_the_others_alone():
    with np.errstate(all="raise"):
        m = of([[NAN, 1.0], [NAN, 3.0]])
        same(values(m), {"count": [0, 2], "mean": [NAN, 2], "var": [NAN, 1], "min": [NAN, 1], "max": [NAN, 3]})
        np.testing.assert_array_equal(m.std, [NAN, 1.0])
        assert repr(m) == "RunningMoments(axis=-1), 2 features, count up to 2"
        m.update(np.array([[7.0, NAN]]))
    same(values(m), {"count": [1, 2], "mean": [7, 2], "var": [0, 1], "min": [7, 1], "max": [7, 3]})


def test_a_fraction_of_a_value_is_a_value():
    m = of([[2.0], [6.0]], weights=[[0.25, 0.25]])
    same(values(m), {"count": [0.5], "mean": [4.0], "var": [4.0], "min": [2.0], "max": [6.0]})
    one = of([[3.0]], weights=[[0.25]])
    same(values(one), {"count": [0.25], "mean": [3.0], "var": [0.0], "min": [3.0], "max": [3.0]})


def test_rows_of_weight_zero_alone_are_nothing():
    m = of([[2.0, 5.0]], weights=[[0.0]])
    same(values(m), {"count": [0, 0], "mean": [NAN] * 2, "var": [NAN] * 2, "min": [NAN] * 2, "max": [NAN] * 2})
    m.update(np.array([[1.0, 2.0], [3.0, 2.0]]))
    same(values(m), {"count": [2, 2], "mean": [2, 2], "var": [1, 0], "min": [1, 2], "max": [3, 2]})


@pytest.mark.parametrize("rank", range(1, 8))
@pytest.mark.parametrize("weighted", [False, True])
def test_every_rank(rank, weighted):
    x = np.arange(1.0, 2.0**rank + 1).reshape((2,) * rank)
    weights = np.array([1.0, 3.0]) if weighted else None
    m = nc.RunningMoments()
    m.update(x, weights)
    each = np.repeat([1.0, 3.0] if weighted else [1.0, 1.0], x.size // 2).reshape(x.shape)
    others = tuple(range(rank - 1)) if rank > 1 else (0,)
    count = each.sum(axis=others)
    mean = (each * x).sum(axis=others) / count
    np.testing.assert_array_equal(m.count, count)
    np.testing.assert_allclose(m.mean, mean, rtol=1e-14)
    np.testing.assert_allclose(m.var, (each * (x - mean) ** 2).sum(axis=others) / count, rtol=1e-13)
    np.testing.assert_array_equal(m.min, x.min(axis=others))
    np.testing.assert_array_equal(m.max, x.max(axis=others))


def test_what_is_given_out_is_a_copy():
    m = of([[1.0, 2.0], [3.0, 5.0]])
    before = values(m)
    for name in (*FIVE, "std"):
        getattr(m, name)[...] = 99
    for value in m.state_dict().values():
        if isinstance(value, np.ndarray):
            value[...] = 99
    assert values(m) == before


def test_what_is_taken_in_is_left_alone():
    x, weights = np.array([[1.0, NAN], [3.0, 5.0]]), np.array([1.0, 2.0])
    for given in (None, weights):
        kept, kept_weights = x.copy(), weights.copy()
        nc.RunningMoments().update(x, given)
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(weights, kept_weights)


def test_who_collects_extremes_merges_with_whom():
    for mine, others, refused in (
        (True, True, False),
        (False, False, False),
        (False, True, False),
        (True, False, True),
    ):
        a, b = of([[1.0], [3.0]], extremes=mine), of([[5.0]], extremes=others)
        if refused:
            with pytest.raises(ValueError, match=r"^RunningMoments\.merge: other was made with extremes=False"):
                a.merge(b)
            assert a.count == 2
            continue
        a.merge(b)
        assert (a.count, a.mean) == (3, 3)
        np.testing.assert_array_equal((a.min, a.max), [[1], [5]] if mine else [[NAN], [NAN]])


def test_the_merge_of_triples_by_hand():
    one = np.array
    a = one([2.0, 0.0, 2.0, 0.0]), one([2.0, 8.0, 2.0, 8.0]), one([2.0, 9.0, 2.0, 9.0])
    b = one([1.0, 1.0, 0.0, 0.0]), one([5.0, 5.0, 7.0, 7.0]), one([0.0, 0.0, 4.0, 4.0])
    with np.errstate(all="raise"):
        count, mean, squares = module.merge_moments(a, b)
    np.testing.assert_array_equal(count, [3, 1, 2, 0])
    np.testing.assert_allclose(mean[:3], [3, 5, 2], rtol=1e-15)
    np.testing.assert_allclose(squares[:3], [2 + 9 * 2 / 3, 0, 2], rtol=1e-15)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinities_by_hand(bad):
    with np.errstate(all="raise"):
        m = of([[1.0, 1.0], [bad, 3.0]], [[2.0, 5.0]])
        same(
            values(m),
            {"count": [3, 3], "mean": [bad, 3], "var": [NAN, 8 / 3], "min": [min(bad, 1), 1], "max": [max(bad, 2), 5]},
        )
        m.update(np.array([[-bad, 3.0]]))
    assert np.isnan(m.mean[0])
    assert m.mean[1] == 3


def test_the_layout_of_a_state():
    m = of([[1.0, 2.0], [3.0, 6.0]])
    state = {key: np.asarray(value).tolist() for key, value in m.state_dict().items()}
    assert state == {
        "axis": -1, "extremes": True, "count": [2, 2], "mean": [2, 4], "squares": [2, 8], "min": [1, 2], "max": [3, 6],
    }  # fmt: skip
    assert set(of([[1.0]], extremes=False).state_dict()) == {"axis", "extremes", "count", "mean", "squares"}
    assert nc.RunningMoments(axis=1).state_dict() == {"axis": 1, "extremes": True}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"squares": [2.0, -1.0]}, "['squares'] must not be negative, but has -1;"),
        ({"squares": [-np.inf, 8.0]}, "['squares'] must not be negative, but has -inf;"),
        ({"min": [1.0, 9.0]}, "['min'] must not be above 'max', but is for a feature;"),
        ({"min": [1.0, 7.0], "max": [3.0, 9.0]}, "['mean'] must lie between 'min' and 'max', but does not for a"),
        ({"mean": [2.0, 6.1]}, "['mean'] must lie between 'min' and 'max', but does not for a feature;"),
        ({"mean": [-np.inf, 4.0]}, "['mean'] must lie between 'min' and 'max', but does not for a feature;"),
        ({"count": [2.0, 0.0]}, "['min'] and 'max' must be inf and -inf where 'count' is 0, but are not for a"),
    ],
)
def test_a_state_that_no_data_have_is_refused(change, said):
    m, other = of([[1.0, 2.0], [3.0, 6.0]]), of([[5.0, 5.0]])
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"^RunningMoments\.load_state_dict: state_dict\[") as caught:
        other.load_state_dict({**m.state_dict(), **change})
    assert str(caught.value).startswith(f"RunningMoments.load_state_dict: state_dict{said}")
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_mean_may_be_rounded_out_of_its_extremes():
    state = of([[0.1]] * 3).state_dict()
    for mean in (np.nextafter(0.1, 0), np.nextafter(0.1, 1), 0.1 * (1 + 1e-9)):
        nc.RunningMoments().load_state_dict({**state, "mean": [mean]})
    tiny = of([[5e-324]]).state_dict()
    nc.RunningMoments().load_state_dict({**tiny, "mean": [0.0]})
