"""Gradients of layers and networks against finite differences."""

from __future__ import annotations

import numpy as np
import oracle
from tolerances import tol


def check_gradients(model, x, dy):
    """Every gradient of <model(x), dy> against fourth-order differences. Float64; the mode is the model's."""

    def objective(_):
        return float(np.vdot(model(x), dy))

    model(x)
    dx = model.backward(dy)
    gradients = [(p, p.grad.copy()) for p in model.parameters()]
    buffers = [(b, b.copy()) for b in model.buffers()]

    def difference(array):
        # fourth_order_gradient works on a copy: write it into the model's own array
        own = array.copy()

        def f(values):
            array[...] = values
            for buffer, value in buffers:  # statistics that move must not show
                buffer[...] = value
            return objective(None)

        result = oracle.fourth_order_gradient(f, own)
        array[...] = own
        return result

    np.testing.assert_allclose(dx, difference(x), **tol(x.dtype, kind="fd", scale=np.abs(dx).max()))
    for p, grad in gradients:
        np.testing.assert_allclose(grad, difference(p.data), **tol(x.dtype, kind="fd", scale=np.abs(grad).max() + 1))
