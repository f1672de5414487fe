"""Every public name, every array that it takes, every hostile form: right, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from hostile.arrays import FORMS, Unchanged, plain
from hostile.outcomes import Refusal, assert_same, outcome
from hostile.surface import CALLS, NO_ARRAYS, public_names
from tolerances import tol

# scikit-learn takes dates and records for numbers, words for classes, and no matrix
SCIKITS_OWN = ("matrix", "dates", "structured", "strings", "mask unseen")
TRAINS = ("Trainer", "MLPClassifier", "MLPRegressor")  # steps amplify what another layout rounds otherwise


def test_every_public_name_has_its_calls_or_a_reason():
    names = public_names()
    assert names - CALLS.keys() - NO_ARRAYS.keys() == set(), "give them calls in surface.py"
    assert CALLS.keys() | NO_ARRAYS.keys() == names, "surface.py has names that are not public"
    assert not CALLS.keys() & NO_ARRAYS.keys()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_plain_calls_are_not_refused(name):
    for call in CALLS[name]:
        arguments = call.make()
        assert set(call.reads) <= arguments.keys()
        assert not isinstance(outcome(call.run, **arguments), Refusal)


def verdict_on(call, argument, form):
    """What the form must come to as this argument."""
    lenient = argument in call.anything or (call.scikit and form.name in SCIKITS_OWN)
    return "either" if lenient else form.verdict


def try_form(call, argument, form, tolerance):
    """Replace one argument of a call by a hostile form of it; return whether it was taken."""
    values = call.make()[argument]
    if not form.fits(values):
        return None
    verdict, hostile = verdict_on(call, argument, form), form.make(values)
    expected = None
    if form.verdict != "refused":
        copy = None if hostile is None else plain(hostile, values, swap=argument not in call.anything)
        expected = outcome(call.run, **{**call.make(), argument: copy}, own_words=not call.scikit)
    arguments = {**call.make(), argument: hostile}
    written = {name: arguments[name].copy() for name in call.writes if isinstance(arguments.get(name), np.ndarray)}
    with Unchanged([value for name, value in arguments.items() if name not in call.writes]):
        got = outcome(call.run, **arguments, own_words=not call.scikit)
    if isinstance(got, Refusal):
        for name, before in written.items():
            np.testing.assert_array_equal(arguments[name], before, err_msg=f"{name} was written before the refusal")
        said = (argument, *call.said.get(argument, ()))
        assert call.scikit or got.names(*said), f"the sentence does not name {said}: {got.sentence}"
        assert verdict != "same" or isinstance(expected, Refusal), f"refused: {got.sentence}"
        return False
    assert verdict != "refused", "taken for an array of numbers"
    if form.verdict != "refused":
        assert not isinstance(expected, Refusal), f"taken, but its plain copy is refused: {expected.sentence}"
        assert_same(got, expected, **tolerance)
    return True


@pytest.mark.parametrize("name", sorted(CALLS))
def test_arrays_in_hostile_forms(name):
    """All forms of all arguments; the results are those of the plain copy, or none."""
    tolerance = tol("float64", kind="trajectory" if name in TRAINS else "dx", scale=10.0)
    for call in CALLS[name]:
        for argument in call.reads:
            for form in FORMS:
                try:
                    try_form(call, argument, form, tolerance)
                except BaseException as error:
                    error.args = (f"{argument} as {form.name}: {error}",)
                    raise
