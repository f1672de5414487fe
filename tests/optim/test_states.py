"""State dicts of optimisers at their edges, defaults as numbers, and the norms that gradients are clipped to."""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
import sys

import numpy as np
import pytest

import normcore as nc
import normcore.optim
from normcore import nn
from normcore.nn import Parameter
from normcore.optim import SGD, Adam, AdamW, Optimizer, _compiled, clip_grad_norm_, decay_groups


def stepped(kind, dtype=np.float64, **options):
    param = Parameter(np.ones(3, dtype))
    optimizer = kind([param], **options)
    param.grad = np.ones(3, dtype)
    optimizer.step()
    return optimizer


class Unreadable:
    """What a tensor that requires gradients is to NumPy."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("requires grad")

    def __float__(self):
        raise RuntimeError("requires grad")


# --- defaults ---------------------------------------------------------------------------------------------------------

DEFAULTS = {
    SGD: {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False},
    Adam: {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False,
    },
    AdamW: {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2, "amsgrad": False, "maximize": False,
    },
    clip_grad_norm_: {"norm_type": 2.0, "error_if_nonfinite": False},
}  # fmt: skip


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_defaults_are_pytorchs(kind):
    parameters = inspect.signature(kind).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == DEFAULTS[kind]


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_an_option_that_is_on_is_shown(kind):
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    assert kind([a], maximize=True).maximize is True
    assert repr(kind([a], maximize=True)).endswith("maximize=True)")
    assert repr(kind([{"params": [a], "maximize": True}, {"params": [b]}])).endswith("maximize=[True, False])")
    assert "maximize" not in repr(kind([a]))
    assert "amsgrad=True" in repr(Adam([a], amsgrad=True, maximize=True))
    assert repr(Adam([a], maximize=True)).endswith("weight_decay=0.0, maximize=True)")


def test_maximize_reaches_adamw():
    optimizer = stepped(AdamW, maximize=True, lr=0.5, weight_decay=0.0)
    np.testing.assert_allclose(optimizer.params[0].data, 1.5, rtol=1e-7)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.99, 0.999), 0.9, None, "abc"])
def test_betas_are_a_pair(betas):
    with pytest.raises(ValueError, match=r"^Adam: betas must be a pair of numbers, got "):
        Adam([Parameter(np.ones(1))], betas=betas)


# --- the attributes ---------------------------------------------------------------------------------------------------


def test_an_option_is_a_descriptor():
    assert Optimizer.lr is vars(Optimizer)["lr"]
    assert SGD.momentum is vars(SGD)["momentum"]

    class Early(Optimizer):
        option_names = ("power",)

        def __init__(self, params):
            self.lr = 0.1
            super().__init__(params, self.power)

    with pytest.raises(AttributeError, match=r"^Early has no power yet$"):
        Early([Parameter(np.ones(1))])


@pytest.mark.parametrize("backend", ["cython", "reference"])
def test_after_a_step_attributes_are_the_first_groups_again(backend):
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 2.0}])
    a.grad = b.grad = np.ones(1)
    with nc.use_backend(backend):
        optimizer.step()
    assert optimizer.lr == 1.0
    assert [a.data[0], b.data[0]] == [0.0, -1.0]

    class Failing(Optimizer):
        def _update(self, data, grad, state, a, b):  # noqa: ARG002 - the signature of what it overrides
            if self.lr == 2.0:
                raise ArithmeticError

    failing = Failing([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 2.0}], lr=3.0)
    with pytest.raises(ArithmeticError):
        failing.step()
    assert failing.lr == 1.0


def test_options_of_any_group_are_checked_before_a_step_and_put_in_form():
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = Adam([a])
    optimizer.add_param_group({"params": [b]})
    for i in (0, 1):
        optimizer.param_groups[i]["betas"] = [0.5, 0.75]
    a.grad = b.grad = np.ones(1)
    optimizer.step()
    assert [group["betas"] for group in optimizer.param_groups] == [(0.5, 0.75)] * 2
    optimizer.param_groups[1]["eps"] = -1.0
    before = a.data.copy()
    for _ in range(2):  # a refused option stays refused
        with pytest.raises(ValueError, match=r"^Adam: eps must be in \[0, inf\), got -1\.0\.$"):
            optimizer.step()
    assert a.data == before


def test_a_sound_group_is_not_checked_again(monkeypatch):
    optimizer = stepped(SGD)
    optimizer.lr = 0.5
    checked = []
    monkeypatch.setattr(SGD, "_check_options", lambda self, group: checked.append((self, group)))
    for _ in range(3):
        optimizer.step()
    assert len(checked) == 1


# --- state dicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [None, 3, [], {"state": {}, "param_groups": 3}, {"state": {}, "param_groups": [3]}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match='state_dict must hold "state" and one group in "param_groups"'):
        stepped(SGD).load_state_dict(state)


def test_nothing_is_kept_for_a_parameter_without_state():
    state = Adam([Parameter(np.ones(3))]).state_dict()
    state["state"] = {0: {}}
    optimizer = stepped(Adam)
    optimizer.load_state_dict(state)
    assert not optimizer.state
    # PyTorch's SGD without momentum
    plain = stepped(SGD)
    plain.load_state_dict(plain.state_dict() | {"state": {0: {"momentum_buffer": None}}})
    assert not plain.state


def test_none_among_a_state_is_passed_over():
    optimizer = stepped(Adam)
    state = optimizer.state_dict()
    state["state"][0] = {"max_exp_avg_sq": None, **state["state"][0]}
    other = Adam([Parameter(np.ones(3))])
    other.load_state_dict(state)
    assert other.state_dict()["state"][0].keys() == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("step", [0, 1.0, np.int64(7), 2**53, np.array(3.0)])
def test_a_step_is_a_count(step):
    optimizer = stepped(Adam)
    state = optimizer.state_dict()
    state["state"][0]["step"] = step
    optimizer.load_state_dict(state)
    assert optimizer.state_dict()["state"][0]["step"] == int(step)


@pytest.mark.parametrize("step", [-1, 0.5, 2**53 + 2, math.inf, math.nan, [1, 2], "1.5", Unreadable(), 10**400])
def test_a_step_that_is_no_count_is_refused(step):
    optimizer = stepped(Adam)
    state = optimizer.state_dict()
    state["state"][0]["step"] = step
    with pytest.raises(ValueError, match=r"step of parameter 0 must be a whole number from 0 to 2\*\*53, got "):
        optimizer.load_state_dict(state)


def test_a_state_that_numpy_cannot_read_is_refused():
    optimizer = stepped(Adam)
    state = optimizer.state_dict()
    state["state"][0]["exp_avg"] = Unreadable()
    with pytest.raises(ValueError, match=r"^Adam\.load_state_dict: exp_avg of parameter 0 "):
        optimizer.load_state_dict(state)


def test_a_state_is_in_the_dtype_and_order_of_its_parameter():
    param = Parameter(np.asfortranarray(np.ones((2, 3), np.float32)))
    optimizer = Adam([param])
    param.grad = np.ones((2, 3), np.float32)
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["exp_avg"] = np.arange(6.0).reshape(2, 3)
    optimizer.load_state_dict(state)
    loaded = optimizer.state[param]["exp_avg"]
    assert loaded.dtype == np.float32
    assert loaded.flags.f_contiguous
    np.testing.assert_array_equal(loaded, np.arange(6.0).reshape(2, 3))


def test_a_state_is_a_plain_array_whatever_the_parameter_is(tmp_path):
    param = Parameter(np.memmap(tmp_path / "values", np.float64, "w+", shape=3))
    optimizer = Adam([param])
    param.grad = np.ones(3)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert type(optimizer.state[param]["exp_avg"]) is np.ndarray
    optimizer.step()
    np.testing.assert_allclose(param.data, -2e-3, rtol=1e-6)


@pytest.mark.parametrize("name", ["amsgrad", "maximize", "decoupled_weight_decay"])
def test_what_an_optimizer_does_not_do_is_refused(name):
    class Bare(Optimizer):
        def _update(self, data, grad, state, a, b):  # noqa: ARG002 - the signature of what it overrides
            data -= self.lr * grad

    optimizer = stepped(Bare, lr=0.5)
    state = optimizer.state_dict()
    state["param_groups"][0][name] = False
    optimizer.load_state_dict(state)
    state["param_groups"][0][name] = True
    with pytest.raises(ValueError, match=rf"state_dict uses {name}, which is not supported; pass one of Bare\.$"):
        optimizer.load_state_dict(state)
    plain = stepped(AdamW).state_dict()
    plain["param_groups"][0]["decoupled_weight_decay"] = False
    with pytest.raises(ValueError, match=r"state_dict has decoupled_weight_decay=False; pass one of AdamW\.$"):
        stepped(AdamW).load_state_dict(plain)


# --- the compiled steps -----------------------------------------------------------------------------------------------


def test_which_backend_steps():
    with nc.use_backend("cython"):
        assert _compiled.fused() is _compiled._module
    with nc.use_backend("reference"):
        assert _compiled.fused() is None


def test_without_compiled_steps_numpy_takes_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "normcore.optim._fused", None)  # what a missing module is to an import
    monkeypatch.delattr(normcore.optim, "_fused")
    spec = importlib.util.find_spec("normcore.optim._compiled")
    another = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(another)
    with nc.use_backend("cython"):
        assert another.fused() is None
        assert _compiled.fused() is not None


def test_an_optimizer_leaves_subclassing_to_others_too():
    seen = []

    class Registered:
        def __init_subclass__(cls) -> None:
            seen.append(cls)

    class Own(SGD, Registered):
        """Known to both parents."""

    assert seen == [Own]
    assert Own([Parameter(np.ones(2))], lr=0.5).lr == 0.5


@pytest.mark.parametrize("key", ["initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "name"])
def test_a_group_may_hold_what_schedules_leave_there(key):
    optimizer = SGD([{"params": [Parameter(np.ones(2))], key: 0.5}], lr=0.25)
    assert optimizer.param_groups[0][key] == 0.5
    with pytest.raises(ValueError, match=f"not {key}"):
        SGD([{"params": [Parameter(np.ones(2))], f"not {key}": 0.5}], lr=0.25)


@pytest.mark.parametrize("backend", ["cython", "reference"])
@pytest.mark.parametrize("dampening", [-1.0, 0.0, 0.5, 1.0])
def test_dampening_by_hand(backend, dampening):
    param = Parameter(np.zeros(1))
    optimizer = SGD([param], lr=1.0, momentum=0.5, dampening=dampening)
    with nc.use_backend(backend):
        for grad in (4.0, 2.0):
            param.grad = np.array([grad])
            optimizer.step()
    assert param.data[0] == -4.0 - (0.5 * 4.0 + (1 - dampening) * 2.0)


def test_threads_of_a_step():
    with nc.threads(3):
        assert [_compiled.threads(n) for n in (0, 399_999, 400_000, 10**9)] == [1, 1, 3, 3]


# --- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, 4.0, math.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("backend", ["cython", "reference"])
def test_every_norm_by_its_formula(p, dtype, backend):
    rng = np.random.default_rng(2)
    params = [Parameter(np.zeros(shape, dtype)) for shape in ((4, 3), (5,), (), (0, 2))]
    for param in params:
        param.grad = rng.normal(size=param.shape).astype(dtype)
    params[0].grad = np.asfortranarray(params[0].grad)
    values = np.concatenate([param.grad.ravel() for param in params]).astype(np.float64)
    want = np.abs(values).max() if p == math.inf else (np.abs(values) ** p).sum() ** (1 / p)
    before = [param.grad.copy() for param in params]
    with nc.use_backend(backend):
        norm = clip_grad_norm_(params, 0.25, p)
    # a sum of eighteen float64 powers
    np.testing.assert_allclose(norm, want, rtol=1e-14)
    for param, was in zip(params, before, strict=True):
        # multiplied by one factor, rounded to the dtype with it
        np.testing.assert_allclose(param.grad, was * (0.25 / (want + 1e-6)), rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_the_norm_of_nothing_is_zero(p):
    assert clip_grad_norm_([], 1.0, p) == 0.0
    assert clip_grad_norm_([Parameter(np.ones(2))], 1.0, p) == 0.0


def test_the_factor_has_a_millionth_beside_the_norm():
    param = Parameter(np.zeros(1))
    param.grad = np.array([1.0])
    assert clip_grad_norm_([param], 0.5) == 1.0
    assert param.grad[0] == 0.5 / (1.0 + 1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_scales_all_the_same(bad):
    a, b = Parameter(np.zeros(2)), Parameter(np.zeros(2))
    a.grad, b.grad = np.array([bad, 1.0]), np.array([2.0, 3.0])
    with np.errstate(all="raise"):
        norm = clip_grad_norm_([a, b], 1.0)
    np.testing.assert_array_equal(norm, bad)
    np.testing.assert_array_equal(b.grad, [bad * 0, bad * 0] if np.isnan(bad) else [0.0, 0.0])
    a.grad = np.full(2, 1.7e308)
    with np.errstate(all="raise"):
        assert clip_grad_norm_([a], 1.0, 1) == np.inf
    a.grad = b.grad = np.ones(2)
    assert clip_grad_norm_([a, b], 9.0, error_if_nonfinite=True) == 2.0
    with pytest.raises(TypeError, match=r"^clip_grad_norm_: error_if_nonfinite must be True or False, got 'no'\.$"):
        clip_grad_norm_([a], 1.0, error_if_nonfinite="no")


@pytest.mark.parametrize(
    ("scale", "p"),
    [(1e200, 2.0), (1e-200, 2.0), (1e200, 3.0), (1e-200, 3.0), (1e-3, 500.0), (1e3, 500.0), (1e3, 2), (5e-324, 2)],
)
def test_powers_beyond_float64_are_no_norm_of_zero_or_infinity(scale, p):
    values = np.array([3.0, -4.0, 0.0, 4.0])
    a, b = Parameter(np.zeros(3)), Parameter(np.zeros(1))
    a.grad, b.grad = values[:3] * scale, values[3:] * scale
    unit = 4.0 * ((0.75**p + 2.0) ** (1.0 / p)) if scale > 5e-324 else np.sqrt(41.0)
    with np.errstate(all="raise"):
        norm = clip_grad_norm_([a, b], 1.0, p)
    # a product, a power, a sum and a root; of the smallest number there is, whole multiples alone
    np.testing.assert_allclose(norm, unit * scale if scale > 5e-324 else 6 * scale, rtol=1e-15)
    if norm > 1.0:
        np.testing.assert_allclose(a.grad, values[:3] * (scale / (unit * scale + 1e-6)), rtol=1e-15)


def test_a_module_is_not_its_parameters():
    model = nn.Sequential(nn.Linear(2, 2))  # one that can be iterated over
    with pytest.raises(TypeError, match=re.escape("got Sequential; pass model.parameters()")):
        clip_grad_norm_(model, 1.0)


# --- what is decayed --------------------------------------------------------------------------------------------------


def test_biases_vectors_and_normalisations_are_spared():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = Parameter(np.ones((2, 2)))  # by its name
            self.gain = Parameter(np.ones(2))  # by its shape
            self.table = Parameter(np.ones((2, 2)))

    class Norm(Own):
        eps = 1e-5

    own, norm = Own(), Norm()
    decayed, spared = decay_groups(own, 0.1)
    assert decayed["params"] == [own.table]
    assert spared["params"] == [own.bias, own.gain]
    assert [group["weight_decay"] for group in decay_groups(norm, 0.1)] == [0.0]
