"""Gradients that somebody has set: what cannot be stepped or clipped is told before anything is written."""

from __future__ import annotations

import re
import signal

import numpy as np
import pytest

from normcore.nn import Parameter
from normcore.optim import SGD, clip_grad_norm_


def parameter(grad, data=None):
    param = Parameter(np.ones((2, 3)))
    if data is not None:
        param.data = data
    param.grad = grad
    return param


def read_only(array):
    array.flags.writeable = False
    return array


def step(params):
    SGD(params, lr=0.5).step()


WHERE = "a parameter of shape (2, 3) has a grad "
OF_ALL = [
    ([[1.0] * 3] * 2, TypeError, "of [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]; set grad to a NumPy array of the shape"),
    (np.ma.ones((2, 3)), TypeError, "that is a masked array; set grad to a NumPy array of the shape of data"),
    (np.ones((2, 3), int), TypeError, "of int64; set grad to floating point, such as grad.astype(np.float32)."),
    (np.ones((2, 3), complex), TypeError, "of complex128; set grad to floating point"),
    (np.ones((3, 2)), ValueError, "of shape (3, 2); set grad to an array of the shape of data."),
]  # fmt: skip
OF_CLIPPING = [
    (read_only(np.ones((2, 3))), ValueError, "that is read-only; set grad to a copy of it."),
    (np.broadcast_to(1.0, (2, 3)), ValueError, "that is read-only; set grad to a copy of it."),
    (
        np.lib.stride_tricks.as_strided(np.ones(3), (2, 3), (0, 8)), ValueError,
        "whose elements share memory (a broadcast view); set grad to a copy of it.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("grad", "kind", "message"), OF_ALL)
def test_a_step_and_clipping_refuse_what_is_no_gradient(grad, kind, message):
    before = parameter(np.full((2, 3), 2.0))
    for name, call in (("SGD.step", step), ("clip_grad_norm_", lambda params: clip_grad_norm_(params, 1.0))):
        with pytest.raises(kind, match="^" + re.escape(f"{name}: {WHERE}{message}")):
            call([before, parameter(grad)])
        np.testing.assert_array_equal(before.data, np.ones((2, 3)))
        np.testing.assert_array_equal(before.grad, np.full((2, 3), 2.0))


@pytest.mark.parametrize(("grad", "kind", "message"), OF_CLIPPING)
def test_clipping_refuses_what_it_cannot_write_to(grad, kind, message):
    before = parameter(np.full((2, 3), 2.0))
    with pytest.raises(kind, match="^" + re.escape(f"clip_grad_norm_: {WHERE}{message}")):
        clip_grad_norm_([before, parameter(grad)], 1.0)
    np.testing.assert_array_equal(before.grad, np.full((2, 3), 2.0))
    param = parameter(grad)
    step([param])  # which only reads it
    np.testing.assert_array_equal(param.data, np.full((2, 3), 0.5))


def test_a_step_refuses_data_that_it_cannot_write_to():
    where = "SGD.step: a parameter of shape (2, 3) has "
    shared = np.ones((2, 3))
    for param, message in (
        (
            parameter(np.ones((2, 3)), read_only(np.ones((2, 3)))),
            "data that is read-only; set data to a copy of it, or",
        ),
        (
            parameter(np.ones((2, 3)), np.lib.stride_tricks.as_strided(np.ones(3), (2, 3), (0, 8))),
            "data whose elements share memory (a broadcast view); set data to a copy of it.",
        ),
        (parameter(shared, shared), "a grad that shares memory with its data; set grad to a copy."),
        (parameter(shared[:, ::-1], shared), "a grad that shares memory with its data; set grad to a copy."),
    ):
        before = parameter(np.ones((2, 3)))
        with pytest.raises(ValueError, match="^" + re.escape(where + message)):
            step([before, param])
        np.testing.assert_array_equal(before.data, np.ones((2, 3)))


def test_a_gradient_of_a_subclass_is_its_values():
    """Whose products may be others: np.matrix multiplies as matrices do."""
    values = np.arange(9.0).reshape(3, 3)
    param = Parameter(np.zeros((3, 3)))
    param.grad = values.copy().view(np.matrix)
    assert clip_grad_norm_([param], 1e9) == pytest.approx(np.sqrt((values**2).sum()), rel=1e-15)
    SGD([param], lr=1.0, momentum=0.5).step()
    np.testing.assert_array_equal(np.asarray(param.data), -values)
    assert type(param.data) is np.ndarray


@pytest.mark.parametrize(
    ("order", "shown"),
    [
        (3, None),
        (10**400, "an int of 1329 bits"),
        (-(10**400), "an int of 1329 bits"),
        (0, "0"),
        ("2", "'2'"),
        (np.nan, "nan"),
        (np.timedelta64(2, "Y"), repr(np.timedelta64(2, "Y"))),  # float() takes it for 2.0
    ],
)
def test_the_order_of_a_norm(order, shown):
    param = parameter(np.full((2, 3), 2.0))
    if shown is None:  # the cube root of 6 cubes of 2
        assert clip_grad_norm_([param], 100.0, norm_type=order) == pytest.approx(48 ** (1 / 3), rel=1e-15)
        return
    message = f"clip_grad_norm_: norm_type must be above 0, or inf, got {shown}."
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        clip_grad_norm_([param], 100.0, norm_type=order)
    np.testing.assert_array_equal(param.grad, np.full((2, 3), 2.0))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timers")
def test_ctrl_c_leaves_all_gradients_scaled_or_none():
    params = [parameter(None, np.ones(300_000)) for _ in range(6)]
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for moment in range(1, 30):
            for param in params:
                param.grad = np.ones(300_000)
            try:
                signal.setitimer(signal.ITIMER_REAL, moment / 5000)
                clip_grad_norm_(params, 1.0)
            except KeyboardInterrupt:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert len({float(param.grad[-1]) for param in params}) == 1
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("order", [1, 2, 3, np.inf])
def test_the_norm_of_zeros_is_zero(order):
    param = parameter(np.zeros((2, 3)))
    assert clip_grad_norm_([param], 1.0, norm_type=order, error_if_nonfinite=True) == 0.0
    np.testing.assert_array_equal(param.grad, np.zeros((2, 3)))
