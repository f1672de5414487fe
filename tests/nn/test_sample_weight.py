"""Weights of the rows in every loss."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
import pytest
from tolerances import tol

from normcore.nn import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss


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


# Some beyond float32 or subnormal there, the first and last near the ends of float64.
UNITS = [2.0**e for e in (-1060, -700, -170, -148, -127, 100, 127, 130, 700, 1020)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", [CrossEntropyLoss, MSELoss, BCEWithLogitsLoss])
def test_a_mean_does_not_depend_on_the_unit_of_the_weights(rng, kind, dtype, unit):
    output = rng.normal(size=(3, 2)).astype(dtype)
    target = rng.integers(2, size=3) if kind is CrossEntropyLoss else rng.uniform(size=(3, 2))
    w = np.array([1.0, 0.5, 2.0])
    criterion = kind()
    expected, slope = criterion(output, target, w), criterion.backward()
    assert criterion(output, target, w * unit) == expected
    np.testing.assert_array_equal(criterion.backward(), slope)
    assert criterion.total_weight == 3.5 * unit * (1 if kind is CrossEntropyLoss else 2)


def test_weights_that_add_up_to_more_than_float64_holds():
    criterion = MSELoss()
    assert criterion(np.array([[1.0], [3.0]]), [[0.0], [0.0]], [1e308, 1.5e308]) == pytest.approx(5.8, rel=1e-14)
    np.testing.assert_allclose(criterion.backward(), [[0.8], [3.6]], rtol=1e-14)
    assert criterion.total_weight == np.inf


def test_weights_beyond_float32_of_losses_that_bring_them_back():
    """Weight times loss, and weight times gradient, are rounded once, from float64."""
    output, target = np.array([[2.0**-70], [2.0**60]], np.float32), np.zeros((2, 1))
    w = np.array([2.0**140, 2.0**-160])
    for reduction, expected in (("sum", 1 + 2.0**-40), ("none", [[1.0], [2.0**-40]])):
        criterion = MSELoss(reduction)
        np.testing.assert_array_equal(criterion(output, target, w), expected)
        np.testing.assert_array_equal(criterion.backward(), [[2.0**71], [2.0**-99]])


def test_a_sum_in_float32_is_rounded_once():
    output, w = np.array([[1.1], [0.3]], np.float32), np.array([0.1, 0.7])
    squares = np.square(output)[:, 0].astype(np.float64)  # which are float32's
    assert MSELoss("sum")(output, np.zeros((2, 1)), w) == (squares * w).sum()
