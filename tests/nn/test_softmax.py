"""The compiled cross-entropy beside NumPy's, and what it has to leave to NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

from normcore import nn
from normcore.nn import cross_entropy as module

pytestmark = pytest.mark.skipif(module._softmax is None, reason="the loss is not compiled here")


class WithoutCompiled(nn.CrossEntropyLoss):
    """As it is where nothing is compiled."""

    def evaluate(self, output, target):
        compiled, module._softmax = module._softmax, None
        try:
            return super().evaluate(output, target)
        finally:
            module._softmax = compiled

    def gradient(self, scale):
        compiled, module._softmax = module._softmax, None
        try:
            return super().gradient(scale)
        finally:
            module._softmax = compiled


def both(output, target, reduction="mean", sample_weight=None):
    found = []
    for kind in (nn.CrossEntropyLoss, WithoutCompiled):
        criterion = kind(reduction)
        found.append((criterion(output, target, sample_weight), criterion.backward()))
    return found


def is_compiled(output, target):
    return module._softmax.losses(output, target) is not None


@given(
    rows=st.integers(1, 40), classes=st.integers(1, 40), seed=st.integers(0, 99), scale=st.sampled_from([0.1, 3, 300]),
    dtype=st.sampled_from([np.float32, np.float64]), reduction=st.sampled_from(["mean", "sum", "none"]),
    weighted=st.booleans(),
)  # fmt: skip
def test_the_same_as_numpy(rows, classes, seed, scale, dtype, reduction, weighted):
    rng = np.random.default_rng(seed)
    output = (rng.normal(size=(rows, classes)) * scale).astype(dtype)
    target = rng.integers(classes, size=rows)
    assert is_compiled(output, target)
    weight = rng.uniform(size=rows) + 0.1 if weighted else None
    (loss, dy), (want, wanted) = both(output, target, reduction, weight)
    assert dy.dtype == dtype
    magnitude = max(1.0, float(np.abs(output).max())) * (rows if reduction == "sum" else 1)
    np.testing.assert_allclose(loss, want, **tol(dtype, classes, "dx", scale=magnitude))
    np.testing.assert_allclose(dy, wanted, **tol(dtype, classes, "dx"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_by_hand(dtype):
    output = np.log(np.array([[1, 2, 1], [3, 3, 6]], dtype))
    criterion = nn.CrossEntropyLoss("sum")
    assert criterion(output, np.array([1, 2])) == pytest.approx(np.log(2) + np.log(2), rel=1e-6)
    np.testing.assert_allclose(
        criterion.backward(), [[0.25, -0.5, 0.25], [0.25, 0.25, -0.5]], **tol(dtype, 3, "dx")
    )  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_stays_in_its_row(bad, column, dtype):
    output = np.ones((3, 4), dtype)
    output[1, column] = bad
    with np.errstate(all="ignore"):
        (loss, dy), (want, wanted) = both(output, np.array([0, 1, 2]), "none")
    np.testing.assert_allclose(loss, want, **tol(dtype, 4, "dx"))
    np.testing.assert_allclose(dy, wanted, **tol(dtype, 4, "dx"))
    assert np.isfinite(loss[[0, 2]]).all()


def test_what_is_left_to_numpy():
    output, target = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])
    assert is_compiled(output, target)
    read_only = output.copy()
    read_only.flags.writeable = False
    assert is_compiled(read_only, target)
    for one, other in [
        (output.astype(np.float16), target), (np.asfortranarray(output), target), (output[::2], target[::2]),
        (output.astype(output.dtype.newbyteorder()), target), (output, target.astype(np.int16)),
        (output, np.array([0, 1, 2, 3])), (output, np.array([0, 1, -1, 0])), (output, target[:3]),
        (np.zeros((200, 100), np.float32), np.zeros(200, int)), (np.zeros((4, 0), np.float32), target),
        (output, np.zeros((4, 3))), (output, np.zeros((4, 1), int)),
    ]:  # fmt: skip
        assert not is_compiled(one, other)
    for awkward in (np.asfortranarray(output + np.arange(3, dtype=np.float32)), np.zeros((200, 100), np.float32)):
        classes = np.arange(len(awkward)) % 3
        (loss, dy), (want, wanted) = both(awkward, classes)
        assert loss == want
        np.testing.assert_allclose(dy, wanted, **tol(np.float32, 3, "dx"))


def test_a_target_changed_between_forward_and_backward_is_no_wild_write():
    output, target = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])
    criterion = nn.CrossEntropyLoss()
    criterion(output, target)
    target[:] = 10**12
    with pytest.raises(IndexError):
        criterion.backward()
