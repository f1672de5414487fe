"""Arrays of a call that share memory: refused where one of them is written, right where all are read."""

from __future__ import annotations

import numpy as np
import pytest
from hostile.outcomes import Refusal, assert_same, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from norms import SMALL
from tolerances import tol

import normcore as nc

pytestmark = pytest.mark.usefixtures("backend")
# The backend of the fixture is the same for all examples.
ON_A_BACKEND = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
TOLERANCE = tol("float64", kind="dx", scale=10.0)
VALUES = 4096  # of the memory that all arrays of a call are views of


@st.composite
def views(draw, shape):
    """Where an array of a shape lies in the memory: its first value and its strides, in values."""
    order = draw(st.permutations(range(len(shape))))
    steps, reach = [0] * len(shape), 1
    for axis in order:
        steps[axis] = reach * draw(st.sampled_from([1, 1, 1, 2]))
        reach += steps[axis] * (shape[axis] - 1)
    spare = VALUES - reach
    start = draw(st.integers(0, min(spare, 40)) | st.integers(0, spare))
    for axis, n in enumerate(shape):
        if draw(st.integers(0, 5)) == 0:  # the other way round
            start, steps[axis] = start + steps[axis] * (n - 1), -steps[axis]
    return start, tuple(steps)


def view(memory, where, shape):
    start, steps = where
    strides = [step * memory.itemsize for step in steps]
    return np.lib.stride_tricks.as_strided(memory[start:], shape, strides)


def touched(where, shape):
    """The numbers of the values that a view is made of."""
    start, steps = where
    index = np.indices(shape).reshape(len(shape), -1) if shape else np.zeros((0, 1), int)
    return start + (np.array(steps)[:, None] * index).sum(axis=0)


def share(a, b):
    return bool(np.intersect1d(a, b).size)


@st.composite
def calls(draw):
    norm = draw(st.sampled_from(SMALL))
    names = ["x", "weight", "bias"] if norm.has_bias else ["x", "weight"]
    shapes = {"x": norm.shape, "weight": norm.parameter_shape, "bias": norm.parameter_shape}
    names += ["out"]
    shapes["out"] = norm.shape
    if norm.name in ("batch", "instance") and draw(st.booleans()):
        names += ["running_mean", "running_var"]
        shapes |= dict.fromkeys(("running_mean", "running_var"), norm.parameter_shape)
    places = {name: draw(views(shapes[name])) for name in names}
    if draw(st.booleans()):
        places["out"] = places["x"]
    return norm, {name: shapes[name] for name in names}, places


def forward(norm, arrays):
    kwargs = dict(arrays)
    told = [kwargs.pop("x"), *norm.told]
    y, ctx = getattr(nc, f"{norm.name}_norm_forward")(*told, **kwargs)
    return y, ctx.mean, ctx.rstd


@ON_A_BACKEND
@given(call=calls(), seed=st.integers(0, 99))
def test_forward_on_views_of_one_memory(call, seed):
    norm, shapes, places = call
    memory = np.random.default_rng(seed).uniform(0.5, 2.0, VALUES)
    before = memory.copy()
    arrays = {name: view(memory, places[name], shape) for name, shape in shapes.items()}
    copies = {name: array.copy() for name, array in arrays.items()}
    values = {name: touched(places[name], shape) for name, shape in shapes.items()}
    written = [name for name in ("out", "running_mean", "running_var") if name in arrays]
    clash = [
        (a, b)
        for a in written
        for b in arrays
        if a != b and share(values[a], values[b]) and not ({a, b} == {"out", "x"} and places[a] == places[b])
    ]
    got = outcome(forward, norm, arrays)
    if isinstance(got, Refusal):
        assert clash, f"refused without a reason: {got.sentence}"
        assert any(got.names(a) and got.names(b) for a, b in clash), got.sentence
        np.testing.assert_array_equal(memory, before, err_msg="written before the refusal")
        return
    expected = forward(norm, copies)
    assert not clash, f"{clash} share memory, and nothing was said"
    assert got[0] is arrays["out"]
    assert_same((arrays["out"].copy(), *got[1:]), (copies["out"], *expected[1:]), **TOLERANCE)
    for name in written:
        np.testing.assert_allclose(arrays[name], copies[name], **TOLERANCE)
    elsewhere = np.setdiff1d(np.arange(VALUES), np.concatenate([values[name] for name in written]))
    np.testing.assert_array_equal(memory[elsewhere], before[elsewhere], err_msg="written beside the arrays")


