"""What running statistics have in common: which data they take, in which parts, merging, and their state."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from itertools import repeat, zip_longest
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from normcore._arraylike import UnfitError, plain
from normcore._shown import shown

Array: TypeAlias = NDArray[Any]
Float64: TypeAlias = NDArray[np.float64]
_Self = TypeVar("_Self", bound="Sums")
_END = object()
_MOST = 1.79e308  # that weights may add up to, whatever the order in which they are rounded


class Sums(Protocol):
    """What is kept of the data: float64 arrays that know how to take in more."""

    @property
    def features(self) -> int:
        """How many."""

    def absorb_whole(self, x: Array, axis: int | None) -> bool:
        """Take in x as it is, into empty sums; False, and nothing taken in, if x has to come in blocks."""

    def absorb(self, x: Float64, weights: Float64 | None) -> None:
        """Take in x of shape (M, C), which may be written over, with a weight for each of the M."""

    def merged(self: _Self, other: _Self) -> _Self:
        """Return new sums over both."""

    def to_dict(self) -> dict[str, Float64]:
        """Return copies of the arrays."""

    def contradiction(self) -> str | None:
        """What no data have, in words that go on after "state_dict"; None where there could be such data."""


class Streaming:
    """The public side, over the sums of a subclass."""

    def __init__(self, axis: int = -1) -> None:
        try:
            if isinstance(axis, bool | np.bool_):
                raise TypeError
            self.axis = operator.index(axis)
        except Exception:  # an __index__ of somebody else's may raise anything
            raise TypeError(f"{self._name}: axis must be an int, got {shown(axis)}.") from None
        self._sums: Any = None  # the Sums of everything so far, None before the first update

    def update(self, x: ArrayLike | Iterator[ArrayLike], sample_weight: Any = None) -> None:
        """Take in some values.

        Parameters
        ----------
        x : array or iterator of arrays
            Floating point, or integers, which count as float64. Any shape that has `axis`; after the first update with
            as many features as then. Nothing is changed by an x without values. A memory map is read in place. An
            iterator (a generator, say) is taken as the batches of one update, of which one is in memory at a time.
        sample_weight : array of shape (N,), optional
            One weight for each row: for each entry of the first axis that is not `axis`. Finite and not negative. A row
            of weight 0 is as if it were not there. With an iterator for `x`, an iterator of such arrays. All of them
            added up, and that times a variance, are kept in float64: within 1e-290 and 1e290, say, nothing is lost.

        Raises
        ------
        TypeError
            If `x` or `sample_weight` is not real numbers.
        ValueError
            If a shape does not fit, a weight is negative, NaN or infinite, or they add up, with what is counted
            already, to more than float64 holds. Nothing has been changed then.
        """
        new = self._of_all(x, sample_weight) if isinstance(x, Iterator) else self._of_one(x, sample_weight, self._sums)
        # Only now, so that an exception, a memory error too, has changed nothing.
        if new is not None:
            self._take(new)

    def merge(self, other: Any) -> None:
        """Take in everything that `other` has seen; `other` stays as it is.

        Parameters
        ----------
        other : of the same class
            Of as many features.

        Raises
        ------
        TypeError
            If it is anything else.
        ValueError
            If it has another number of features, or the weights of both add up to more than float64 holds.
        """
        if not isinstance(other, type(self)):
            raise TypeError(f"{self._name}.merge: other must be a {self._name}, got {type(other).__name__}.")
        self._check_options(other)
        if other._sums is not None:
            self._check_features(other._sums.features, self._features, "other")
            self._check_total(_largest_count(self._sums) + _largest_count(other._sums), "merge: other's weights add")
            self._take(other._sums)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as a plain dict of ints and float64 arrays, for `load_state_dict` or npz.

        Returns
        -------
        dict
            The options of the constructor; after the first update the sums besides. For JSON:
            ``{key: np.asarray(value).tolist() for key, value in state.items()}``.
        """
        return {**self._options(), **({} if self._sums is None else self._sums.to_dict())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Become what `state_dict` was called on.

        Parameters
        ----------
        state_dict : mapping
            From `state_dict`, of the same class. Arrays may have become lists.

        Raises
        ------
        TypeError
            If it is no mapping.
        ValueError
            If keys are missing or unknown, values are not numbers, shapes do not fit, a count is negative, NaN or
            infinite, or there are no data of which the sums could be: with a negative sum of squares, or a minimum
            above the maximum, or a mean outside of both. Nothing has been changed then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{self._name}.load_state_dict: state_dict must be a mapping, got {type(state_dict).__name__}; pass "
                "what state_dict() returned."
            )
        given, empty = set(state_dict), self._empty(0)
        options, sums = set(self._options()), set(empty.to_dict())
        if given != options and given != options | sums:
            raise ValueError(
                f"{self._name}.load_state_dict: state_dict must have the keys {sorted(options)} and, after an update, "
                f"{sorted(sums)}, got {sorted(map(str, given))}."
            )
        # npz makes arrays of numbers too.
        numbers = {key: self._numbers(key, state_dict[key]) for key in given}
        for key in options:
            if numbers[key].size != 1:
                raise ValueError(
                    f"{self._name}.load_state_dict: state_dict[{key!r}] must be a single value, got shape "
                    f"{numbers[key].shape}."
                )
        new = type(self)(**{key: numbers[key].item() for key in options})
        if given != options:
            # Written so that NaN is refused too.
            if not np.all((numbers["count"] >= 0) & (numbers["count"] < np.inf)):
                raise ValueError(
                    f"{self._name}.load_state_dict: state_dict['count'] must be finite and not negative, but has other "
                    "values or NaN."
                )
            new._sums = new._restored({key: numbers[key].astype(np.float64) for key in sums})
            problem = new._sums.contradiction()
            if problem:
                raise ValueError(f"{self._name}.load_state_dict: state_dict{problem}; pass what state_dict() returned.")
        vars(self).update(vars(new))

    # --- what a subclass says -----------------------------------------------------------------------------------------

    def _empty(self, features: int) -> Any:
        """New sums."""
        raise NotImplementedError

    def _block_size(self) -> int:
        """How many values to convert at a time."""
        raise NotImplementedError

    def _options(self) -> dict[str, int]:
        """Arguments of the constructor."""
        return {"axis": self.axis}

    def _check_options(self, other: Any) -> None:
        """Raise if `other` collects something else."""

    # --- the steps ----------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _features(self) -> int | None:
        return None if self._sums is None else int(self._sums.features)

    def _take(self, new: Any) -> None:
        self._sums = (self._empty(new.features) if self._sums is None else self._sums).merged(new)

    def _of_all(self, batches: Iterator[ArrayLike], weights: Any) -> Any:
        if weights is not None and not isinstance(weights, Iterator):
            raise TypeError(
                f"{self._name}.update: sample_weight must be an iterator like x, of the weights of each batch, got "
                f"{type(weights).__name__}."
            )
        total = None
        pairs = zip(batches, repeat(None)) if weights is None else zip_longest(batches, weights, fillvalue=_END)
        for batch, batch_weights in pairs:
            if batch is _END or batch_weights is _END:
                raise ValueError(
                    f"{self._name}.update: sample_weight must give the weights of each batch of x, but one of the two "
                    "iterators ended before the other."
                )
            new = self._of_one(batch, batch_weights, self._sums, total)
            total = new if total is None else total.merged(new)
        return total

    def _of_one(self, value: Any, sample_weight: Any, *before: Any) -> Any:
        """New sums of one array, which are going to be merged with those `before` that are there."""
        x = _as_values(value, self._name)
        axis = self._feature_axis(x)
        features = 1 if axis is None else x.shape[axis]
        counted = [sums for sums in before if sums is not None]
        self._check_features(features, counted[0].features if counted else None, f"x has shape {x.shape} and so")
        rows = x if axis is None else np.moveaxis(x, axis, -1)  # (..., C), or (N,)
        weights = None if sample_weight is None else _as_weights(sample_weight, rows, self._name)
        if weights is not None:
            places = rows[:1].size // max(1, features)  # each of them has the weight of its row
            with np.errstate(over="ignore"):
                total = weights.sum() * places + sum(map(_largest_count, counted))
            self._check_total(total, "update: sample_weight adds")
        new = self._empty(features)
        size = self._block_size()
        # What is contiguous in no order would be copied as a whole.
        readable = x.flags.forc or rows.flags.c_contiguous or x.size <= size
        native = x.dtype.kind not in "iu" and x.dtype.isnative
        fast = weights is None and x.size > 0 and readable and native
        if not (fast and new.absorb_whole(x, axis)):
            for block, block_weights in _blocks(rows, features, weights, size):
                new.absorb(block, block_weights)
        return new

    def _feature_axis(self, x: Array) -> int | None:
        if x.ndim == 1 and self.axis in (-1, 0):
            return None
        if not -x.ndim <= self.axis < x.ndim:
            raise ValueError(
                f"{self._name}.update: x has shape {x.shape}, which has no axis {shown(self.axis)} of features; "
                "reshape x."
            )
        return self.axis % x.ndim

    def _check_features(self, features: int, before: int | None, what: str) -> None:
        if before is not None and before != features:
            raise ValueError(
                f"{self._name}: {what} has {features} features, but there were {before} before; "
                f"pass the same features, or begin a new {self._name}."
            )

    def _check_total(self, total: float, what: str) -> None:
        if not total < _MOST:
            raise ValueError(
                f"{self._name}.{what} up, with what is counted already, to more than float64 holds; divide all weights "
                "by the same number."
            )

    def _numbers(self, key: str, value: Any) -> Array:
        try:
            array = plain(value)
        except UnfitError:
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"{self._name}.load_state_dict: state_dict[{key!r}] must be real numbers, got {type(value).__name__}; "
                "pass what state_dict() returned."
            )
        return array

    def _restored(self, arrays: Mapping[str, Float64]) -> Any:
        """Sums of these arrays, whose shapes are those that a number of features asks for."""
        sums = self._empty(arrays["mean"].size)
        for name, zeros in sums.to_dict().items():
            if arrays[name].shape != zeros.shape:
                raise ValueError(
                    f"{self._name}.load_state_dict: state_dict[{name!r}] must have shape {zeros.shape}, as 'mean' has "
                    f"{arrays['mean'].size} features, got {arrays[name].shape}."
                )
            setattr(sums, name, arrays[name])
        return sums


