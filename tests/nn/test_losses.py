"""BCEWithLogitsLoss, MSELoss and what all losses share: numbers by hand, formulas in float64, finite differences."""

from __future__ import annotations

import copy
import math
import re
import warnings
from typing import ClassVar

import numpy as np
import oracle
import pytest
from tolerances import tol

from normcore.nn import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss


class TestBCEWithLogits:
    def test_by_hand(self):
        criterion = BCEWithLogitsLoss("none", pos_weight=3)
        # p = 3/4 and 1/5
        x = np.log(np.array([3.0, 1 / 4]))
        np.testing.assert_allclose(criterion(x, [1, 0]), [3 * math.log(4 / 3), math.log(5 / 4)], rtol=1e-15)
        np.testing.assert_allclose(criterion.backward(), [-3 / 4, 1 / 5], rtol=1e-15)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize(
        "options", [{}, {"weight": [0.5, 1, 2.0]}, {"pos_weight": [3, 1, 0.25], "weight": [[2.0]]}]
    )
    def test_formula(self, rng, dtype, reduction, options):
        x, t = (3 * rng.normal(size=(4, 3))).astype(dtype), rng.uniform(size=(4, 3)).astype(dtype)
        wide = x.astype(np.float64)
        log_p, log_q = -np.log1p(np.exp(-wide)), -np.log1p(np.exp(wide))
        weight, positive = np.asarray(options.get("weight", 1)), np.asarray(options.get("pos_weight", 1))
        losses = -weight * (positive * t * log_p + (1.0 - t) * log_q)
        slope = weight * ((1.0 - t) * np.exp(log_p) - positive * t * np.exp(log_q))
        expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
        criterion = BCEWithLogitsLoss(reduction, **options)
        np.testing.assert_allclose(criterion(x, t), expected, **tol(dtype, 12, "dx"))
        dx = criterion.backward()
        assert dx.dtype == dtype
        np.testing.assert_allclose(dx, slope / 12 if reduction == "mean" else slope, **tol(dtype, 1, "dx", scale=4))

    def test_gradient(self, rng):
        x, t = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3))
        criterion, w = BCEWithLogitsLoss(pos_weight=[1, 2, 3], weight=0.7), rng.uniform(size=4)
        criterion(x, t, w)
        dx = criterion.backward()
        expected = oracle.fourth_order_gradient(lambda values: criterion(values, t, w), x)
        np.testing.assert_allclose(dx, expected, **tol(np.float64, kind="fd"))

    def test_huge_logits(self):
        criterion = BCEWithLogitsLoss("none")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            big = np.float32(1e38)
            np.testing.assert_array_equal(criterion(np.array([big, big, -big, -big]), [1, 0, 1, 0]), [0, big, big, 0])
            np.testing.assert_array_equal(criterion.backward(), [0, 1, -1, 0])

    @pytest.mark.parametrize(
        "target", [np.array([True, False]), np.array([1, 0]), np.array([1, 0], np.uint8), [1.0, 0]]
    )
    def test_any_kind_of_yes_and_no(self, target):
        criterion = BCEWithLogitsLoss("sum")
        assert criterion(np.array([0.0, 0.0], np.float32), target) == pytest.approx(2 * math.log(2), rel=1e-7)
        np.testing.assert_array_equal(criterion.backward(), np.array([-0.5, 0.5], np.float32))

    @pytest.mark.parametrize(
        ("options", "target", "error", "message"),
        [
            (
                {},
                np.zeros(3),
                ValueError,
                "target has shape (3,), but output has shape (3, 1); reshape it, target.resha",
            ),
            (
                {},
                np.zeros(2),
                ValueError,
                "target has shape (2,), but output has shape (3, 1); pass one value for each.",
            ),
            ({}, np.full((3, 1), 1.5), ValueError, "target must hold values from 0 to 1, but has others or NaN; pass "),
            ({}, np.full((3, 1), np.nan), ValueError, "target must hold values from 0 to 1, but has others or NaN; "),
            ({}, np.full((3, 1), "a"), TypeError, "target must be real numbers or booleans, got <U1; convert it with "),
            (
                {"pos_weight": [1.0, 2.0]},
                np.zeros((3, 1)),
                ValueError,
                "pos_weight has shape (2,), which does not broadcast to the output's (3, 1); pass one factor for each ",
            ),
        ],
    )
    def test_errors(self, options, target, error, message):
        with pytest.raises(error, match="^BCEWithLogitsLoss: " + re.escape(message)):
            BCEWithLogitsLoss(**options)(np.zeros((3, 1)), target)

    def test_wrong_options(self):
        with pytest.raises(ValueError, match="BCEWithLogitsLoss: pos_weight must be finite and not negative, but has"):
            BCEWithLogitsLoss(pos_weight=-1.0)
        assert repr(BCEWithLogitsLoss(pos_weight=[2])) == "BCEWithLogitsLoss(reduction='mean', pos_weight=[2.0])"


