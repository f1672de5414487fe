"""Layer, RMS, group and instance norm and the activations against PyTorch: signatures, values, gradients, refusals."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from norms import DTYPES, EVERY_ACTIVATION, Norm, every_norm

import normcore as nc

torch = pytest.importorskip("torch", reason="PyTorch, the peer compared with, is not installed")
functional = torch.nn.functional
pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.walk("rows")]

# float32: PyTorch sums in float32, so it is the less exact of the two
RTOL = {"float64": 1e-11, "float32": 5e-5}
ACTIVATION = {
    None: lambda z: z,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    "silu": functional.silu,
}


def close(ours, theirs, dtype):
    theirs = theirs.detach().numpy()
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=RTOL[dtype], atol=RTOL[dtype] * max(1.0, float(np.abs(theirs).max())))


def theirs_of(norm, x, weight, bias):
    if norm.name == "batch":
        return functional.batch_norm(x, None, None, weight, bias, training=True)
    if norm.name == "instance":
        return functional.instance_norm(x, weight=weight, bias=bias)
    if norm.name == "group":
        return functional.group_norm(x, norm.told[0], weight, bias)
    if norm.name == "layer":
        return functional.layer_norm(x, norm.parameter_shape, weight, bias)
    return functional.rms_norm(x, norm.parameter_shape, weight)


@DTYPES
@EVERY_ACTIVATION
@pytest.mark.parametrize("affine", [True, False])
@every_norm(
    Norm("batch", (7, 5, 9)),
    Norm("layer", (64, 10), (10,)),
    Norm("layer", (3, 4, 300), (300,)),
    Norm("layer", (2, 3, 4, 5), ((4, 5),)),
    Norm("rms", (64, 10), (10,)),
    Norm("rms", (2, 3, 4, 5), ((4, 5),)),
    Norm("group", (6, 12), (3,)),
    Norm("group", (2, 12, 7, 9), (4,)),
    Norm("group", (2, 4, 3, 4, 5), (1,)),
    Norm("instance", (3, 4, 17)),
    Norm("instance", (2, 3, 33, 7)),
)
def test_forward_and_backward(rng, norm, affine, activation, dtype):
    x, dy, weight, bias = norm.arrays(rng, dtype)
    if not affine:
        weight = bias = None
    tensors = [None if a is None else torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    ty = ACTIVATION[activation](theirs_of(norm, *tensors))
    ty.backward(torch.tensor(dy))
    y, ctx = norm.forward(x, weight, bias, activation=activation)
    close(y, ty, dtype)
    for ours, tensor in zip(norm.backward(dy, ctx), tensors, strict=True):
        assert (ours is None) == (tensor is None)
        if tensor is not None:
            close(ours, tensor.grad, dtype)


@DTYPES
@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_instance_norms_running_statistics(rng, momentum, dtype):
    x = (2 * rng.standard_normal((5, 4, 6, 3)) + 1).astype(dtype)
    mean, var = rng.standard_normal(4).astype(dtype), rng.uniform(0.5, 2, 4).astype(dtype)
    t_mean, t_var = torch.tensor(mean), torch.tensor(var)
    ty = functional.instance_norm(torch.tensor(x), t_mean, t_var, momentum=momentum)
    close(nc.instance_norm(x, mean, var, momentum=momentum), ty, dtype)
    close(mean, t_mean, dtype)
    close(var, t_var, dtype)


@pytest.mark.walk("channels")
@DTYPES
def test_instance_norm_with_running_statistics(rng, dtype):
    x, dy = rng.standard_normal((2, 5, 4, 6)).astype(dtype)
    mean, var = rng.standard_normal(4).astype(dtype), rng.uniform(0.5, 2, 4).astype(dtype)
    tx = torch.tensor(x, requires_grad=True)
    ty = functional.instance_norm(tx, torch.tensor(mean), torch.tensor(var), use_input_stats=False)
    ty.backward(torch.tensor(dy))
    y, ctx = nc.instance_norm_forward(x, running_mean=mean, running_var=var, use_input_stats=False)
    close(y, ty, dtype)
    close(nc.instance_norm_backward(dy, ctx)[0], tx.grad, dtype)


@pytest.mark.parametrize(
    "call",
    [
        lambda f, a: f.instance_norm(a(2, 3, 1)),
        lambda f, a: f.group_norm(a(1, 3), 3),
        lambda f, a: f.group_norm(a(2, 3), 2),
        lambda f, a: f.layer_norm(a(2, 3), (2,)),
        lambda f, a: f.layer_norm(a(2, 3), ()),
        lambda f, a: f.layer_norm(a(2, 3), (3,), a(2)),
        lambda f, a: f.rms_norm(a(2, 3), (2, 2)),
        lambda f, a: f.group_norm(a(2, 4), 2, a(2)),
    ],
)
def test_what_they_refuse_is_refused(call):
    with pytest.raises((ValueError, RuntimeError)):
        call(functional, torch.ones)
    with pytest.raises(ValueError, match=r"must|value"):
        call(nc, lambda *shape: np.ones(shape, np.float32))


def test_what_they_allow_is_allowed():
    for shape, groups in (((2, 3), 3), ((1, 3, 2), 3), ((0, 4, 5), 2)):
        ours = nc.group_norm(np.ones(shape, np.float32), groups)
        close(ours, functional.group_norm(torch.ones(shape), groups), "float32") if ours.size else None
    close(nc.layer_norm(np.ones((2, 1), np.float32), 1), functional.layer_norm(torch.ones(2, 1), (1,)), "float32")


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "group_norm", "instance_norm"])
def test_the_call_moves_over_by_changing_the_modules_name(name):
    theirs = list(inspect.signature(getattr(functional, name)).parameters.values())
    ours = [p for p in inspect.signature(getattr(nc, name)).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in ours] == ["x" if p.name == "input" else p.name for p in theirs]
    for our, their in zip(ours[1:], theirs[1:], strict=True):
        assert our.default == their.default
