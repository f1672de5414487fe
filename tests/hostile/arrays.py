"""Hostile forms of an array: the same values in a place, of a kind or in a wrapping that nobody tried.

A form makes from plain values what is passed instead of them. What it stands for is its plain copy, and so the call
with that copy says what the result must be. ``verdict`` says what else may come:

"same"      nothing: an array of numbers like any other, however it lies in memory.
"either"    the same, or a refusal: something that one function takes for an array and another does not.
"refused"   a refusal, always: values are missing, or are no numbers.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Finalized(np.ndarray):
    """A subclass that carries an attribute through views, as unit libraries do."""

    def __array_finalize__(self, obj):
        self.unit = getattr(obj, "unit", "m")


class NoUfuncs(np.ndarray):
    """A subclass that lets nobody compute with it."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise AssertionError(f"{ufunc.__name__} was asked of a subclass: it was not made a plain array")

    def __array_function__(self, function, types, args, kwargs):
        raise AssertionError(f"{function.__name__} was asked of a subclass: it was not made a plain array")


class Liar(np.ndarray):
    """A subclass that says it is longer than it is."""

    shape = property(lambda self: (10**6, *np.asarray(self).shape[1:]))
    size = property(lambda self: 10**9)
    ndim = property(lambda self: 7)

    def __len__(self):
        return 10**6


class Converts:
    """Not an array, but it can be made one."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class Changes(Converts):
    """The second time it is asked, it is a longer array; the third time, a list."""

    asked = 0

    def __array__(self, dtype=None, copy=None):
        self.asked += 1
        if self.asked == 1:
            return np.array(self.values, dtype)
        if self.asked == 2:
            return np.concatenate([self.values.ravel()] * 1000) if self.values.size else np.ones(1000)
        return [1.0]


class Interface:
    """Numbers in memory that NumPy may read."""

    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


class BrokenInterface:
    """An interface with nothing in it that NumPy could use."""

    __array_interface__ = {"shape": (2, 2), "typestr": "<f4", "version": 3, "data": "here"}  # noqa: RUF012 - NumPy's name


class Raises:
    """Cannot be made an array today."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("the device is asleep\nand will not wake up")


class NoArray:
    """Says it can be made an array, and gives something else."""

    def __array__(self, dtype=None, copy=None):
        return "not an array"


