"""Running statistics by hand: what is learned from a batch, when nothing is, and nobody's np.seterr in between."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc
from normcore._plan import Operands
from normcore._planners import PLANNERS
from normcore._running import running_update

TWO = np.array([[1.0, 2.0], [3.0, 6.0]])  # means 2 and 4, unbiased variances 2 and 8
# (2, 3, 2): means 2, 2, 5 and 8, 1, 8; unbiased variances 2, 8, 0 and 8, 0, 2
SAMPLES = np.array([[[1.0, 3.0], [0.0, 4.0], [5.0, 5.0]], [[6.0, 10.0], [1.0, 1.0], [7.0, 9.0]]])


@pytest.fixture(params=["cython", "reference"])
def ours(request):
    """Without Numba, whose loops would be compiled for these few values, and which has no update of its own."""
    with nc.use_backend(request.param):
        yield


@pytest.mark.usefixtures("ours")
def test_a_batch_is_taken_in_with_its_momentum():
    for _ in range(3):  # the first time checked and planned, then by the fast lane
        mean, var = np.array([1.0, -2.0]), np.array([5.0, 1.0])
        nc.batch_norm(TWO, mean, var, training=True, momentum=0.25)
        assert (mean.tolist(), var.tolist()) == ([1.25, -0.5], [4.25, 2.75])
    nc.batch_norm(TWO.T, mean, var, training=True, momentum=0.5, axis=0)
    assert (mean.tolist(), var.tolist()) == ([1.625, 1.75], [3.125, 5.375])


@pytest.mark.usefixtures("ours")
def test_instances_are_averaged_over_the_samples():
    for _ in range(3):
        mean, var = np.array([1.0, -2.0, 0.0]), np.array([5.0, 1.0, 3.0])
        nc.instance_norm(SAMPLES, mean, var, momentum=0.25)
        assert (mean.tolist(), var.tolist()) == ([2.0, -1.125, 1.625], [5.0, 1.75, 2.5])


@pytest.mark.usefixtures("ours")
def test_all_of_a_batch_or_nothing_of_it():
    for momentum, means, variances in ((1, [2.0, 4.0], [2.0, 8.0]), (0, [1.0, -2.0], [5.0, 1.0])):
        mean, var = np.array([1.0, -2.0]), np.array([5.0, 1.0])
        nc.batch_norm_forward(TWO, running_mean=mean, running_var=var, momentum=momentum)
        assert (mean.tolist(), var.tolist()) == (means, variances)


@pytest.mark.usefixtures("ours")
def test_nothing_is_learned_in_inference_and_from_nothing():
    for call, x, options in (
        (nc.batch_norm, TWO, {"training": False}),
        (nc.instance_norm, SAMPLES[:, :2], {"use_input_stats": False}),
        (nc.instance_norm, np.empty((0, 2, 5)), {"use_input_stats": True}),
    ):
        mean, var = np.array([1.0, -2.0]), np.array([5.0, 1.0])
        call(x, mean, var, **options)
        assert (mean.tolist(), var.tolist()) == ([1.0, -2.0], [5.0, 1.0])


@pytest.mark.parametrize(
    ("name", "x", "options"),
    [
        ("batch_norm", TWO, {"training": True, "momentum": 0.25}),
        ("instance_norm", SAMPLES[:, :2], {"use_input_stats": True, "momentum": 0.25}),
    ],
)
def test_all_memory_is_there_before_anything_is_written(name, x, options):
    mean, var = np.array([4.0, -8.0], np.float32), np.array([1.0, 0.0], np.float16)
    update = running_update(*PLANNERS[name](x, mean, var, **options))
    assert update is not None
    assert (update.running_mean is mean, update.running_var is var) == (True, True)
    assert (update.new_mean.tolist(), update.new_var.tolist()) == ([3.0, -6.0], [0.75, 0.0])  # 1 - momentum of the old
    assert (update.batch.shape, update.batch.dtype) == ((2,), np.float64)
    assert (mean.tolist(), var.tolist()) == ([4.0, -8.0], [1.0, 0.0])
    plan, ops = PLANNERS[name](x, **options)
    assert running_update(plan, ops) is None
    assert running_update(plan, Operands(x, running_mean=mean, running_var=var)) is not None


@pytest.mark.usefixtures("ours")
def test_nobody_s_errors_stop_between_mean_and_variance():
    x = np.array([[1e30], [-1e30]])
    mean, var = np.ones(1, np.float32), np.ones(1, np.float32)
    with np.errstate(all="raise"):
        nc.batch_norm(x, mean, var, training=True, momentum=0.25)
    assert (mean.tolist(), var.tolist()) == ([0.75], [np.inf])  # 5e59 is beyond float32
    mean, var = np.full(1, 5e-324), np.full(1, 5e-324)
    with np.errstate(all="raise"):
        nc.batch_norm(np.zeros((2, 1)), mean, var, training=True, momentum=0.25)
    assert (mean.tolist(), var.tolist()) == ([5e-324], [5e-324])  # 0.75 of the smallest float, rounded
