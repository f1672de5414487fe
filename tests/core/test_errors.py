"""Every mistake has its sentence, and nothing has been written when it is raised."""

from __future__ import annotations

import re

import numpy as np
import pytest

import normcore as nc

pytestmark = pytest.mark.usefixtures("backend")


def f32(*shape):
    return np.ones(shape, np.float32)


X = f32(4, 3)
VECTOR = f32(3)
READ_ONLY = f32(3)
READ_ONLY.flags.writeable = False
READ_ONLY_X = f32(4, 3)
READ_ONLY_X.flags.writeable = False
MASKED = np.ma.masked_less(np.ones((4, 3)), 0)

FORWARD = [
    # x
    (dict(x=np.ones((4, 3), int)), TypeError, "x must be float16, bfloat16, float32 or float64, got int64; convert it with x.astype(numpy.float32)"),
    (dict(x=np.ones((4, 3), bool)), TypeError, "x must be float16, bfloat16, float32 or float64, got bool"),
    (dict(x=np.ones((4, 3), complex)), TypeError, "x must be float16, bfloat16, float32 or float64, got complex128; other kinds of data"),
    (dict(x=np.ones((4, 3), np.longdouble)), TypeError, "x must be float16, bfloat16, float32 or float64, got float128"),
    (dict(x=np.array([["a", "b"]])), TypeError, "x must be float16, bfloat16, float32 or float64, got <U1"),
    (dict(x=[[1.0], [2.0, 3.0]]), TypeError, "x must be an array, got list with rows of unequal length or other objects"),
    (dict(x=None), TypeError, "x must be an array of numbers, got NoneType"),
    (dict(x=np.ones((4, 3), ">f4")), TypeError, "x has the byte order of another machine (>f4)"),
    (dict(x=MASKED), TypeError, "x is a masked array, whose mask would be ignored; fill or drop the masked values first"),
    (dict(x=f32(4)), ValueError, "x must have 2 to 5 dimensions, such as (N, C) or (N, C, H, W), got 1; reshape it first"),
    (dict(x=np.float32(1)), ValueError, "x must have 2 to 5 dimensions"),
    (dict(x=f32(1, 2, 1, 1, 1, 1)), ValueError, "x must have 2 to 5 dimensions, such as (N, C) or (N, C, H, W), got 6"),
    (dict(x=f32(1, 3)), ValueError, "x has shape (1, 3): one value per channel, and batch norm in training needs more than one"),
    (dict(x=f32(0, 3)), ValueError, "x has shape (0, 3): its 3 channels hold no values, and statistics over nothing are undefined"),
    # axis
    (dict(axis=2), ValueError, "axis must be from -2 to 1 for an x of 2 dimensions, got 2"),
    (dict(axis=-3), ValueError, "axis must be from -2 to 1 for an x of 2 dimensions, got -3"),
    (dict(axis=1.0), TypeError, "axis must be an int, the channel axis of x, got 1.0"),
    (dict(axis=True), TypeError, "axis must be an int, the channel axis of x, got True"),
    (dict(axis=None), TypeError, "axis must be an int, the channel axis of x, got None"),
    # weight and bias
    (dict(weight=f32(4)), ValueError, "weight must have shape (3,), one value for each channel of x, got (4,); axis says"),
    (dict(bias=f32(3, 1)), ValueError, "bias must have shape (3,), one value for each channel of x, got (3, 1)"),
    (dict(weight=np.ones(3, int)), TypeError, "weight must be float16, bfloat16, float32 or float64, got int64"),
    (dict(bias=np.ma.ones(3)), TypeError, "bias is a masked array"),
    # numbers
    (dict(eps=0.0), ValueError, "eps must be a positive finite number such as 1e-5, got 0.0"),
    (dict(eps=-1e-5), ValueError, "eps must be a positive finite number such as 1e-5, got -1e-05"),
    (dict(eps=np.inf), ValueError, "eps must be a positive finite number such as 1e-5, got inf"),
    (dict(eps=np.nan), ValueError, "eps must be a positive finite number such as 1e-5, got nan"),
    (dict(eps=None), TypeError, "eps must be a positive finite number such as 1e-5, got None"),
    (dict(eps=10**400), ValueError, "eps must be a positive finite number such as 1e-5, got an int beyond every float"),
    (dict(momentum=10**400), ValueError, "momentum must be a number from 0 to 1"),
    (dict(eps="1e-5"), TypeError, "eps must be a positive finite number such as 1e-5, got '1e-5'"),
    (dict(eps=True), TypeError, "eps must be a positive finite number such as 1e-5, got True"),
    (dict(momentum=1.5), ValueError, "momentum must be a number from 0 to 1, the weight of the new batch"),
    (dict(momentum=-0.1), ValueError, "momentum must be a number from 0 to 1"),
    (dict(momentum=np.nan), ValueError, "momentum must be a number from 0 to 1"),
    (dict(momentum=None), TypeError, "momentum must be a number from 0 to 1"),
    (dict(training=1), TypeError, "training must be True or False, got 1"),
    (dict(training=None), TypeError, "training must be True or False, got None"),
    # running statistics
    (dict(running_var=None), ValueError, "running_mean was given without running_var; pass both or neither"),
    (dict(running_mean=None), ValueError, "running_var was given without running_mean; pass both or neither"),
    (dict(running_mean=None, running_var=None, training=False), ValueError, "running_mean and running_var are None, and training=False normalises with them"),
    (dict(running_mean=f32(2)), ValueError, "running_mean must have shape (3,)"),
    (dict(running_var=np.ones(3, int)), TypeError, "running_var must be float16, bfloat16, float32 or float64, got int64"),
    (dict(running_mean=[0.0, 0.0, 0.0]), TypeError, "running_mean must be a NumPy array, which training updates in place, got list"),
    (dict(running_mean=READ_ONLY), ValueError, "running_mean is read-only, and training updates it in place; pass a writable copy"),
    (dict(running_var=np.broadcast_to(np.float32(1), 3).view()), ValueError, "running_var is read-only"),
    # out
    (dict(out=[]), TypeError, "out must be a NumPy array with the shape and dtype of x, got list"),
    (dict(out=np.ma.ones((4, 3), np.float32)), TypeError, "out must be a NumPy array with the shape and dtype of x, got MaskedArray"),
    (dict(out=f32(3, 4)), ValueError, "out must have the shape of x, (4, 3), got (3, 4)"),
    (dict(out=np.ones((4, 3))), TypeError, "out must have the dtype of x, float32, got float64"),
    (dict(out=READ_ONLY_X), ValueError, "out is read-only; pass a writable array"),
    (dict(out=np.lib.stride_tricks.as_strided(f32(3), (4, 3), (0, 4))), ValueError, "out has elements that share memory (strides (0, 4))"),
    (dict(out=np.lib.stride_tricks.as_strided(f32(12), (4, 3), (4, 4))), ValueError, "out has elements that share memory (strides (4, 4))"),
]  # fmt: skip


