"""The digits are the published ones, and a split keeps what it promises."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import numpy as np
import pytest

from normcore.data import Dataset, load_digits, split


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


def test_digits_are_what_the_description_says(digits):
    assert (digits.X.shape, digits.X.dtype) == ((1797, 64), np.float32)
    assert (digits.y.shape, digits.y.dtype) == ((1797,), np.int64)
    assert (digits.X.min(), digits.X.max()) == (0.0, 1.0)
    # The class counts that UCI publishes for the test part.
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.X.reshape(-1, *digits.image_shape).shape == (1797, 8, 8)
    assert len(digits.feature_names) == 64
    assert digits.class_names == tuple("0123456789")
    assert repr(digits) == "<Dataset digits: X (1797, 64) float32, 10 classes>"


def test_source_and_licence_are_named(digits):
    for text in ("Alpaydin", "10.24432/C50P49", "CC BY 4.0", "Attribution 4.0 International"):
        assert text in digits.describe


def test_checksums_beside_the_file_hold(digits):
    images = np.rint(digits.X * 16).astype(np.uint8)
    assert (images / np.float32(16) == digits.X).all()  # the scaling loses nothing
    contents = hashlib.sha256(images.tobytes() + digits.y.astype(np.uint8).tobytes()).hexdigest()
    file = hashlib.sha256((resources.files("normcore.data") / "digits.npz").read_bytes()).hexdigest()
    assert re.findall(r"\b[0-9a-f]{64}\b", digits.describe) == [contents, file]


def test_digits_are_those_of_scikit_learn(digits):
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn, which carries a copy, is not installed")
    theirs = datasets.load_digits()
    np.testing.assert_array_equal(digits.X * 16, theirs.data)
    np.testing.assert_array_equal(digits.y, theirs.target)


def test_every_call_gives_arrays_of_its_own(digits):
    other = load_digits()
    other.X[:] = -1
    other.y[:] = -1
    assert load_digits().X.min() == 0.0
    assert digits.y.min() == 0


@pytest.mark.parametrize("stratify", [True, False])
def test_split_cuts_into_two_disjoint_parts_in_order(stratify):
    y = np.arange(50) % 3
    train, validation = split(np.arange(50)[:, None], y, 0.3, seed=1, stratify=stratify)
    assert (len(train.X), len(validation.X)) == (35, 15)
    for part in (train, validation):
        rows = part.X[:, 0]
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(part.y, y[rows])  # rows stay with their targets
    assert sorted([*train.X[:, 0], *validation.X[:, 0]]) == list(range(50))


def test_split_keeps_the_shares_of_the_classes(digits):
    _, validation = split(digits.X, digits.y, 0.25, seed=3)
    assert len(validation.y) == round(1797 * 0.25)
    exact = np.bincount(digits.y) * 0.25
    assert np.abs(np.bincount(validation.y) - exact).max() <= 1.0


def test_plain_split_is_not_stratified():
    counts = {np.count_nonzero(split(np.zeros(40), np.arange(40) % 2, 0.5, s, stratify=False)[1].y) for s in range(20)}
    assert len(counts) > 1
    assert {np.count_nonzero(split(np.zeros(40), np.arange(40) % 2, 0.5, s)[1].y) for s in range(20)} == {10}


def test_split_is_decided_by_its_seed():
    x = np.arange(100)
    first, again, other = (split(x, x % 10, seed=seed)[1].X.tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("fraction, held_out", [(0.001, 1), (0.999, 9)])
def test_neither_part_is_empty(fraction, held_out):
    train, validation = split(np.arange(10), np.zeros(10, int), fraction)
    assert (len(train.X), len(validation.X)) == (10 - held_out, held_out)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros((3, 2)), np.zeros(4)), r"X and y .* got shapes \(3, 2\) and \(4,\)"),
        ((np.zeros(()), np.zeros(())), r"X and y .* got shapes \(\) and \(\)"),
        ((np.zeros((1, 2)), np.zeros(1)), "at least two samples .* got 1"),
        ((np.zeros(4), np.zeros(4), 0.0), r"validation_fraction must be .* got 0\.0"),
        ((np.zeros(4), np.zeros(4), 1.0), r"validation_fraction must be .* got 1\.0"),
        ((np.zeros(4), np.zeros(4), float("nan")), "validation_fraction must be .* got nan"),
        ((np.zeros(4), np.zeros((4, 2))), r"y must .* got shape \(4, 2\); say stratify=False"),
    ],
)
def test_split_refuses_with_a_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        split(*arguments)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"seed": "0"}, TypeError, "seed must be None or an int, got '0'; pass 0"),
        ({"seed": 1.5}, TypeError, "seed must be None or an int, got 1.5; pass 0"),
        ({"seed": -1}, ValueError, "seed must be 0 or more, got -1; pass 0"),
        ({"validation_fraction": "0.2"}, TypeError, "validation_fraction must be a number, got '0.2'; 0.2 keeps"),
        ({"validation_fraction": 10**400}, ValueError, "validation_fraction must be more than 0 and less than 1"),
    ],
)
def test_split_refuses_options_with_a_reason(options, error, message):
    with pytest.raises(error, match=message):
        split(np.zeros(4), np.zeros(4), **options)
