"""RunningMoments and RunningCovariance in any order of calls, against a plain list of rows and NumPy over all of it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tolerances import tol

import normcore as nc

FEATURES = 3
numbers = st.floats(-100, 100, width=32)
values = numbers | st.just(float("nan"))
weights = st.sampled_from([0.0, 0.5, 1.0, 3.0])


def rows_of(cell):
    return st.lists(st.lists(cell, min_size=FEATURES, max_size=FEATURES), max_size=6)


def as_array(rows):
    return np.array(rows, float).reshape(-1, FEATURES)


WRONG = [
    (np.zeros((2, FEATURES + 1)), None),
    (np.zeros((2, FEATURES), complex), None),
    (np.ma.masked_array(np.zeros((2, FEATURES)), True), None),
    (np.ones((2, FEATURES)), [1.0]),
    (np.ones((2, FEATURES)), [1.0, -1.0]),
    (np.ones((2, FEATURES)), [1.0, np.nan]),
    ("rows", None),
]


class Statistics(RuleBasedStateMachine):
    """Two of them: what one has seen may go into the other."""

    kind: type
    cell = values

    @initialize()
    def begin(self):
        self.running = self.kind()
        self.rows, self.weights = np.zeros((0, FEATURES)), np.zeros(0)
        self.begun = False

    def saw(self, rows, given=None):
        self.rows = np.concatenate([self.rows, rows])
        self.weights = np.concatenate([self.weights, np.ones(len(rows)) if given is None else given])
        self.begun = True

    @rule(data=st.data(), layout=st.sampled_from(["C", "F"]), dtype=st.sampled_from(["f4", "f8", ">f8"]))
    def update(self, data, layout, dtype):
        rows = as_array(data.draw(rows_of(self.cell)))
        x = np.array(rows, dtype, order=layout)
        x.flags.writeable = False
        self.running.update(x)
        self.saw(x.astype(float))

    @rule(data=st.data())
    def update_with_weights(self, data):
        rows = as_array(data.draw(rows_of(self.cell)))
        given = np.array(data.draw(st.lists(weights, min_size=len(rows), max_size=len(rows))))
        self.running.update(rows, given)
        self.saw(rows, given)

    @rule(data=st.data())
    def update_from_an_iterator(self, data):
        parts = [as_array(part) for part in data.draw(st.lists(rows_of(self.cell), min_size=1, max_size=3))]
        self.running.update(iter(parts))
        for part in parts:
            self.saw(part)

    @rule(data=st.data())
    def merge(self, data):
        rows = as_array(data.draw(rows_of(self.cell)))
        other = self.kind()
        other.update(rows)
        self.running.merge(other)
        self.saw(rows)

    @rule(data=st.data(), wrong=st.sampled_from(WRONG))
    def fail_in_the_middle(self, data, wrong):
        """An iterator whose last part is refused: nothing of the parts before has been taken in."""
        rows = as_array(data.draw(rows_of(numbers)))
        x, given = wrong
        try:
            if given is None:
                self.running.update(iter([rows, x]))
            else:
                self.running.update(iter([rows, x]), iter([np.ones(len(rows)), given]))
        except (TypeError, ValueError):
            return
        raise AssertionError("taken in")

    @rule(wrong=st.sampled_from(WRONG))
    def fail(self, wrong):
        if not self.begun:  # then any number of features will do
            return
        try:
            self.running.update(*wrong)
        except (TypeError, ValueError):
            return
        raise AssertionError("taken in")

    @precondition(lambda self: self.begun)
    @rule(key=st.sampled_from(["count", "mean"]), value=st.sampled_from([None, "one", [1.0], np.full(9, np.nan)]))
    def fail_to_load(self, key, value):
        state = self.running.state_dict() | {key: value}
        try:
            self.running.load_state_dict(state)
        except (TypeError, ValueError):
            return
        raise AssertionError("loaded")

    @rule(how=st.sampled_from(["copy", "deepcopy", "pickle", "state", "lists"]))
    def become_a_copy(self, how):
        old = self.running
        if how in ("copy", "deepcopy"):
            self.running = getattr(copy, how)(old)
        elif how == "pickle":
            self.running = pickle.loads(pickle.dumps(old))
        else:
            state = old.state_dict()
            if how == "lists":
                state = {name: np.asarray(value).tolist() for name, value in state.items()}
            self.running = self.kind()
            self.running.load_state_dict(state)
        old.update(np.full((2, FEATURES), 1e3))  # what one sees is not seen by the other

    @invariant()
    def equals_numpy_over_all_rows(self):
        if not self.begun:
            assert not np.any(self.running.count)
            return
        self.compare(tol("float64", kind="dx", n=len(self.rows), scale=1e3))


class Moments(Statistics):
    kind = nc.RunningMoments

    def compare(self, tolerance):
        for k in range(FEATURES):
            column = self.rows[:, k]
            there = ~np.isnan(column) & (self.weights > 0)
            x, w = column[there], self.weights[there]
            assert self.running.count[k] == w.sum()
            if not len(x):
                assert np.isnan([self.running.mean[k], self.running.var[k], self.running.min[k]]).all()
                continue
            mean = np.average(x, weights=w)
            np.testing.assert_allclose(self.running.mean[k], mean, **tolerance)
            np.testing.assert_allclose(self.running.var[k], np.average((x - mean) ** 2, weights=w), **tolerance)
            assert self.running.var[k] >= 0
            assert self.running.min[k] == x.min()
            assert self.running.max[k] == x.max()


class Covariance(Statistics):
    kind = nc.RunningCovariance

    def compare(self, tolerance):
        there = ~np.isnan(self.rows).any(axis=1) & (self.weights > 0)
        x, w = self.rows[there], self.weights[there]
        assert self.running.count == w.sum()
        if not len(x):
            assert np.isnan(self.running.cov).all()
            return
        mean = np.average(x, axis=0, weights=w)
        apart = x - mean
        np.testing.assert_allclose(self.running.mean, mean, **tolerance)
        np.testing.assert_allclose(self.running.cov, (apart * w[:, None]).T @ apart / w.sum(), **tolerance)


STEPS = settings(stateful_step_count=15)  # more sequences find more than longer ones
TestMoments, TestCovariance = Moments.TestCase, Covariance.TestCase
TestMoments.settings = TestCovariance.settings = STEPS