def _largest_count(sums: Any) -> float:
    return 0.0 if sums is None else float(np.max(sums.count, initial=0.0))


def fold(x: Array) -> tuple[Array, Array, int]:
    """Contiguous (M, C) as k rows in one, (M // k, k * C), the rows left over, and k.

    NumPy reduces an axis 0 of a few long rows at the speed of memory, of many short rows thirty times slower.
    """
    length, features = x.shape
    k = min(max(1, 1024 // max(1, features)), max(1, length))
    whole = length // k * k
    return x[:whole].reshape(-1, k * features), x[whole:], k


def down(reduce: np.ufunc, x: Array, initial: float) -> Float64:
    """Reduce axis 0 of a contiguous (M, C), in an order that depends on the shape alone."""
    folded, rest, k = fold(x)
    whole = reduce.reduce(reduce.reduce(folded, axis=0, initial=initial).reshape(k, -1), axis=0, initial=initial)
    result: Array = reduce(whole, reduce.reduce(rest, axis=0, initial=initial))
    return result.astype(np.float64)


def merge_means(count_a: Float64, mean_a: Float64, count_b: Float64, mean_b: Float64) -> tuple[Float64, Float64]:
    """Mean of both, and how far b's is from a's. A side with count 0 leaves the other as it is."""
    count = count_a + count_b
    with np.errstate(invalid="ignore", over="ignore"):  # infinite means
        delta = mean_b - mean_a
        share = count_b / np.where(count > 0, count, 1.0)
        mean = mean_a + delta * share
        # The distance of two finite means may be beyond float64, where no mean of both is.
        mean = np.where(np.isfinite(mean), mean, mean_a * (1.0 - share) + mean_b * share)
        # inf - inf is no distance, but an infinite mean stays infinite when more of its kind comes in.
        mean = np.where(np.isinf(mean_a) | np.isinf(mean_b), mean_a + mean_b, mean)
    return np.where(count_a == 0, mean_b, np.where(count_b == 0, mean_a, mean)), delta


def _as_values(x: Any, who: str) -> Array:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{who}.update: x is a masked array, whose mask would be ignored; pass x.filled(np.nan).")
    try:
        array = plain(x)
    except UnfitError as error:
        got = "rows of unequal length" if error.ragged else error
        raise TypeError(f"{who}.update: x must be an array, got {got}.") from None
    half = array.dtype.name in ("float16", "float32", "float64", "bfloat16")
    if array.dtype.kind == "O":
        raise TypeError(
            f"{who}.update: x must be an array of numbers, got {type(x).__name__}, which NumPy takes for objects; pass "
            "numbers alone, np.nan for what is missing."
        )
    if array.dtype.kind == "c":
        raise TypeError(
            f"{who}.update: x must be floating point (up to float64) or integers, got {array.dtype}; pass x.real and "
            "x.imag as features of their own, or np.abs(x)."
        )
    if not (half or array.dtype.kind in "iu"):
        raise TypeError(
            f"{who}.update: x must be floating point (up to float64) or integers, got {array.dtype}; "
            "convert it with x.astype(float)."
        )
    return array


def _as_weights(value: Any, rows: Array, who: str) -> Float64:
    """One weight for each row, spread over the axes between the first and the features'."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{who}.update: sample_weight is a masked array, whose mask would be ignored; pass its filled(0)."
        )
    try:
        weights = plain(value)
    except UnfitError as error:
        raise TypeError(f"{who}.update: sample_weight must be an array, got {error}.") from None
    if weights.dtype.kind not in "fiub":
        raise TypeError(f"{who}.update: sample_weight must be real numbers, got {weights.dtype}.")
    if weights.shape != rows.shape[:1]:
        raise ValueError(
            f"{who}.update: sample_weight has shape {weights.shape}, but x has {rows.shape[0]} rows; pass one "
            "weight for each."
        )
    # Written so that NaN is refused too.
    if not np.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(f"{who}.update: sample_weight must be finite and not negative, but has other values or NaN.")
    return weights.astype(np.float64)


def _blocks(rows: Array, features: int, weights: Float64 | None, size: int) -> Iterator[tuple[Float64, Float64 | None]]:
    """The values as new float64 (M, C), a block of rows at a time, and the weights of these M places."""
    if not rows.size:
        return
    each = rows[:1].size
    step = max(1, size // each)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        places = None if weights is None else np.repeat(weights[start : start + step], each // features)
        yield np.array(block, np.float64, order="C").reshape(-1, features), places
