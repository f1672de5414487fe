"""What came of a call: its result, or a refusal in one sentence."""

from __future__ import annotations

import re
import warnings
from typing import NamedTuple

import numpy as np

LONGEST = 600  # characters of a sentence: what fits on a few lines of a terminal


class Refusal(NamedTuple):
    """A call that was refused."""

    kind: type
    sentence: str

    def names(self, *names):
        """Whether the sentence has one of the names as a word."""
        return any(re.search(rf"(?<![A-Za-z_]){re.escape(name)}(?![A-Za-z_])", self.sentence) for name in names)


def outcome(run, *args, own_words=True, **kwargs):
    """The result, or a `Refusal`; anything else that can happen is a failure of the test.

    Without `own_words` the refusal may come from somebody else's code, in their words.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
            return run(*args, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        if own_words and isinstance(error, RuntimeError):
            raise
        refusal = Refusal(type(error), str(error))
    if own_words:
        assert "\n" not in refusal.sentence, f"more than one line: {refusal.sentence}"
        assert 10 < len(refusal.sentence) < LONGEST, f"no sentence: {refusal.sentence!r}"
    return refusal


def assert_same(got, expected, rtol, atol, what=""):
    """Equal up to rounding, through tuples and dicts; NaN equals NaN."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), what
        for key, value in expected.items():
            assert_same(got[key], value, rtol, atol, f"{what}[{key!r}]")
    elif isinstance(expected, (tuple, list)):
        assert len(got) == len(expected), what
        for i, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, rtol, atol, f"{what}[{i}]")
    elif isinstance(expected, np.ndarray):
        assert type(got) is np.ndarray, f"{what} is a {type(got).__name__}, not a plain array"
        assert got.dtype == expected.dtype, what
        assert got.shape == expected.shape, what
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=what)
        else:
            np.testing.assert_array_equal(got, expected, err_msg=what)
    elif isinstance(expected, float):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=what)
    else:
        assert got == expected, what
