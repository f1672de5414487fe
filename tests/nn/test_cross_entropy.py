"""CrossEntropyLoss against hand-worked numbers, plain formulas in float64 and finite differences."""

from __future__ import annotations

import math
import re
from typing import ClassVar

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tolerances import tol

from normcore.nn import CrossEntropyLoss


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
