"""States of RunningMoments and RunningCovariance: what they write, whatever they have seen, they read."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc

VALUES = st.one_of(
    st.floats(width=64),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.1, 1e308, -1.7e308, 5e-324, 1e-320, 1e16, 1 / 3]),
)
WEIGHTS = st.one_of(st.floats(0, 1e300), st.sampled_from([0.0, 1.0, 5e-324, 1e-310, 0.1, 1e-3]))


def empty(one):
    options = {"extremes": one.extremes} if isinstance(one, nc.RunningMoments) else {}
    return type(one)(**options)


@given(st.data(), st.integers(1, 3), st.sampled_from(["f4", "f8", "i8"]), st.booleans(), st.booleans())
def test_every_state_that_is_written_is_read(draw, features, dtype, extremes, weighted):
    """Also those of missing and infinite values, of no values, of weights beyond reason, and of merges."""
    m = nc.RunningMoments(extremes=extremes)
    both = nc.RunningCovariance()
    for _ in range(draw.draw(st.integers(0, 4))):
        rows = draw.draw(st.lists(st.lists(VALUES, min_size=features, max_size=features), max_size=5))
        x = np.array(rows, float).reshape(-1, features)
        with np.errstate(all="ignore"):
            x = (np.nan_to_num(x).clip(-1e15, 1e15) if dtype == "i8" else x).astype(dtype)
        weights = np.array(draw.draw(st.lists(WEIGHTS, min_size=len(x), max_size=len(x)))) if weighted else None
        m.update(x, weights)
        both.update(x, weights)
    for one in (m, both):
        if not np.isfinite(one.count).all():  # of weights beyond float64
            continue
        state = one.state_dict()
        as_json = json.loads(json.dumps({key: np.asarray(value).tolist() for key, value in state.items()}))
        for form in (state, as_json):
            again = empty(one)
            again.load_state_dict(form)
            for name, value in again.state_dict().items():
                np.testing.assert_array_equal(value, state[name])
        again.merge(one)
        if math.isfinite(np.max(again.count, initial=0.0)):
            empty(one).load_state_dict(again.state_dict())
