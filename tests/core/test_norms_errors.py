"""Layer, RMS, group and instance norm: every mistake has its sentence, and nothing has been written when it is raised."""

from __future__ import annotations

import re

import numpy as np
import pytest
from norms import EVERY_ROW_NORM

import normcore as nc

pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.walk("rows")]


def f32(*shape):
    return np.ones(shape, np.float32)


READ_ONLY = f32(4, 6)
READ_ONLY.flags.writeable = False

LAYER = [
    (dict(x=np.ones((4, 6), int)), TypeError, "x must be float16, bfloat16, float32 or float64, got int64; convert it"),
    (dict(x=np.float32(1)), ValueError, "x must have at least 1 dimension, got 0; reshape it first"),
    (dict(x=np.ma.ones((4, 6))), TypeError, "x is a masked array"),
    (dict(x=np.ones((4, 6), ">f4")), TypeError, "x has the byte order of another machine (>f4)"),
    (dict(x=f32(4, 0), normalized_shape=0), ValueError, "normalized_shape (0,) holds no values, and statistics over nothing are undefined"),
    (dict(normalized_shape=5), ValueError, "normalized_shape must be the trailing shape of x, and x has shape (4, 6), got (5,)"),
    (dict(normalized_shape=(6, 4)), ValueError, "normalized_shape must be the trailing shape of x, and x has shape (4, 6), got (6, 4)"),
    (dict(normalized_shape=(1, 4, 6)), ValueError, "normalized_shape must be the trailing shape of x"),
    (dict(normalized_shape=()), ValueError, "normalized_shape must name at least one axis, got ()"),
    (dict(normalized_shape=6.0), TypeError, "normalized_shape must be an int or a sequence of ints, the trailing shape of x, got 6.0"),
    (dict(normalized_shape=(6.0,)), TypeError, "normalized_shape must be an int or a sequence of ints, the trailing shape of x, got 6.0"),
    (dict(normalized_shape=True), TypeError, "normalized_shape must be an int or a sequence of ints, the trailing shape of x, got True"),
    (dict(normalized_shape=None), TypeError, "normalized_shape must be an int or a sequence of ints, the trailing shape of x, got None"),
    (dict(weight=f32(4)), ValueError, "weight must have shape (6,), that of normalized_shape, got (4,)"),
    (dict(weight=f32(1, 6)), ValueError, "weight must have shape (6,), that of normalized_shape, got (1, 6)"),
    (dict(weight=np.ones(6, int)), TypeError, "weight must be float16, bfloat16, float32 or float64, got int64"),
    (dict(eps=0.0), ValueError, "a positive finite number such as 1e-"),
    (dict(eps=-1), ValueError, "a positive finite number such as 1e-"),
    (dict(eps=np.inf), ValueError, "a positive finite number such as 1e-"),
    (dict(eps=np.nan), ValueError, "a positive finite number such as 1e-"),
    (dict(eps="1"), TypeError, "a positive finite number such as 1e-"),
    (dict(eps=True), TypeError, "a positive finite number such as 1e-"),
    (dict(out=[]), TypeError, "out must be a NumPy array with the shape and dtype of x, got list"),
    (dict(out=f32(6, 4)), ValueError, "out must have the shape of x, (4, 6), got (6, 4)"),
    (dict(out=np.ones((4, 6))), TypeError, "out must have the dtype of x, float32, got float64"),
    (dict(out=READ_ONLY), ValueError, "out is read-only; pass a writable array"),
    (dict(out=np.lib.stride_tricks.as_strided(f32(6), (4, 6), (0, 4))), ValueError, "out has elements that share memory (strides (0, 4))"),
    (dict(activation="softplus"), ValueError, 'activation must be None or one of "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", got \'softplus\''),
    (dict(activation=1), TypeError, "activation must be None or one of"),
]  # fmt: skip
GROUP = [
    (dict(x=f32(4)), ValueError, "x must have 2 to 5 dimensions, such as (N, C) or (N, C, H, W), got 1; reshape it first"),
    (dict(x=f32(1, 6, 1, 1, 1, 2)), ValueError, "x must have 2 to 5 dimensions, such as (N, C) or (N, C, H, W), got 6"),
    (dict(num_groups=4), ValueError, "num_groups must divide the 6 channels of x (axis 1), got 4; each group"),
    (dict(num_groups=12), ValueError, "num_groups must divide the 6 channels of x (axis 1), got 12"),
    (dict(num_groups=0), ValueError, "num_groups must be a positive int, the number of groups of channels, got 0"),
    (dict(num_groups=-2), ValueError, "num_groups must be a positive int, the number of groups of channels, got -2"),
    (dict(num_groups=2.0), TypeError, "num_groups must be a positive int, the number of groups of channels, got 2.0"),
    (dict(num_groups=True), TypeError, "num_groups must be a positive int, the number of groups of channels, got True"),
    (dict(x=f32(2, 6, 0)), ValueError, "x has shape (2, 6, 0): its groups hold no values"),
    (dict(x=f32(2, 0), weight=None, bias=None), ValueError, "x has shape (2, 0): its groups hold no values"),
    (dict(x=f32(1, 6), num_groups=6), ValueError, "x has shape (1, 6): one value in each of 6 groups, and its variance would be zero"),
    (dict(weight=f32(3)), ValueError, "weight must have shape (6,), one value for each channel of x, got (3,); the channels are on axis 1"),
    (dict(bias=f32(6, 1)), ValueError, "bias must have shape (6,), one value for each channel of x, got (6, 1)"),
    (dict(eps=0.0), ValueError, "eps must be a positive finite number such as 1e-5, got 0.0"),
    (dict(activation="Relu"), ValueError, "activation must be None or one of"),
]  # fmt: skip
INSTANCE = [
    (dict(x=f32(4, 6)), ValueError, "x must have 3 to 5 dimensions, such as (N, C, L) or (N, C, H, W), got 2; reshape it first"),
    (dict(x=f32(2, 6, 1)), ValueError, "x has shape (2, 6, 1): one value per instance and channel, and its variance would be zero; pass more"),
    (dict(x=f32(2, 6, 0, 3)), ValueError, "x has shape (2, 6, 0, 3): its instances hold no values"),
    (dict(weight=f32(3)), ValueError, "weight must have shape (6,), one value for each channel of x, got (3,)"),
    (dict(use_input_stats=1), TypeError, "use_input_stats must be True or False, got 1"),
    (dict(momentum=2.0), ValueError, "momentum must be a number from 0 to 1"),
    (dict(eps=None), TypeError, "eps must be a positive finite number such as 1e-5, got None"),
    (dict(running_var=None), ValueError, "running_mean was given without running_var; pass both or neither"),
    (dict(running_mean=None, running_var=None, use_input_stats=False), ValueError,
     "running_mean and running_var are None, and use_input_stats=False normalises with them; pass both, or use_input_stats=True to use the statistics of x"),
    (dict(running_mean=f32(5)), ValueError, "running_mean must have shape (6,)"),
    (dict(running_mean=[0.0] * 6), TypeError, "running_mean must be a NumPy array, which training updates in place, got list"),
    (dict(running_var=np.broadcast_to(np.float32(1), 6)), ValueError, "running_var is read-only"),
    (dict(activation="swish"), ValueError, "activation must be None or one of"),
]  # fmt: skip


