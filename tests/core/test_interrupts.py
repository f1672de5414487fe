"""Ctrl-C in a large call: Python looks for it as the kernel returns; what belongs to the result is written then too."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import normcore as nc
from normcore import _dispatch, _lane

X = np.random.default_rng(0).normal(size=(5, 3, 4, 2)).astype(np.float32)
CALLS = {
    "batch_norm": lambda mean, var, out: nc.batch_norm(X, mean, var, training=True, out=out),
    "instance_norm": lambda mean, var, out: nc.instance_norm(X, mean, var, out=out),
}
ROOMS = {  # of the result; the second is copied to when the kernel has ended
    "as it is walked": lambda: np.zeros_like(X),
    "in another order": lambda: np.zeros(X.shape[::-1], X.dtype).T,
}


@pytest.fixture(params=["cython", "numba"])
def compiled(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="Numba, the optional backend's compiler, is not installed")
    with nc.use_backend(request.param):
        yield


@pytest.fixture
def interrupted(monkeypatch):
    """Exceptions from kernels, before they begin or as they return, as the handlers of signals raise them."""
    kernels = _dispatch._kernels

    def interrupt(error, begins=True):
        def call(name, backend, dtype):
            def kernel(*args):
                if begins:
                    getattr(kernels(backend, dtype), name)(*args)
                raise error

            return kernel

        def those(backend, dtype):
            return SimpleNamespace(
                **{name: call(name, backend, dtype) for name in ("channels_forward", "rows_forward")}
            )

        monkeypatch.setattr(_dispatch, "_kernels", those)
        monkeypatch.setattr(_lane, "forward", lambda *_: None)  # the fast lane is one call from beginning to end

    return interrupt


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError()], ids=repr)
def test_the_result_and_the_running_statistics_are_written_both(interrupted, call, room, error):
    mean, var, out = np.zeros(3), np.ones(3), room()
    call(mean, var, out)
    interrupted(error)
    again = np.zeros(3), np.ones(3), room()
    with pytest.raises(type(error)):
        call(*again)
    for found, expected in zip(again, (mean, var, out), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert out.any()
    assert mean.all()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_or_neither(interrupted, call, room):
    interrupted(MemoryError(), begins=False)
    mean, var, out = np.zeros(3), np.ones(3), room()
    with pytest.raises(MemoryError):
        call(mean, var, out)
    assert not mean.any()
    assert (var == 1).all()
    assert not out.any()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("comes", ["before", "after"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError()], ids=repr)
def test_a_layer_counts_a_batch_that_its_statistics_have(monkeypatch, momentum, comes, error):
    layer = nc.nn.BatchNorm2d(3, momentum=momentum)
    layer(X)
    before = layer.state_dict()
    function = nc.nn.batchnorm.batch_norm_forward

    def interrupted(*args, **options):
        if comes == "after":
            function(*args, **options)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(nc.nn.batchnorm, "batch_norm_forward", interrupted)
        with pytest.raises(type(error)):
            layer(2 * X)
    taken_in = comes == "after" and momentum is not None  # of an average they are taken in after the call
    other = nc.nn.BatchNorm2d(3, momentum=momentum)
    other.load_state_dict(before)
    if taken_in:
        other(2 * X)
    assert layer.num_batches_tracked == 1 + taken_in
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(layer.state_dict()[name], value, err_msg=name)
