"""Every public name, every array that it takes, every hostile form: right, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
from hostile.arrays import FORMS, SAME, Unchanged, plain
from hostile.outcomes import Refusal, assert_same, outcome
from hostile.surface import CALLS, NO_ARRAYS, public_names
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tolerances import tol

# The backend of the fixture is the same for all examples.
ON_A_BACKEND = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
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


def try_forms(call, forms, tolerance):
    """Replace some arguments of a call by hostile forms of them: `forms` says which."""
    plain_values = call.make()
    forms = {name: form for name, form in forms.items() if form.fits(plain_values[name])}
    verdicts = {name: verdict_on(call, name, form) for name, form in forms.items()}
    hostile = {name: form.make(plain_values[name]) for name, form in forms.items()}
    expected, comparable = None, all(form.verdict != "refused" for form in forms.values())
    if comparable:
        copies = {
            name: None if value is None else plain(value, plain_values[name], swap=name not in call.anything)
            for name, value in hostile.items()
        }
        expected = outcome(call.run, **{**call.make(), **copies}, own_words=not call.scikit)
    arguments = {**call.make(), **hostile}
    written = {name: arguments[name].copy() for name in call.writes if isinstance(arguments.get(name), np.ndarray)}
    with Unchanged([value for name, value in arguments.items() if name not in call.writes]):
        got = outcome(call.run, **arguments, own_words=not call.scikit)
    if isinstance(got, Refusal):
        for name, before in written.items():
            np.testing.assert_array_equal(arguments[name], before, err_msg=f"{name} was written before the refusal")
        said = [word for name in forms for word in (name, *call.said.get(name, ()))]
        assert call.scikit or got.names(*said), f"the sentence does not name {said}: {got.sentence}"
        same = all(verdict == "same" for verdict in verdicts.values())
        assert not same or isinstance(expected, Refusal), f"refused: {got.sentence}"
        return
    assert "refused" not in verdicts.values(), "taken for an array of numbers"
    if comparable:
        assert not isinstance(expected, Refusal), f"taken, but its plain copy is refused: {expected.sentence}"
        assert_same(got, expected, **tolerance)


def tolerance_of(name):
    return tol("float64", kind="trajectory" if name in TRAINS else "dx", scale=10.0)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - set(TRAINS)))
def test_one_array_in_every_hostile_form(name):
    """The results are those of the plain copy, or none."""
    for call in CALLS[name]:
        for argument in call.reads:
            for form in FORMS:
                try:
                    try_forms(call, {argument: form}, tolerance_of(name))
                except BaseException as error:
                    error.args = (f"{argument} as {form.name}: {error}",)
                    raise


@st.composite
def hostile_calls(draw, names):
    """A call, and hostile forms of some of its arrays; more often than not of the kind that is right."""
    name = draw(st.sampled_from(names))
    number = draw(st.integers(0, len(CALLS[name]) - 1))
    call = CALLS[name][number]
    forms = {}
    for argument in call.reads:
        kinds = draw(st.sampled_from([(), SAME, SAME, FORMS]))
        if kinds:
            forms[argument] = draw(st.sampled_from(kinds))
    return name, number, forms


@given(hostile_calls(sorted(name for name in CALLS if CALLS[name][0].reads)))
def test_several_arrays_in_hostile_forms(drawn):
    name, number, forms = drawn
    try_forms(CALLS[name][number], forms, tolerance_of(name))


@given(hostile_calls(TRAINS))
def test_training_on_hostile_arrays(drawn):
    name, number, forms = drawn
    try_forms(CALLS[name][number], forms, tolerance_of(name))


@pytest.mark.usefixtures("backend")
@ON_A_BACKEND
@given(hostile_calls(sorted(name for name in CALLS if "norm" in name.lower() and CALLS[name][0].reads)))
@example(("BatchNorm1d", 0, {"x": next(form for form in FORMS if form.name == "float16")}))  # Numba names x
def test_norms_of_hostile_arrays_on_each_backend(drawn):
    name, number, forms = drawn
    try_forms(CALLS[name][number], forms, tolerance_of(name))