@pytest.mark.parametrize("mistake, kind, sentence", FORWARD, ids=[f"{next(iter(m))}-{s[:48]}" for m, _, s in FORWARD])
def test_forward(mistake, kind, sentence):
    arguments = (
        dict(x=X, weight=VECTOR, bias=VECTOR, running_mean=f32(3), running_var=f32(3), training=True, out=f32(4, 3))
        | mistake
    )
    arrays = {name: a for name, a in arguments.items() if isinstance(a, np.ndarray)}
    before = {name: a.copy() for name, a in arrays.items()}
    for function in (nc.batch_norm, nc.batch_norm_forward):
        with pytest.raises(kind, match="^" + re.escape(sentence)) as caught:
            function(**arguments)
        assert "\n" not in str(caught.value)
    for name, a in arrays.items():
        np.testing.assert_array_equal(a, before[name], err_msg=f"{name} was written before all was checked")


def test_arrays_that_are_written_must_be_apart():
    block = f32(6)
    weight = f32(3)
    for arguments, sentence in [
        (dict(running_mean=block[:3], running_var=block[2:5]), "running_mean shares memory with running_var; pass an array of its own"),
        (dict(running_mean=X[0], running_var=f32(3)), "running_mean shares memory with x"),
        (dict(running_mean=f32(3), running_var=weight, weight=weight), "running_var shares memory with weight"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            nc.batch_norm(X, training=True, **arguments)
    shared = np.lib.stride_tricks.as_strided(f32(1), (3,), (0,))
    with pytest.raises(ValueError, match="running_var has elements that share memory"):
        nc.batch_norm(X, f32(3), shared, training=True)
    long = f32(5, 3)
    for x, out in ((long[:4], long[1:]), (long[:4], long[:4][::-1]), (X, X[:, ::-1])):
        with pytest.raises(
            ValueError, match="out overlaps x without being the same array; pass x itself, or a separate array"
        ):
            nc.batch_norm(x, training=True, out=out)
    out = f32(4, 3)
    with pytest.raises(ValueError, match="out shares memory with weight"):
        nc.batch_norm(X, weight=out[0], training=True, out=out)
    with pytest.raises(ValueError, match="out shares memory with running_mean"):
        nc.batch_norm(X, out[0], f32(3), training=False, out=out)
    # read together is fine: in inference the statistics are only read
    nc.batch_norm(X, VECTOR, VECTOR, VECTOR, VECTOR, training=False)


def test_backward():
    ctx = nc.batch_norm_forward(X, VECTOR, VECTOR)[1]
    for dy, context, out, kind, sentence in [
        (X, None, None, TypeError, "ctx must be what batch_norm_forward returned, got NoneType; pass its second result"),
        (X, (X, ctx), None, TypeError, "ctx must be what batch_norm_forward returned, got tuple"),
        (f32(3, 4), ctx, None, ValueError, "dy must have the shape of x in ctx, (4, 3), got (3, 4)"),
        (np.ones((4, 3)), ctx, None, TypeError, "dy must have the dtype of x in ctx, float32, got float64; use dy.astype(x.dtype)"),
        (np.ones((4, 3), int), ctx, None, TypeError, "dy must be float16, bfloat16, float32 or float64, got int64"),
        (MASKED, ctx, None, TypeError, "dy is a masked array"),
        (X, ctx, f32(4, 4), ValueError, "out must have the shape of dy, (4, 3), got (4, 4)"),
        (X, ctx, np.ones((4, 3)), TypeError, "out must have the dtype of dy, float32, got float64"),
        (X, ctx, READ_ONLY_X, ValueError, "out is read-only"),
        (f32(4, 3), ctx, X, ValueError, "out shares memory with ctx.x"),
    ]:  # fmt: skip
        with pytest.raises(kind, match="^" + re.escape(sentence)):
            nc.batch_norm_backward(dy, context, out=out)
    dy = f32(5, 3)
    with pytest.raises(ValueError, match="out overlaps dy without being the same array"):
        nc.batch_norm_backward(dy[1:], ctx, out=dy[:4])
    assert (dy == 1).all()


def test_a_context_of_another_operation_is_refused():
    ctx = nc.batch_norm_forward(X)[1]
    ctx.plan = ctx.plan._replace(op="layer_norm")
    with pytest.raises(
        ValueError, match="ctx comes from layer_norm_forward; call layer_norm_backward, not batch_norm_backward"
    ):
        nc.batch_norm_backward(X, ctx)


@pytest.mark.parametrize(
    "x, axis, kind, sentence",
    [
        (f32(0, 3), 1, ValueError, "its 3 channels hold no values"),
        (f32(3), 0, ValueError, "x must have 2 to 5 dimensions"),
        (np.ones((3, 3), int), 1, TypeError, "x must be float16"),
        (f32(3, 3), 5, ValueError, "axis must be from -2 to 1"),
    ],
)
def test_batch_stats(x, axis, kind, sentence):
    with pytest.raises(kind, match=sentence):
        nc.batch_stats(x, axis=axis)


def test_one_value_per_channel_is_enough_for_statistics():
    mean, var = nc.batch_stats(f32(1, 3))
    assert (mean.tolist(), var.tolist()) == ([1.0] * 3, [0.0] * 3)
