"""Losses against hand-worked numbers, plain formulas in float64 and finite differences."""

from __future__ import annotations

import copy
import math
import re
import warnings
from typing import ClassVar

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tolerances import tol

from normcore.nn import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss


def log_softmax(z):
    z = np.asarray(z, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def probabilities(rng, shape):
    p = rng.uniform(size=shape)
    return p / p.sum(axis=1, keepdims=True)


class TestCrossEntropy:
    def test_by_hand(self):
        criterion = CrossEntropyLoss()
        # softmax (1/4, 3/4) and (1/2, 1/2)
        z = np.log(np.array([[1.0, 3.0], [5.0, 5.0]]))
        assert criterion(z, [0, 1]) == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-15)
        np.testing.assert_allclose(criterion.backward(), [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-14)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("soft", [False, True])
    def test_formula(self, rng, dtype, reduction, soft):
        z = (3 * rng.normal(size=(9, 5))).astype(dtype)
        t = probabilities(rng, (9, 5)).astype(dtype) if soft else rng.integers(5, size=9)
        dense = t.astype(np.float64) if soft else np.eye(5)[t]
        expected = -(dense * log_softmax(z)).sum(axis=1)
        criterion = CrossEntropyLoss(reduction)
        loss = criterion(z, t)
        dz = criterion.backward()
        slope = np.exp(log_softmax(z)) * dense.sum(axis=1, keepdims=True) - dense
        if reduction == "none":
            assert loss.dtype == dtype
        else:
            assert type(loss) is float
            expected = expected.mean() if reduction == "mean" else expected.sum()
            slope = slope / 9 if reduction == "mean" else slope
        np.testing.assert_allclose(loss, expected, **tol(dtype, 9, "dx", scale=8))
        assert dz.dtype == dtype
        np.testing.assert_allclose(dz, slope, **tol(dtype, 5, "dx"))

    @pytest.mark.parametrize("soft", [False, True])
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_gradient(self, rng, soft, reduction):
        z = rng.normal(size=(4, 3))
        t = rng.uniform(size=(4, 3)) if soft else rng.integers(3, size=4)  # rows need not add up to 1
        criterion = CrossEntropyLoss(reduction)
        criterion(z, t)
        dz = criterion.backward()
        expected = oracle.fourth_order_gradient(lambda values: criterion(values, t), z)
        np.testing.assert_allclose(dz, expected, **tol(np.float64, kind="fd"))

    @given(z=arrays(np.float64, (3, 4), elements=st.floats(-1e3, 1e3)), shift=st.floats(-1e6, 1e6))
    def test_laws(self, z, shift):
        criterion = CrossEntropyLoss()
        loss = criterion(z, [0, 1, 3])
        assert loss >= 0
        # a gradient row sums to zero, because adding a constant to the logits changes nothing
        np.testing.assert_allclose(criterion.backward().sum(axis=1), 0, atol=1e-15)
        assert criterion(z + shift, [0, 1, 3]) == pytest.approx(loss, rel=1e-9, abs=1e-8)
        assert criterion(z, np.eye(4)[[0, 1, 3]]) == pytest.approx(loss, rel=1e-13, abs=1e-13)

    def test_huge_logits(self):
        criterion = CrossEntropyLoss("none")
        big = np.float32(1e38)
        np.testing.assert_array_equal(criterion(np.array([[big, -big], [big, -big]]), [0, 1]), [0, np.float32(2e38)])
        np.testing.assert_array_equal(criterion.backward(), [[0, 0], [1, -1]])

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64, ">i4"])
    def test_any_integers(self, dtype):
        z = np.log(np.array([[1.0, 3.0], [5.0, 5.0]]))
        assert CrossEntropyLoss()(z, np.array([0, 1], dtype)) == CrossEntropyLoss()(z, [0, 1])

    def test_probabilities_of_another_dtype(self, rng):
        z, p = rng.normal(size=(4, 3)).astype(np.float32), probabilities(rng, (4, 3))
        criterion = CrossEntropyLoss()
        assert criterion(z, p) == pytest.approx(criterion(z, p.astype(np.float32)), rel=1e-6)
        assert criterion.backward().dtype == np.float32

    def test_probabilities_may_be_rounded(self):
        CrossEntropyLoss()(np.zeros((1, 2)), np.array([[1 + 1e-6, -1e-6]]))

    def test_the_sum_of_many_rows_is_accurate(self):
        z = np.zeros((200_000, 2), np.float32)
        assert CrossEntropyLoss()(z, np.zeros(len(z), int)) == pytest.approx(np.float32(math.log(2)), rel=1e-12)

    @pytest.mark.parametrize(
        ("output", "target", "error", "message"),
        [
            (np.zeros(3), [0], ValueError, "target has shape (1,), but output has shape (3,); pass integer classes"),
            (
                np.array(3.0),
                0,
                ValueError,
                "output must be logits of shape (N, C), (N, C, d1, ...) or (C,), got shape ()",
            ),
            (
                np.zeros((2, 0)),
                [0, 0],
                ValueError,
                "logits of shape (N, C), (N, C, d1, ...) or (C,), got shape (2, 0).",
            ),
            (np.zeros(0), 0, ValueError, "logits of shape (N, C), (N, C, d1, ...) or (C,), got shape (0,)."),
            (
                np.zeros((2, 3, 4)),
                np.zeros((2, 3), int),
                ValueError,
                "target has shape (2, 3), but output has shape (2, 3, 4); pass integer classes of shape (2, 4), or "
                "probabilities of the output's shape.",
            ),
            (
                np.zeros((2, 3, 4)),
                np.zeros((2, 4)),
                ValueError,
                "output has shape (2, 3, 4); integer classes of shape (2, 4) need an integer dtype, target.astype(int)",
            ),
            (
                np.zeros((2, 3, 1, 1)),
                [[[1]], [[3]]],
                ValueError,
                "target has classes from 1 to 3, but output has 3 columns, for classes 0 to 2; ",
            ),
            (np.zeros(3), 3, ValueError, "target has classes from 3 to 3, but output has 3 columns, "),
            (np.zeros(3), [0.5, 0.5], ValueError, "probabilities of shape (2,), but output has shape (3,)."),
            (np.zeros((2, 3), int), [0, 0], TypeError, "output must be float32, float64 or float16, got int64; "),
            ([[0.0]], [0], TypeError, "output must be a NumPy array, got list; "),
            (
                np.zeros((2, 3)),
                [0, 3],
                ValueError,
                "target has classes from 0 to 3, but output has 3 columns, for classes 0 to 2; ",
            ),
            (
                np.zeros((2, 3)),
                [-1, 0],
                ValueError,
                "target has classes from -1 to 0, but output has 3 columns, for classes 0 to 2; ",
            ),
            (
                np.zeros((2, 3)),
                np.array([0, 2**63], np.uint64),
                ValueError,
                "target has classes from 0 to 9223372036854775808, ",
            ),
            (
                np.zeros((2, 3)),
                [0],
                ValueError,
                "target has shape (1,), but output has 2 rows; pass one class for each row.",
            ),
            (np.zeros((2, 3)), np.zeros((2, 3), int), ValueError, "pass target.argmax(1) for one-hot rows."),
            (
                np.zeros((2, 3)),
                [0.0, 1.0],
                ValueError,
                "integer classes of shape (N,) need an integer dtype, target.astype(int).",
            ),
            (
                np.zeros((2, 3)),
                np.zeros((2, 2)),
                ValueError,
                "probabilities of shape (2, 2), but output has shape (2, 3).",
            ),
            (np.zeros((1, 2)), [[2.0, 0.0]], ValueError, "target must hold class probabilities from 0 to 1"),
            (np.zeros((1, 2)), [[-1.0, 0.0]], ValueError, "target must hold class probabilities from 0 to 1"),
            (np.zeros((1, 2)), [[math.nan, 0.0]], ValueError, "but has others or NaN; normalise its rows"),
            (
                np.zeros((2, 3)),
                ["a", "b"],
                TypeError,
                "got <U1; number the classes with np.unique(target, return_inverse=True)[1].",
            ),
            (np.zeros((2, 3)), [True, False], TypeError, "got bool; number the classes"),
            (np.zeros((2, 3)), np.ma.array([0, 1]), TypeError, "target is a masked array, whose mask would be ignored"),
            (
                np.zeros((0, 3)),
                np.zeros(0, int),
                ValueError,
                "output has shape (0, 3), and nothing has no mean; pass at least one row.",
            ),
        ],
    )
    def test_errors(self, output, target, error, message):
        with pytest.raises(error) as caught:
            CrossEntropyLoss()(output, target)
        assert str(caught.value).startswith("CrossEntropyLoss: ")
        assert message in str(caught.value)