class HiddenMask:
    """Becomes a masked array where nobody sees it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.ma.masked_array(self.values, mask=np.zeros(self.values.shape, bool))


class Form(NamedTuple):
    """One way to be hostile."""

    name: str
    make: Callable[[np.ndarray], Any]  # of plain values
    verdict: str
    fits: Callable[[np.ndarray], bool] = lambda values: True  # whether these values have such a form


def read_only(values):
    copy = values.copy()
    copy.flags.writeable = False
    return copy


def stepped(values):
    """Every second element of every axis of a larger array, which is NaN in between."""
    filler = np.nan if values.dtype.kind == "f" else 99
    wide = np.full([2 * n + 1 for n in values.shape], filler, values.dtype)
    view = wide[tuple(slice(1, 2 * n + 1, 2) for n in values.shape)]
    view[...] = values
    return view


def reversed_(values):
    return np.ascontiguousarray(values[(slice(None, None, -1),) * values.ndim])[(slice(None, None, -1),) * values.ndim]


def permuted(values):
    order = np.roll(np.arange(values.ndim), 1)
    return np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))


def misaligned(values):
    view = np.empty(values.nbytes + 1, np.uint8)[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


def broadcast(values):
    """The first row in place of all, with a stride of zero."""
    return np.broadcast_to(values[:1], values.shape)


def overlapping_itself(values):
    """Rows that share their elements with the next row: a sliding window."""
    flat = values.ravel()
    step = values.itemsize
    strides = (step, *values.strides[1:])
    return np.lib.stride_tricks.as_strided(flat, values.shape, strides, writeable=False)


def mapped(values):
    """A file in memory, opened for reading."""
    with tempfile.TemporaryFile() as file:
        file.write(np.ascontiguousarray(values).tobytes())
        file.flush()
        return np.memmap(file, values.dtype, "r", shape=values.shape)


def swapped(values):
    return values.astype(values.dtype.newbyteorder())


def masked(values):
    mask = np.zeros(values.shape, bool)
    mask.flat[:1] = True
    return np.ma.masked_array(values.copy(), mask)


def tensor(values):
    import torch

    return torch.from_numpy(values.copy())


def tensor_with_gradient(values):
    return tensor(values).requires_grad_()


def dlpack_only(values):
    class OnDevice:
        def __dlpack__(self, **options):
            return values.__dlpack__(**options)

        def __dlpack_device__(self):
            return values.__dlpack_device__()

    return OnDevice()


def ragged(values):
    return [[1.0], [1.0, 2.0]]


def structured(values):
    return values.astype([("a", values.dtype)])


def with_values(values):
    return values.size > 0


def with_axes(values):
    return values.ndim > 0


def with_rows(values):
    return values.ndim > 0 and values.shape[0] > 1


def is_float(values):
    return values.dtype.kind == "f"


def has_torch(values):
    return importlib.util.find_spec("torch") is not None and values.dtype.isnative


SAME = (
    Form("read-only", read_only, "same"),
    Form("Fortran order", np.asfortranarray, "same"),
    Form("stepped", stepped, "same", with_axes),
    Form("reversed", reversed_, "same", with_axes),
    Form("permuted", permuted, "same", with_axes),
    Form("misaligned", misaligned, "same"),
    Form("broadcast", broadcast, "same", with_rows),
    Form("overlapping itself", overlapping_itself, "same", with_rows),
    Form("memory map", mapped, "same", with_values),
    Form("record array", lambda values: values.copy().view(np.recarray), "same"),
    Form("subclass with an attribute", lambda values: values.copy().view(Finalized), "same"),
    Form("subclass without ufuncs", lambda values: values.copy().view(NoUfuncs), "same"),
    Form("matrix", lambda values: values.copy().view(np.matrix), "same", lambda values: values.ndim == 2),
)
EITHER = (
    Form("other byte order", swapped, "either"),
    Form("longdouble", lambda values: values.astype(np.longdouble), "either", is_float),
    Form("float16", lambda values: values.astype(np.float16), "either", is_float),
    Form("integers", lambda values: np.rint(values).astype(np.int32), "either"),
    Form("unsigned", lambda values: np.abs(np.rint(values)).astype(np.uint64), "either"),
    Form("booleans", lambda values: values > 0, "either"),
    Form("list", lambda values: values.tolist(), "either"),
    Form("subclass that lies", lambda values: values.copy().view(Liar), "either"),
    Form("converts", Converts, "either"),
    Form("changes", Changes, "either"),
    Form("interface", Interface, "either"),
    Form("tensor", tensor, "either", has_torch),
    Form("a rank more", lambda values: values[None], "either"),
    Form("a row less", lambda values: values[1:], "either", with_rows),
    Form("no rows", lambda values: values[:0], "either", with_rows),
    Form("a number", lambda values: 1.5, "either"),
    Form("NumPy number", lambda values: np.float64(1.5), "either"),
    Form("rank 0", lambda values: np.array(1.5), "either"),
    Form("None", lambda values: None, "either"),
    Form("objects of numbers", lambda values: values.astype(object), "either"),
)
REFUSED = (
    Form("masked", masked, "refused", with_values),
    Form("mask unseen", HiddenMask, "refused"),
    Form("objects", lambda values: np.full(values.shape, {}, object), "refused", with_values),
    Form("complex", lambda values: values.astype(complex), "refused"),
    Form("strings", lambda values: np.full(values.shape, "one"), "refused", with_values),
    Form("bytes", lambda values: np.full(values.shape, b"one"), "refused", with_values),
    Form("dates", lambda values: np.full(values.shape, np.datetime64("2015-02-11")), "refused", with_values),
    Form("structured", structured, "refused", with_values),
    Form("ragged", ragged, "refused"),
    Form("word", lambda values: "one", "refused"),
    Form("dict", lambda values: {"a": 1}, "refused"),
    Form("raises", lambda values: Raises(), "refused"),
    Form("no array", lambda values: NoArray(), "refused"),
    Form("broken interface", lambda values: BrokenInterface(), "refused"),
    Form("DLPack alone", dlpack_only, "refused", is_float),
    Form("tensor with gradient", tensor_with_gradient, "refused", lambda v: is_float(v) and has_torch(v)),
)
FORMS = SAME + EITHER + REFUSED


def plain(hostile, values, swap=True):
    """What a hostile form of `values` stands for: a new C-contiguous array, of the machine's own byte order."""
    if isinstance(hostile, Changes):
        return values.copy()
    if isinstance(hostile, np.ndarray):
        hostile = np.asarray(hostile)
    array = np.asarray(hostile).copy(order="C")
    return array.astype(array.dtype.newbyteorder("=")) if swap else array


def memory(value):
    """The arrays behind a value, whose bytes nobody may change: itself and what it is a view of."""
    found = []
    while isinstance(value, np.ndarray):
        found.append(value)
        value = value.base
    for name in ("values",):
        if hasattr(value, name):
            found += memory(getattr(value, name))
    return found


class Unchanged:
    """Inside ``with Unchanged(values): ...`` none of the arrays may change, neither in bytes nor in flags."""

    def __init__(self, values):
        self.arrays = [array for value in values for array in memory(value)]

    @staticmethod
    def _state(array):
        flags = np.asarray(array).flags
        held = np.asarray(array)
        content = repr(held.tolist()) if held.dtype == object else held.tobytes()
        return content, held.shape, held.strides, held.dtype, flags.writeable, array.flags.writeable

    def __enter__(self):
        self.before = [self._state(array) for array in self.arrays]
        return self

    def __exit__(self, kind, error, traceback):
        for array, before in zip(self.arrays, self.before, strict=True):
            assert self._state(array) == before, "an input was changed"