@st.composite
def gradients(draw):
    norm = draw(st.sampled_from(SMALL))
    places = {name: draw(views(norm.shape)) for name in ("x", "dy", "out")}
    places["weight"] = draw(views(norm.parameter_shape))
    if draw(st.booleans()):
        places["out"] = places["dy"]
    return norm, places


@ON_A_BACKEND
@given(call=gradients(), seed=st.integers(0, 99))
def test_backward_on_views_of_one_memory(call, seed):
    norm, places = call
    memory = np.random.default_rng(seed).uniform(0.5, 2.0, VALUES)
    shapes = {name: norm.parameter_shape if name == "weight" else norm.shape for name in places}
    arrays = {name: view(memory, places[name], shape) for name, shape in shapes.items()}
    copies = {name: array.copy() for name, array in arrays.items()}
    values = {name: touched(places[name], shape) for name, shape in shapes.items()}
    clash = [
        name
        for name in ("x", "dy", "weight")
        if share(values["out"], values[name]) and not (name == "dy" and places["dy"] == places["out"])
    ]
    ctx = norm.forward(arrays["x"], arrays["weight"])[1]
    before = memory.copy()
    got = outcome(norm.backward, arrays["dy"], ctx, out=arrays["out"])
    if isinstance(got, Refusal):
        assert clash, f"refused without a reason: {got.sentence}"
        assert got.names("out"), got.sentence
        np.testing.assert_array_equal(memory, before, err_msg="written before the refusal")
        return
    expected = norm.backward(copies["dy"], norm.forward(copies["x"], copies["weight"])[1])
    assert not clash, f"out shares memory with {clash}, and nothing was said"
    assert got[0] is arrays["out"]
    assert_same((got[0].copy(), *got[1:]), expected, **TOLERANCE)
    elsewhere = np.setdiff1d(np.arange(VALUES), values["out"])
    np.testing.assert_array_equal(memory[elsewhere], before[elsewhere], err_msg="written beside out")


@pytest.mark.parametrize("kind", [np.matrix, np.recarray, np.ndarray])
def test_out_of_a_subclass_is_written_and_returned(kind):
    x = np.random.default_rng(0).standard_normal((5, 4))
    for out in (np.empty((5, 4)).view(kind), np.empty((4, 5)).T.view(kind), np.empty((10, 8))[::2, ::2].view(kind)):
        y = nc.batch_norm(x, training=True, out=out)
        assert y is out
        np.testing.assert_allclose(np.asarray(y), nc.batch_norm(x, training=True), **TOLERANCE)
        assert nc.batch_norm_backward(x, nc.batch_norm_forward(x)[1], out=out)[0] is out


def test_out_that_no_result_fits():
    x = np.ones((5, 4))
    x[0] = 2.0
    for wrong, kind in [
        (np.empty((4, 5)), ValueError),
        (np.empty((5, 4), np.float32), TypeError),
        (np.empty((5, 4), ">f8"), TypeError),
        (np.broadcast_to(np.empty(4), (5, 4)), ValueError),
        (np.ma.masked_array(np.empty((5, 4))), TypeError),
        ([[0.0] * 4] * 5, TypeError),
        (np.empty((5, 4), object), TypeError),
    ]:
        running = np.zeros(4), np.ones(4)
        for call in (
            lambda out, running=running: nc.batch_norm(x, *running, training=True, out=out),
            lambda out: nc.layer_norm(x, 4, out=out),
            lambda out: nc.batch_norm_backward(x, nc.batch_norm_forward(x)[1], out=out),
        ):
            got = outcome(call, wrong)
            assert got.kind is kind
            assert got.names("out")
        assert (running[0] == 0).all()
        assert (running[1] == 1).all()


def test_a_context_that_was_tampered_with_is_refused():
    x = np.random.default_rng(0).standard_normal((5, 4))
    for name, value in [
        ("mean", np.zeros(1)), ("rstd", np.zeros(3)), ("rstd", np.ones(4, np.float32)), ("mean", [0.0] * 4),
        ("x", np.zeros((5, 3))), ("x", x.astype(np.float32)), ("weight", np.ones(2)), ("x", None),
        ("weight", [1.0] * 4), ("weight", np.ones(4, complex)), ("weight", np.ones(4, object)), ("bias_dtype", 5),
        ("bias_dtype", np.dtype("O")),
    ]:  # fmt: skip
        ctx = nc.batch_norm_forward(x, np.ones(4))[1]
        setattr(ctx, name, value)
        got = outcome(nc.batch_norm_backward, x, ctx)
        assert isinstance(got, Refusal), name
        assert got.names("ctx")
