"""The checks of single arguments. Each raises one sentence: the argument, what came, what to do."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

import numpy as np

from normcore._arraylike import UnfitError, plain
from normcore._memory import overlap, overlaps_itself, same_memory
from normcore._shown import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from normcore._context import NormContext
    from normcore._plan import Plan

    Array = NDArray[Any]

FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))
FLOAT_NAMES = "float16, bfloat16, float32 or float64"
# the distance from 1 to the next number; by name, because NumPy does not know bfloat16
MACHINE_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


# --- arrays -----------------------------------------------------------------------------------------------------------


def plain_array(name: str, value: Any) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be ignored; fill or drop the masked values first")
    try:
        array = plain(value)
    except UnfitError as error:
        raise TypeError(f"{name} must be an array, got {error}") from None
    if array.dtype == object:
        raise TypeError(f"{name} must be an array of numbers, got {type(value).__name__}")
    return array


def float_array(name: str, value: Any) -> Array:
    array: Array = value if type(value) is np.ndarray else plain_array(name, value)
    dtype = array.dtype
    if dtype in FLOAT_DTYPES or (dtype.name == "bfloat16" and dtype.isnative):
        return array
    if dtype.newbyteorder("=") in FLOAT_DTYPES:
        raise TypeError(
            f"{name} has the byte order of another machine ({dtype.str}); "
            f"convert it with {name}.astype({name}.dtype.newbyteorder('='))"
        )
    raise TypeError(f"{name} must be {FLOAT_NAMES}, got {dtype}; {_conversion(name, dtype)}")


def _conversion(name: str, dtype: np.dtype[Any]) -> str:
    if dtype.kind in "biuf" or dtype.name.startswith(("float", "int", "uint")):
        return f"convert it with {name}.astype(numpy.float32)"
    return "other kinds of data have no mean and variance here"


def ranked(x: Array, low: int, high: int, example: str) -> None:
    if not low <= x.ndim <= high:
        raise ValueError(f"x must have {low} to {high} dimensions, such as {example}, got {x.ndim}; reshape it first")


def parameter(name: str, value: Any, shape: tuple[int, ...], meaning: str) -> Array | None:
    """A weight or bias: None, or an array of `shape`; `meaning` says what that shape is."""
    if value is None:
        return None
    array = float_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, {meaning.format(got=array.shape)}")
    return array


PER_CHANNEL_OF_AXIS = "one value for each channel of x, got {got}; axis says which axis of x holds the channels"
PER_CHANNEL = "one value for each channel of x, got {got}; the channels are on axis 1 of x"
PER_ELEMENT = "that of normalized_shape, got {got}; it has one value for each element of a normalised run"


def running_statistics(
    mean: Any, var: Any, channels: int, meaning: str, mode: str, uses_input: bool
) -> tuple[Array | None, Array | None]:
    """Both or neither; writable where they are updated, given where they normalise. `mode` is the flag's name."""
    if mean is None and var is None:
        if not uses_input:
            raise ValueError(
                f"running_mean and running_var are None, and {mode}=False normalises with them; pass both, or "
                f"{mode}=True to use the statistics of {'the batch' if mode == 'training' else 'x'}"
            )
        return None, None
    if mean is None or var is None:
        given, missing = ("running_mean", "running_var") if var is None else ("running_var", "running_mean")
        raise ValueError(f"{given} was given without {missing}; pass both or neither")
    found = []
    for name, value in (("running_mean", mean), ("running_var", var)):
        array = parameter(name, value, (channels,), meaning)
        assert array is not None
        found.append(array)
        if not uses_input:
            continue
        if not isinstance(value, np.ndarray):
            raise TypeError(
                f"{name} must be a NumPy array, which training updates in place, got {type(value).__name__}"
            )
        if not array.flags.writeable:
            raise ValueError(f"{name} is read-only, and training updates it in place; pass a writable copy")
        if overlaps_itself(array):
            raise ValueError(f"{name} has elements that share memory (a broadcast view); pass a copy")
    return found[0], found[1]


