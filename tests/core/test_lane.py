"""The fast lane: a second call is not planned again and gives the same; every option tells calls apart."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc
from normcore import _dispatch, _lane, _planners
from normcore._context import NormContext

pytestmark = pytest.mark.skipif(_lane.forward is _lane.backward, reason="the fast lane is not compiled here")

RUNNING = {"running_mean": np.array([0.5, -1.0, 2.0]), "running_var": np.array([1.5, 0.25, 3.0])}
# each function, and in which mode: the shape of an x, what it is told besides, and the options, none of them the
# default; an eps of its own for each, as batch_norm and batch_norm_forward learn for each other
CALLS = {
    "batch_norm training": ((4, 3, 5), {**RUNNING, "training": True, "momentum": 0.25, "eps": 1e-3, "axis": -2}),
    "batch_norm": ((4, 3, 5), {**RUNNING, "training": False, "momentum": 0.25, "eps": 2e-3, "axis": -2}),
    "batch_norm_forward training": (
        (4, 3, 5),
        {**RUNNING, "training": True, "momentum": 0.25, "eps": 3e-3, "axis": -2, "activation": "relu"},
    ),
    "batch_norm_forward": (
        (4, 3, 5),
        {**RUNNING, "training": False, "momentum": 0.25, "eps": 4e-3, "axis": -2, "activation": "relu"},
    ),
    "layer_norm": ((4, 5, 3), {"normalized_shape": 3, "eps": 3e-3}),
    "layer_norm_forward": ((4, 5, 3), {"normalized_shape": (3,), "eps": 4e-3, "activation": "silu"}),
    "rms_norm": ((4, 5, 3), {"normalized_shape": 3, "eps": 5e-3}),
    "rms_norm_forward": ((4, 5, 3), {"normalized_shape": (3,), "eps": 6e-3, "activation": "silu"}),
    "group_norm": ((4, 3, 5), {"num_groups": 3, "eps": 7e-3}),
    "group_norm_forward": ((4, 3, 5), {"num_groups": 3, "eps": 8e-3, "activation": "silu"}),
    "instance_norm training": ((4, 3, 5), {"use_input_stats": True, "momentum": 0.25, "eps": 5e-3}),
    "instance_norm": ((4, 3, 5), {**RUNNING, "use_input_stats": False, "momentum": 0.25, "eps": 6e-3}),
    "instance_norm_forward training": (
        (4, 3, 5),
        {"use_input_stats": True, "momentum": 0.25, "eps": 7e-3, "activation": "relu"},
    ),
    "instance_norm_forward": (
        (4, 3, 5),
        {**RUNNING, "use_input_stats": False, "momentum": 0.25, "eps": 8e-3, "activation": "relu"},
    ),
}
OTHERS = {
    "training": (True, False), "use_input_stats": (True, False), "momentum": (0.5,), "eps": (0.5,), "axis": (1,),
    "activation": (None, "tanh"), "normalized_shape": (3, (3,), [3]), "num_groups": (1,),
}  # fmt: skip


class PlannedError(Exception):
    """The call went the general way."""


def refuse(*arguments, **options):
    raise PlannedError(arguments, options)


def arrays(call, seed):
    """x, and the keyword arguments, whose arrays are new."""
    shape, options = CALLS[call]
    rng = np.random.default_rng(seed)
    options = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in options.items()}
    options["weight"] = rng.uniform(0.5, 2.0, 3)
    if "rms" not in call:
        options["bias"] = rng.standard_normal(3)
    options["out"] = np.empty(shape)
    return rng.standard_normal(shape) + 3.0, options


def flat(result):
    """All numbers of a result."""
    parts = result if isinstance(result, tuple) else (result,)
    for part in parts:
        if isinstance(part, NormContext):
            yield from (part.x, part.weight, part.mean, part.rstd)
        else:
            yield part


@pytest.mark.parametrize("call", CALLS)
def test_a_second_call_is_not_planned_and_gives_the_same(call, monkeypatch):
    name = call.partition(" ")[0]
    function, planner = getattr(nc, name), _planners.PLANNERS[name]
    x, options = arrays(call, 0)
    function(x, **options)
    x, options = arrays(call, 1)
    want = _dispatch.forward(*planner(x, **options))
    want = want if name.endswith("forward") else want[0]
    want = [value.copy() for value in flat(want)]
    running = [options[key] for key in RUNNING if key in options]
    monkeypatch.setattr(_planners, name, refuse)
    x, again = arrays(call, 1)
    got = function(x, **again)
    assert (got[0] if name.endswith("forward") else got) is again["out"]
    for one, other in zip(flat(got), want, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip([again[key] for key in RUNNING if key in again], running, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("call", CALLS)
def test_another_option_is_planned(call, monkeypatch):
    name = call.partition(" ")[0]
    function = getattr(nc, name)
    x, options = arrays(call, 0)
    for _ in range(2):
        function(x, **options)
    monkeypatch.setattr(_planners, name, refuse)
    function(x, **options)
    for key, values in OTHERS.items():
        for value in values:
            if key in options and (value != options[key] or type(value) is not type(options[key])):
                with pytest.raises(PlannedError) as caught:
                    function(x, **(options | {key: value}))
                told, kept = caught.value.args
                assert kept.get(key, value) == value  # by keyword, or among the others
                assert key in kept or any(part is value for part in told)
    for other in (x.astype(np.float32), x[:2], x[..., None]):
        with pytest.raises(PlannedError):
            function(other, **(options | {"out": None}))


@pytest.mark.parametrize("call", [call for call in CALLS if "forward" in call])
def test_backward_is_not_planned_and_gives_the_same(call, monkeypatch):
    name = call.partition(" ")[0]
    backward = name.replace("forward", "backward")
    x, options = arrays(call, 2)
    dy = np.random.default_rng(3).standard_normal(x.shape)
    for _ in range(2):
        _, ctx = getattr(nc, name)(x, **options)
    want = _dispatch.backward(*_planners.PLANNERS[backward](dy, ctx), ctx)
    monkeypatch.setattr(_planners, backward, refuse)
    out = np.empty_like(dy)
    got = getattr(nc, backward)(dy, ctx, out=out)
    assert got[0] is out
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(PlannedError):
        getattr(nc, backward)(dy.astype(np.float32), ctx)