class TestCrossEntropyOptions:
    WEIGHT: ClassVar = np.array([0.5, 2.0, 1.0, 0.25])

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("target", ["classes", "ignored", "probabilities"])
    @pytest.mark.parametrize("sampled", [False, True])
    def test_formula(self, rng, reduction, smoothing, weighted, target, sampled):
        z = 3 * rng.normal(size=(7, 4))
        classes, valid = rng.integers(4, size=7), np.ones(7)
        t = classes
        if target == "ignored":
            t, valid = np.where(np.arange(7) % 3 == 1, -100, classes), np.arange(7) % 3 != 1
        dense = probabilities(rng, (7, 4)) if target == "probabilities" else np.eye(4)[classes]
        t = dense if target == "probabilities" else t
        weight = self.WEIGHT if weighted else np.ones(4)
        sample = rng.uniform(size=7) if sampled else None
        w = np.ones(7) if sample is None else sample
        spread = ((1 - smoothing) * dense + smoothing / 4) * weight * valid[:, None] * w[:, None]
        losses = -(spread * log_softmax(z)).sum(axis=1)
        divisor = (w * (1 if target == "probabilities" else valid * weight[classes])).sum()
        expected = {"none": losses, "sum": losses.sum(), "mean": losses.sum() / divisor}[reduction]
        slope = np.exp(log_softmax(z)) * spread.sum(axis=1, keepdims=True) - spread
        slope = slope / divisor if reduction == "mean" else slope
        criterion = CrossEntropyLoss(reduction, weight=weight if weighted else None, label_smoothing=smoothing)
        np.testing.assert_allclose(criterion(z, t, sample), expected, **tol(np.float64, 7, "dx", scale=4))
        np.testing.assert_allclose(criterion.backward(), slope, **tol(np.float64, 7, "dx"))
        assert criterion.total_weight == pytest.approx(divisor, rel=1e-14)

    @pytest.mark.parametrize("ignore_index", [-100, 2, 9, -1])
    def test_ignored_rows_are_as_if_not_there(self, rng, ignore_index):
        z, t = rng.normal(size=(6, 4)), np.array([0, 1, 3, 0, 1, 3])
        criterion, plain = CrossEntropyLoss(ignore_index=ignore_index), CrossEntropyLoss()
        t[[1, 4]] = ignore_index
        z[1] = np.nan  # whatever is there
        keep = [0, 2, 3, 5]
        assert criterion(z, t) == pytest.approx(plain(z[keep], t[keep]), rel=1e-15)
        gradient = criterion.backward()
        np.testing.assert_array_equal(gradient[[1, 4]], 0)
        np.testing.assert_allclose(gradient[keep], plain.backward(), rtol=1e-14)
        # then a batch with none of them
        assert criterion(z[keep], t[keep]) == plain(z[keep], t[keep])
        np.testing.assert_array_equal(criterion.backward(), plain.backward())

    def test_classes_then_probabilities(self, rng):
        """What one call counted does not show in the next."""
        z, soft = rng.normal(size=(6, 4)), probabilities(rng, (6, 4))
        criterion = CrossEntropyLoss(weight=self.WEIGHT)
        fresh = criterion(z, soft)
        criterion(z, [0, 1, 2, 3, 0, -100])
        assert criterion(z, soft) == fresh
        assert criterion.total_weight == 6

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("target", ["classes", "ignored", "probabilities"])
    @pytest.mark.parametrize("sampled", [False, True])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_places_are_rows(self, rng, reduction, smoothing, weighted, target, sampled, dtype):
        """(N, C, d1, d2) is the loss of the N * d1 * d2 places as rows, weighted as their row is."""
        z, t = rng.normal(size=(5, 4, 2, 3)).astype(dtype), rng.integers(4, size=(5, 2, 3))
        if target == "ignored":
            t[0, 1, 2] = t[3] = -100
        if target == "probabilities":
            t = probabilities(rng, z.shape).astype(dtype)
        sample = rng.uniform(size=5) if sampled else None
        options = {"weight": self.WEIGHT if weighted else None, "label_smoothing": smoothing}
        criterion, rows = CrossEntropyLoss(reduction, **options), CrossEntropyLoss(reduction, **options)

        def as_rows(values):
            return np.ascontiguousarray(np.moveaxis(values, 1, -1)).reshape(-1, 4)

        for _ in range(2):  # the second one after a batch of another rank
            loss, dz = criterion(z, t, sample), criterion.backward()
            want = rows(
                as_rows(z), as_rows(t) if t.ndim == 4 else t.ravel(), None if sample is None else np.repeat(sample, 6)
            )
            np.testing.assert_allclose(np.ravel(loss), np.ravel(want), **tol(dtype, 30, "dx"))
            assert np.shape(loss) == ((5, 2, 3) if reduction == "none" else ())
            assert dz.shape == z.shape
            assert dz.dtype == z.dtype
            assert dz.flags.c_contiguous
            np.testing.assert_allclose(as_rows(dz), rows.backward(), **tol(dtype, 30, "dx"))
            np.testing.assert_array_equal(criterion.backward(), dz)
            assert criterion.total_weight == pytest.approx(rows.total_weight, rel=1e-12)
            criterion(np.zeros((2, 4), dtype), [0, 1])
            assert criterion.backward().shape == (2, 4)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("target", [2, np.int16(0), -100, np.array([0.1, 0.2, 0.3, 0.4])])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_a_single_row(self, rng, reduction, target, weighted):
        z, options = rng.normal(size=4), {"weight": self.WEIGHT if weighted else None, "label_smoothing": 0.1}
        criterion, row = CrossEntropyLoss(reduction, **options), CrossEntropyLoss(reduction, **options)
        loss, want = criterion(z, target), row(z[None], np.asarray(target)[None])
        assert np.shape(loss) == ()
        np.testing.assert_array_equal(loss, np.asarray(want).reshape(()))
        np.testing.assert_array_equal(criterion.backward(), row.backward()[0])
        with pytest.raises(ValueError, match=r"sample_weight is for rows, but output has shape \(4,\), a single one; "):
            criterion(z, target, [1.0, 1.0, 1.0, 1.0])

    def test_rows_without_places(self):
        criterion = CrossEntropyLoss("none")
        assert criterion(np.zeros((2, 3, 0)), np.zeros((2, 0), int)).shape == (2, 0)
        assert criterion.backward().shape == (2, 3, 0)
        with pytest.raises(ValueError, match="nothing has no mean"):
            CrossEntropyLoss()(np.zeros((2, 3, 0)), np.zeros((2, 0), int))

    def test_a_target_that_was_checked_may_change(self, rng):
        z, t = rng.normal(size=(3, 4)), np.array([0, 1, 3])
        criterion = CrossEntropyLoss()
        criterion.check_target(t, z.shape)
        t[1] = -100
        assert criterion(z, t) == CrossEntropyLoss()(z[[0, 2]], t[[0, 2]])

    def test_when_all_is_ignored_there_is_no_mean(self):
        criterion = CrossEntropyLoss()
        assert math.isnan(criterion(np.zeros((2, 3)), [-100, -100]))
        np.testing.assert_array_equal(criterion.backward(), np.zeros((2, 3)))
        assert CrossEntropyLoss("sum")(np.zeros((2, 3)), [-100, -100]) == 0

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            (
                {"weight": [1.0, -1.0]},
                ValueError,
                "weight must be finite and not negative, but has other values or NaN",
            ),
            ({"weight": [[1.0]]}, ValueError, "weight must have one entry for each class, got shape (1, 1)."),
            ({"weight": ["a"]}, TypeError, "weight must be an array of real numbers, got ['a']."),
            ({"ignore_index": 1.0}, TypeError, "ignore_index must be an int, got 1.0."),
            ({"ignore_index": True}, TypeError, "ignore_index must be an int, got True."),
            ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be in [0, 1], got 1.5."),
            ({"label_smoothing": "x"}, TypeError, "label_smoothing must be a number, got 'x'."),
            (
                {"reduction": np.ones(3)},
                ValueError,
                "reduction must be one of 'mean', 'sum', 'none', got an ndarray of shape (3,).",
            ),
        ],
    )
    def test_wrong_options(self, options, error, message):
        with pytest.raises(error, match="^CrossEntropyLoss: " + re.escape(message)):
            CrossEntropyLoss(**options)

    def test_options_that_do_not_fit_the_batch(self):
        with pytest.raises(
            ValueError, match="weight has 2 entries, but output has 3 columns; pass one weight for each"
        ):
            CrossEntropyLoss(weight=[1, 2])(np.zeros((1, 3)), [0])
        with pytest.raises(ValueError, match="ignore_index=0 is for integer classes, but target has probabilities"):
            CrossEntropyLoss(ignore_index=0)(np.zeros((1, 2)), [[0.5, 0.5]])
        with pytest.raises(ValueError, match="target has classes from 0 to 3, but output has 3 columns"):
            CrossEntropyLoss()(np.zeros((3, 3)), [-100, 0, 3])

    def test_repr(self):
        criterion = CrossEntropyLoss("sum", weight=[1, 2], ignore_index=-1, label_smoothing=0.1)
        shown = "CrossEntropyLoss(reduction='sum', weight=[1.0, 2.0], ignore_index=-1, label_smoothing=0.1)"
        assert repr(criterion) == shown


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "shape"), [(CrossEntropyLoss, (6, 3)), (MSELoss, (6,)), (MSELoss, (6, 2, 4)), (BCEWithLogitsLoss, (6, 2))]
)
class TestSampleWeight:
    WEIGHT: ClassVar = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25])

    @staticmethod
    def batch(rng, kind, shape, dtype):
        target = rng.integers(3, size=6) if kind is CrossEntropyLoss else rng.uniform(size=shape)
        return rng.normal(size=shape).astype(dtype), target

    def test_formula(self, rng, kind, shape, dtype):
        output, target = self.batch(rng, kind, shape, dtype)
        plain = kind("none")
        losses = plain(output, target).astype(np.float64)
        slopes = plain.backward().astype(np.float64)
        w = self.WEIGHT.reshape(-1, *[1] * (losses.ndim - 1))
        divisor = self.WEIGHT.sum() * (losses.size / 6)
        for reduction, expected, scale in (
            ("none", w * losses, 1),
            ("sum", (w * losses).sum(), 1),
            ("mean", (w * losses).sum() / divisor, 1 / divisor),
        ):
            criterion = kind(reduction)
            np.testing.assert_allclose(criterion(output, target, self.WEIGHT), expected, **tol(dtype, 6, "dx"))
            slope = scale * self.WEIGHT.reshape(-1, *[1] * (output.ndim - 1)) * slopes
            gradient = criterion.backward()
            assert gradient.dtype == dtype
            np.testing.assert_allclose(gradient, slope, **tol(dtype, 6, "dx"))
            assert criterion.total_weight == pytest.approx(divisor, rel=1e-15)

    def test_whole_numbers_count_rows_several_times(self, rng, kind, shape, dtype):
        output, target = self.batch(rng, kind, shape, dtype)
        times = np.array([1, 0, 2, 3, 1, 1])
        criterion = kind()
        weighted = criterion(output, target, times)
        repeated = kind()(np.repeat(output, times, axis=0), np.repeat(target, times, axis=0))
        assert weighted == pytest.approx(repeated, rel=tol(dtype, 8, "dx")["rtol"])

    def test_the_next_call_without_weights_forgets_them(self, rng, kind, shape, dtype):
        output, target = self.batch(rng, kind, shape, dtype)
        criterion = kind()
        before, gradient = criterion(output, target), criterion.backward()
        criterion(output, target, self.WEIGHT)
        assert criterion(output, target) == before
        np.testing.assert_array_equal(criterion.backward(), gradient)

    def test_where_no_row_counts(self, rng, kind, shape, dtype):
        criterion = kind()
        assert criterion(*self.batch(rng, kind, shape, dtype), np.zeros(6)) == 0.0
        np.testing.assert_array_equal(criterion.backward(), np.zeros(shape))
        assert criterion.total_weight == 0.0

    def test_errors(self, rng, kind, shape, dtype):
        output, target = self.batch(rng, kind, shape, dtype)
        name = kind.__name__
        for weight, error, message in (
            (
                np.ones(5),
                ValueError,
                f"{name}: sample_weight has shape (5,), but output has shape {shape}; pass one weight for each row, an "
                "array of shape (6,).",
            ),
            (
                np.ones((6, 1)),
                ValueError,
                f"{name}: sample_weight has shape (6, 1), but output has shape {shape}; pass one weight for each row, "
                "sample_weight.reshape(6).",
            ),
            (-self.WEIGHT, ValueError, f"{name}: sample_weight must be finite and not negative, but has other "),
            (self.WEIGHT * np.nan, ValueError, f"{name}: sample_weight must be finite and not negative, but has other"),
            (self.WEIGHT * 1j, TypeError, f"{name}: sample_weight must be real numbers, got complex128; convert it "),
            (np.ma.array(self.WEIGHT), TypeError, f"{name}: sample_weight is a masked array, whose mask would be "),
        ):
            with pytest.raises(error, match="^" + re.escape(message)):
                kind()(output, target, weight)


def test_an_output_without_rows_takes_no_sample_weight():
    with pytest.raises(ValueError, match=r"output has shape \(\); leave it out, there are no rows to weight\.$"):
        MSELoss()(np.array(1.0), 0.0, [1.0])


def test_tiny_sample_weights_do_not_overflow_in_float16():
    criterion = MSELoss()
    criterion(np.ones((2, 1), np.float16), np.zeros((2, 1)), np.full(2, 1e-8))
    np.testing.assert_array_equal(criterion.backward(), np.ones((2, 1)))