def check(functions, arguments, mistake, kind, sentence):
    arguments = arguments | mistake
    before = {name: a.copy() for name, a in arguments.items() if isinstance(a, np.ndarray)}
    for function in functions:
        if "activation" in mistake and not function.__name__.endswith("_forward"):
            continue
        with pytest.raises(kind, match="^(eps must be .*)?" + re.escape(sentence)) as caught:
            function(**arguments)
        assert "\n" not in str(caught.value)
    for name, a in before.items():
        np.testing.assert_array_equal(arguments[name], a, err_msg=f"{name} was written before all was checked")


def named(table):
    return pytest.mark.parametrize(
        "mistake, kind, sentence", table, ids=[f"{next(iter(m))}-{s[:40]}" for m, _, s in table]
    )


@named(LAYER)
def test_layer_norm_and_rms_norm(mistake, kind, sentence):
    arguments = dict(x=f32(4, 6), normalized_shape=6, weight=f32(6), out=f32(4, 6))
    check((nc.layer_norm, nc.layer_norm_forward, nc.rms_norm, nc.rms_norm_forward), arguments, mistake, kind, sentence)


def test_eps_may_be_none_for_rms_norm_alone():
    with pytest.raises(TypeError, match=r"eps must be a positive finite number such as 1e-5, got None"):
        nc.layer_norm(f32(4, 6), 6, eps=None)
    with pytest.raises(
        ValueError, match=r"eps must be None, for the machine epsilon of x, or a positive finite number"
    ):
        nc.rms_norm(f32(4, 6), 6, eps=0)
    assert np.isfinite(nc.rms_norm(f32(4, 6), 6, eps=None)).all()