def writable_like(name: str, given: Any, like_name: str, like: Array) -> Array:
    """`given` as a plain array that can take a result like `like`: its subclass may have ideas of its own."""
    if not isinstance(given, np.ndarray) or isinstance(given, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a NumPy array with the shape and dtype of {like_name}, got {type(given).__name__}"
        )
    out = plain(given)
    if out.shape != like.shape:
        raise ValueError(f"{name} must have the shape of {like_name}, {like.shape}, got {out.shape}")
    if out.dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype of {like_name}, {like.dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only; pass a writable array")
    if overlaps_itself(out):
        raise ValueError(f"{name} has elements that share memory (strides {out.strides}); pass an ordinary array")
    return out


def intact(ctx: NormContext, plan: Plan) -> None:
    """What a context holds is still of the shapes that its plan speaks of: the kernels check nothing."""
    parameters = [held for held in (ctx.weight, ctx.bias) if held is not None]
    statistics = ctx.mean, ctx.rstd
    dtypes = [held.dtype if type(held) is np.ndarray else held for held in parameters]
    dtypes += [] if ctx.bias_dtype is None else [ctx.bias_dtype]
    if (
        not all(type(held) is np.ndarray for held in (ctx.x, *statistics))
        or not all(isinstance(dtype, np.dtype) and dtype.name in MACHINE_EPSILON for dtype in dtypes)
        or ctx.x.shape != plan.shape
        or ctx.x.dtype != plan.dtype
        or any(held.shape != plan.parameter_shape for held in parameters)
        or any(held.shape != (plan.groups,) or held.dtype != np.float64 for held in statistics)
    ):
        raise ValueError("ctx does not hold what forward put there: arrays were replaced or reshaped; call it again")


def apart(name: str, written: Array, *others: tuple[str, Array | None]) -> None:
    """What is written shares no memory with the others."""
    for other_name, other in others:
        if other is not None and overlap(written, other):
            raise ValueError(f"{name} shares memory with {other_name}; pass an array of its own")


def apart_or_same(name: str, out: Array, other_name: str, other: Array) -> None:
    """`out` may be the very memory of the other array, element for element, but not overlap it otherwise."""
    if out is other or not overlap(out, other) or same_memory(out, other):
        return
    raise ValueError(
        f"{name} overlaps {other_name} without being the same array; pass {other_name} itself, or a separate array"
    )


# --- numbers ----------------------------------------------------------------------------------------------------------


def flag(name: str, value: Any) -> bool:
    if value is True or value is False or isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {shown(value)}")


def integer(name: str, value: SupportsIndex, allowed: str) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except Exception:  # an __index__ of somebody else's may raise anything
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}") from None


def _real(name: str, value: SupportsFloat, allowed: str) -> float:
    if type(value) is float:
        return value
    try:
        # float() takes an array of one value, and of a masked one makes NaN
        if isinstance(value, (bool, np.bool_, str, bytes, np.ma.MaskedArray)) or getattr(value, "ndim", False):
            raise TypeError
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {allowed}, got an int beyond every float") from None
    except Exception:  # a __float__ of somebody else's may raise anything
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}") from None


def eps_value(value: SupportsFloat, allowed: str = "a positive finite number such as 1e-5") -> float:
    eps = _real("eps", value, allowed)
    if not 0.0 < eps < math.inf:
        raise ValueError(f"eps must be {allowed}, got {shown(value)}")
    return eps


def momentum_value(value: SupportsFloat) -> float:
    allowed = "a number from 0 to 1, the weight of the new batch in the running statistics"
    momentum = _real("momentum", value, allowed)
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must be {allowed}, got {shown(value)}")
    return momentum


def channel_axis(axis: SupportsIndex, ndim: int) -> int:
    at = axis if type(axis) is int else integer("axis", axis, "an int, the channel axis of x")
    if not -ndim <= at < ndim:
        raise ValueError(f"axis must be from {-ndim} to {ndim - 1} for an x of {ndim} dimensions, got {shown(at)}")
    return at % ndim


def group_count(value: SupportsIndex, channels: int) -> int:
    groups = integer("num_groups", value, "a positive int, the number of groups of channels")
    if groups < 1:
        raise ValueError(f"num_groups must be a positive int, the number of groups of channels, got {shown(groups)}")
    if channels % groups:
        raise ValueError(
            f"num_groups must divide the {channels} channels of x (axis 1), got {shown(groups)}; "
            "each group has the same number of channels"
        )
    return groups


def normalized_axes(value: Any, x: Array) -> tuple[int, ...]:
    """`normalized_shape` as a tuple: the trailing shape of x."""
    allowed = "an int or a sequence of ints, the trailing shape of x"
    if x.ndim == 0:
        raise ValueError("x must have at least 1 dimension, got 0; reshape it first")
    try:
        single = type(value) is int or (hasattr(value, "__index__") and not np.ndim(value))
        lengths: tuple[Any, ...] = (value,) if single else tuple(value)
    except Exception:  # an __iter__ of somebody else's may raise anything
        raise TypeError(f"normalized_shape must be {allowed}, got {shown(value)}") from None
    shape = tuple(n if type(n) is int else integer("normalized_shape", n, allowed) for n in lengths)
    if not shape:
        raise ValueError(
            f"normalized_shape must name at least one axis, got {shown(value)}; pass x.shape[-1] for the last"
        )
    if x.shape[-len(shape) :] != shape:
        raise ValueError(
            f"normalized_shape must be the trailing shape of x, and x has shape {x.shape}, got {shown(shape)}; "
            "pass x.shape[-1] to normalise the last axis"
        )
    if 0 in shape:
        raise ValueError(
            f"normalized_shape {shape} holds no values, and statistics over nothing are undefined; "
            "pass an x whose normalised axes are not empty"
        )
    return shape
