"""Every function against PyTorch, in float64 to its rounding and in float32 to theirs."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc

torch = pytest.importorskip("torch", reason="PyTorch, the peer compared with, is not installed")
pytestmark = pytest.mark.usefixtures("backend")

# float32: PyTorch sums in float32, so it is the less exact of the two
RTOL = {"float64": 1e-11, "float32": 2e-5}
SHAPES = [(64, 10), (7, 5, 9), (4, 6, 8, 8), (2, 3, 4, 5, 6), (2, 16, 33, 47), (3, 1, 5, 5)]


def close(ours, theirs, dtype):
    theirs = theirs.detach().numpy()
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=RTOL[dtype], atol=RTOL[dtype] * max(1.0, float(np.abs(theirs).max())))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum, eps", [(0.1, 1e-5), (0.7, 1e-2)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_backward_and_running_statistics(rng, shape, momentum, eps, training, affine, dtype):
    channels = shape[1]
    x = (2 * rng.standard_normal(shape) + 1).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    weight, bias = rng.standard_normal((2, channels)).astype(dtype) if affine else (None, None)
    running = rng.standard_normal(channels).astype(dtype), rng.uniform(0.5, 2, channels).astype(dtype)

    tx = torch.tensor(x, requires_grad=True)
    tw, tb = (None if v is None else torch.tensor(v, requires_grad=True) for v in (weight, bias))
    t_running = [torch.tensor(v) for v in running]
    ty = torch.nn.functional.batch_norm(tx, *t_running, tw, tb, training, momentum, eps)
    ty.backward(torch.tensor(dy))

    y, ctx = nc.batch_norm_forward(
        x, weight, bias, running_mean=running[0], running_var=running[1], training=training, momentum=momentum, eps=eps
    )
    dx, dweight, dbias = nc.batch_norm_backward(dy, ctx)
    close(y, ty, dtype)
    close(running[0], t_running[0], dtype)
    close(running[1], t_running[1], dtype)
    close(dx, tx.grad, dtype)
    if affine:
        close(dweight, tw.grad, dtype)
        close(dbias, tb.grad, dtype)
    else:
        assert dweight is None
        assert dbias is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_statistics_are_those_of_native_batch_norm(rng, dtype):
    x = rng.standard_normal((6, 4, 5, 5)).astype(dtype)
    _, mean, rstd = torch.native_batch_norm(torch.tensor(x), None, None, None, None, True, 0.1, 1e-5)
    _, ctx = nc.batch_norm_forward(x)
    np.testing.assert_allclose(ctx.mean, mean.numpy(), rtol=RTOL[dtype], atol=RTOL[dtype])
    np.testing.assert_allclose(ctx.rstd, rstd.numpy(), rtol=RTOL[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_stats_are_var_mean(rng, dtype):
    x = rng.standard_normal((6, 4, 5, 5)).astype(dtype)
    var, mean = torch.var_mean(torch.tensor(x, dtype=torch.float64), (0, 2, 3), correction=0)
    for ours, theirs in zip(nc.batch_stats(x), (mean, var), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels_last_by_axis_is_theirs_by_memory_format(rng, dtype):
    x = rng.standard_normal((3, 5, 6, 4)).astype(dtype)  # N, H, W, C
    dy = rng.standard_normal(x.shape).astype(dtype)
    tx = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    ty = torch.nn.functional.batch_norm(tx, None, None, training=True)
    ty.backward(torch.tensor(dy).permute(0, 3, 1, 2))
    y, ctx = nc.batch_norm_forward(x, axis=-1)
    close(y, ty.permute(0, 2, 3, 1), dtype)
    close(nc.batch_norm_backward(dy, ctx)[0], tx.grad.permute(0, 2, 3, 1), dtype)


def test_the_call_moves_over_by_changing_the_modules_name():
    import inspect

    theirs = list(inspect.signature(torch.nn.functional.batch_norm).parameters.values())
    ours = list(inspect.signature(nc.batch_norm).parameters.values())
    theirs_names = ["x" if p.name == "input" else p.name for p in theirs]
    ours_positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert ours_positional[0] == theirs_names[0]
    assert set(theirs_names) == set(ours_positional)
    assert ours_positional == theirs_names
    defaults = {p.name: p.default for p in theirs}
    for p in ours[3:8]:
        assert p.default == defaults[p.name], p.name