def test_layer_norms_bias():
    with pytest.raises(ValueError, match=r"bias must have shape \(6,\), that of normalized_shape, got \(4,\)"):
        nc.layer_norm(f32(4, 6), 6, bias=f32(4))


@named(GROUP)
def test_group_norm(mistake, kind, sentence):
    shape = mistake.get("x", f32(4, 6, 2)).shape
    arguments = dict(x=f32(4, 6, 2), num_groups=2, weight=f32(6), bias=f32(6), out=f32(*shape))
    check((nc.group_norm, nc.group_norm_forward), arguments, mistake, kind, sentence)


def test_group_norm_of_one_value_a_group_is_refused_for_one_sample_alone():
    """PyTorch's rule: with several samples the result is bias."""
    assert (nc.group_norm(f32(2, 6), 6, bias=np.full(6, 7.0)) == 7).all()


@named(INSTANCE)
def test_instance_norm(mistake, kind, sentence):
    shape = mistake.get("x", f32(4, 6, 2)).shape
    arguments = dict(
        x=f32(4, 6, 2), weight=f32(6), bias=f32(6), running_mean=f32(6), running_var=f32(6), out=f32(*shape)
    )
    check((nc.instance_norm, nc.instance_norm_forward), arguments, mistake, kind, sentence)


@EVERY_ROW_NORM
def test_arrays_that_are_written_must_be_apart(norm, rng):
    x, dy, weight, _ = norm.arrays(rng)
    long = np.ones((norm.shape[0] + 1, *norm.shape[1:]))
    with pytest.raises(ValueError, match="out overlaps x without being the same array; pass x itself, or a separate"):
        norm(long[:-1], weight, out=long[1:])
    block = np.ones(x.size + weight.size)
    with pytest.raises(ValueError, match="out shares memory with weight"):
        norm(x, block[: weight.size].reshape(weight.shape), out=block[: x.size].reshape(x.shape))
    _, ctx = norm.forward(x, weight)
    with pytest.raises(ValueError, match=r"out shares memory with ctx\.x"):
        norm.backward(dy, ctx, out=x)
    if norm.has_bias:
        bias = block[: weight.size].reshape(weight.shape)
        _, ctx = norm.forward(x, weight, bias, activation="silu")
        with pytest.raises(ValueError, match=r"out shares memory with ctx\.bias"):
            norm.backward(dy, ctx, out=block[: x.size].reshape(x.shape))


def test_running_statistics_must_be_apart():
    x, block = f32(2, 3, 4), f32(6)
    with pytest.raises(ValueError, match="running_mean shares memory with running_var"):
        nc.instance_norm(x, block[:3], block[2:5])
    with pytest.raises(ValueError, match="running_var shares memory with x"):
        nc.instance_norm(x, f32(3), x[0, 0, :3])
    with pytest.raises(ValueError, match="out shares memory with running_mean"):
        nc.instance_norm(x, x[0, 0, :3], f32(3), use_input_stats=False, out=x)


@EVERY_ROW_NORM
def test_backward(norm, rng):
    x, dy, weight, _ = norm.arrays(rng, "float32")
    _, ctx = norm.forward(x, weight)
    name = f"{norm.name}_norm"
    for wrong, context, kind, sentence in [
        (dy, None, TypeError, f"ctx must be what {name}_forward returned, got NoneType; pass its second result"),
        (dy[:1], ctx, ValueError, f"dy must have the shape of x in ctx, {x.shape}, got "),
        (dy.astype(float), ctx, TypeError, "dy must have the dtype of x in ctx, float32, got float64"),
        (dy.astype(int), ctx, TypeError, "dy must be float16, bfloat16, float32 or float64, got int64"),
    ]:
        with pytest.raises(kind, match="^" + re.escape(sentence)):
            norm.backward(wrong, context)
    others = {"layer", "rms", "group", "instance", "batch"} - {norm.name}
    for other in others:
        with pytest.raises(
            ValueError, match=f"ctx comes from {name}_forward; call {name}_backward, not {other}_norm_b"
        ):
            getattr(nc, f"{other}_norm_backward")(dy, ctx)


def test_other_mistakes_in_batch_norm_come_with_activations():
    with pytest.raises(ValueError, match=r"activation must be None or one of .* got 'gelu_new'"):
        nc.batch_norm_forward(f32(4, 6), activation="gelu_new")
    with pytest.raises(TypeError, match="unexpected keyword argument 'activation'"):
        nc.batch_norm(f32(4, 6), training=True, activation="relu")