class TestMSE:
    def test_by_hand(self):
        criterion = MSELoss()
        assert criterion(np.array([[1.0, 2.0], [3.0, 6.0]]), [[1, 1], [1, 2]]) == (0 + 1 + 4 + 16) / 4
        np.testing.assert_array_equal(criterion.backward(), [[0, 0.5], [1, 2]])

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 4)])
    def test_formula(self, rng, dtype, reduction, shape):
        y, t = rng.normal(size=(2, *shape)).astype(dtype)
        criterion = MSELoss(reduction)
        loss = criterion(y, t)
        squares = (y.astype(np.float64) - t) ** 2
        expected = {"mean": squares.mean(), "sum": squares.sum(), "none": squares}[reduction]
        np.testing.assert_allclose(loss, expected, **tol(dtype, y.size))
        assert type(loss) is float or loss.dtype == dtype
        dy = criterion.backward()
        assert dy.dtype == dtype
        scale = 2 / y.size if reduction == "mean" else 2
        np.testing.assert_allclose(dy, scale * (y.astype(np.float64) - t), **tol(dtype))

    def test_gradient(self, rng):
        y, t = rng.normal(size=(2, 4, 3))
        criterion = MSELoss()
        criterion(y, t)
        dy = criterion.backward()
        expected = oracle.fourth_order_gradient(lambda values: criterion(values, t), y)
        np.testing.assert_allclose(dy, expected, **tol(np.float64, kind="fd"))

    def test_float16_does_not_overflow(self):
        criterion = MSELoss()
        assert criterion(np.full((2, 2), 1000, np.float16), np.zeros((2, 2))) == 1e6
        np.testing.assert_array_equal(criterion.backward(), np.full((2, 2), 500))

    @pytest.mark.parametrize(
        ("target", "error", "message"),
        [
            (
                np.zeros(3),
                ValueError,
                "target has shape (3,), but output has shape (3, 1); reshape it, target.reshape(3, 1).",
            ),
            (
                np.zeros((1, 1)),
                ValueError,
                "target has shape (1, 1), but output has shape (3, 1); pass one value for each.",
            ),
            (
                np.zeros((3, 1), complex),
                TypeError,
                "target must be real numbers, got complex128; convert it with astype(float).",
            ),
            (
                np.ma.zeros((3, 1)),
                TypeError,
                "target is a masked array, whose mask would be ignored; pass target.filled(value).",
            ),
        ],
    )
    def test_errors(self, target, error, message):
        with pytest.raises(error) as caught:
            MSELoss()(np.zeros((3, 1)), target)
        assert str(caught.value) == "MSELoss: " + message

    def test_nothing_has_no_mean_but_a_sum(self):
        with pytest.raises(ValueError, match="nothing has no mean"):
            MSELoss()(np.zeros((0, 1)), np.zeros((0, 1)))
        assert MSELoss("sum")(np.zeros((0, 1)), np.zeros((0, 1))) == 0


@pytest.mark.parametrize("kind", [CrossEntropyLoss, MSELoss, BCEWithLogitsLoss])
class TestEveryLoss:
    TARGETS: ClassVar = {
        CrossEntropyLoss: [0, 1],
        MSELoss: [[0.0, 1.0], [2.0, 3.0]],
        BCEWithLogitsLoss: [[0.0, 1.0], [0.25, 1.0]],
    }

    def test_reduction_is_checked(self, kind):
        message = f"{kind.__name__}: reduction must be one of 'mean', 'sum', 'none', got 'average'."
        with pytest.raises(ValueError, match=re.escape(message)):
            kind("average")
        assert kind().reduction == "mean"
        assert repr(kind("sum")) == f"{kind.__name__}(reduction='sum')"

    def test_backward_needs_a_loss(self, kind):
        with pytest.raises(RuntimeError, match=rf"{kind.__name__}.backward was called before the loss"):
            kind().backward()

    def test_backward_repeats_and_writes_nowhere(self, kind, rng):
        criterion = kind()
        output, target = rng.normal(size=(2, 2)), np.array(self.TARGETS[kind])
        output.flags.writeable = target.flags.writeable = False
        criterion(output, target)
        first = criterion.backward()
        np.testing.assert_array_equal(criterion.backward(), first)

    def test_a_refused_call_leaves_the_last_one(self, kind, rng):
        criterion = kind()
        criterion(rng.normal(size=(2, 2)), self.TARGETS[kind])
        first = criterion.backward()
        with pytest.raises(ValueError, match="target has shape"):
            criterion(rng.normal(size=(3, 2)), self.TARGETS[kind])
        np.testing.assert_array_equal(criterion.backward(), first)

    def test_a_copy_forgets_the_batch(self, kind, rng):
        criterion = kind("sum")
        criterion(rng.normal(size=(2, 2)), self.TARGETS[kind])
        twin = copy.deepcopy(criterion)
        assert twin.reduction == "sum"
        with pytest.raises(RuntimeError):
            twin.backward()


def test_a_loss_of_ones_own():
    class Absolute(Loss):
        def check_target(self, target, shape):
            return np.asarray(target).reshape(shape)

        def evaluate(self, output, target):
            self._saved = np.sign(output - target)
            return np.abs(output - target)

        def gradient(self, scale):
            return scale * self._saved

    criterion = Absolute()
    assert criterion(np.array([1.0, 5.0]), [0, 9]) == 2.5
    np.testing.assert_array_equal(criterion.backward(), [0.5, -0.5])
    for name, arguments in {"check_target": ([0], (1,)), "evaluate": ([0], [0]), "gradient": (1,)}.items():
        with pytest.raises(NotImplementedError, match=f"^Loss has no {name}"):
            getattr(Loss(), name)(*arguments)
