"""Parameter groups, decay_groups, clip_grad_norm_: by hand, by laws, and every error message."""

from __future__ import annotations

import copy
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore import nn
from normcore.nn import Parameter
from normcore.optim import SGD, Adam, AdamW, Optimizer, clip_grad_norm_, decay_groups


def parameters(count=4, seed=0):
    rng = np.random.default_rng(seed)
    return [Parameter(rng.normal(size=(i + 1, 2))) for i in range(count)]


def set_gradients(params, seed=1):
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad = rng.normal(size=p.shape)


class TestGroups:
    def test_options_of_a_group_and_of_all(self):
        a, b, c = parameters(3)
        o = SGD([{"params": [a], "lr": 0.5}, {"params": iter([b, c]), "momentum": 0.5, "name": "rest"}], lr=0.1)
        assert [group["lr"] for group in o.param_groups] == [0.5, 0.1]
        assert [group["momentum"] for group in o.param_groups] == [0.0, 0.5]
        assert o.param_groups[1]["name"] == "rest"
        assert o.params == [a, b, c]
        assert repr(o) == (
            "SGD(3 parameters in 2 groups, lr=[0.5, 0.1], momentum=[0.0, 0.5], dampening=0.0, weight_decay=0.0, "
            "nesterov=False)"
        )
        assert o.lr == 0.5  # the first group's
        o.lr = 0.25
        assert [group["lr"] for group in o.param_groups] == [0.25, 0.25]
        o.momentum = 0.75
        assert [group["momentum"] for group in o.param_groups] == [0.75, 0.75]

    @given(
        cut=st.integers(1, 3),
        lr=st.floats(1e-3, 1.0),
        decay=st.floats(0, 0.5),
        kind=st.sampled_from([SGD, Adam, AdamW]),
    )
    def test_groups_are_as_many_optimizers(self, cut, lr, decay, kind):
        together, apart = parameters(), parameters()
        one = kind([{"params": together[:cut], "weight_decay": decay}, {"params": together[cut:], "lr": lr}], lr=0.01)
        two = [kind(apart[:cut], lr=0.01, weight_decay=decay), kind(apart[cut:], lr=lr)]
        for step in range(4):
            set_gradients(together, step)
            set_gradients(apart, step)
            for o in (one, *two):
                o.step()
        for p, q in zip(together, apart, strict=True):
            np.testing.assert_array_equal(p.data, q.data)

    @given(
        kind=st.sampled_from([SGD, Adam, AdamW]), cuts=st.sets(st.integers(1, 5)), steps=st.integers(0, 4),
        lr=st.floats(1e-4, 1.0), decay=st.floats(0.0, 0.5), dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    )  # fmt: skip
    def test_a_state_goes_on_where_it_was(self, kind, cuts, steps, lr, decay, dtype):
        def made(params, lr=lr):
            bounds = [0, *sorted(cuts), 6]
            groups = [{"params": params[i:j]} for i, j in pairwise(bounds)]
            groups[0]["lr"] = lr / 2
            return kind(groups, lr=lr, weight_decay=decay, **({"momentum": 0.9} if kind is SGD else {}))

        straight = [Parameter(p.data.astype(dtype)) for p in parameters(6)]
        one = made(straight)

        def go(o, step):
            set_gradients(o.params, step)
            for p in o.params:
                p.grad = p.grad.astype(dtype)
            o.step()

        for step in range(steps):
            go(one, step)
        resumed = made([Parameter(p.data.copy()) for p in straight], lr=0.5)
        resumed.load_state_dict(one.state_dict())
        twin = copy.deepcopy(one)
        assert repr(resumed) == repr(one) == repr(twin)
        for step in range(3):
            for o in (one, resumed, twin):
                go(o, 100 + step)
        for p, q, r in zip(one.params, resumed.params, twin.params, strict=True):
            np.testing.assert_array_equal(p.data, q.data)
            np.testing.assert_array_equal(p.data, r.data)

    def test_an_optimizer_of_ones_own_has_groups_and_options(self):
        class Scaled(Optimizer):
            option_names = ("factor",)

            def __init__(self, params, lr=0.1, factor=1.0):
                self.factor = float(factor)
                super().__init__(params, lr)

            def _update(self, data, grad, state, a, b):  # noqa: ARG002 - the signature of what it overrides
                data -= self.lr * self.factor * grad

        a, b = Parameter(np.zeros(2)), Parameter(np.zeros(2))
        o = Scaled([{"params": [a], "factor": 2}, {"params": [b], "lr": 0.5}])
        a.grad = b.grad = np.ones(2)
        o.step()
        np.testing.assert_allclose([a.data[0], b.data[0]], [-0.2, -0.5])
        assert o.state_dict()["param_groups"][0] == {"lr": 0.1, "factor": 2.0, "params": [0]}

    @pytest.mark.parametrize(
        ("groups", "error", "message"),
        [
            (lambda p: {"params": p}, TypeError, "SGD: params must be an iterable of parameters, got dict"),
            (
                lambda p: [{"params": p}, p[0]],
                TypeError,
                "SGD: params must hold Parameter objects or only dicts, got Par",
            ),
            (lambda p: [{"param": p}], ValueError, "SGD: a group of params has no \"params\"; it holds 'param'."),
            (lambda _: [{"params": []}], ValueError, "SGD: params is empty; "),
            (lambda p: [{"params": p[0]}], TypeError, "SGD: params must be an iterable of parameters, got Parameter; "),
            (lambda _: [{"params": [1]}], TypeError, "SGD: params must hold Parameter objects, got int; "),
            (lambda p: [{"params": p}, {"params": p[:1]}], ValueError, "SGD: params holds the same Parameter twice; "),
            (
                lambda p: [{"params": p, "weigth_decay": 1}],
                ValueError,
                "SGD: a group of params has 'weigth_decay', which is no option of SGD; it may have lr, momentum, "
                "dampening, weight_decay, nesterov, maximize.",
            ),
            (lambda p: [{"params": p, "lr": -1}], ValueError, "SGD: lr must be in [0, inf), got -1."),
            (lambda p: [{"params": p, "momentum": "x"}], TypeError, "SGD: momentum must be a number, got 'x'."),
            (lambda p: [{"params": p, "nesterov": True}], ValueError, "SGD: nesterov needs momentum above 0 and"),
        ],
    )
    def test_arguments(self, groups, error, message):
        with pytest.raises(error, match=re.escape(message)):
            SGD(groups(parameters(2)))

    def test_a_group_that_is_refused_is_not_added(self):
        a, b = parameters(2)
        o = Adam([a])
        for group, error in (({"params": [a]}, ValueError), ({"params": [b], "eps": -1}, ValueError), (3, TypeError)):
            with pytest.raises(error):
                o.add_param_group(group)
        assert o.params == [a]
        o.add_param_group({"params": [b], "lr": 0.5})
        assert [group["lr"] for group in o.param_groups] == [1e-3, 0.5]

    @pytest.mark.parametrize(
        ("option", "value", "error", "message"),
        [
            ("lr", -1.0, ValueError, "Adam: lr must be in [0, inf), got -1.0."),
            ("lr", "fast", TypeError, "Adam: lr must be a number, got 'fast'."),
            ("betas", (0.5, 2), ValueError, "Adam: betas[1] must be in [0, 1), got 2."),
            ("eps", None, TypeError, "Adam: eps must be a number, got None."),
        ],
    )
    def test_options_set_between_steps_are_checked(self, option, value, error, message):
        params = parameters()
        before = [p.data.copy() for p in params]
        o = Adam([{"params": params[:2]}, {"params": params[2:]}])
        set_gradients(params)
        o.param_groups[1][option] = value
        with pytest.raises(error, match=re.escape(message)):
            o.step()
        for p, was in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.data, was)
        assert not o.state

    def test_a_state_of_other_groups_is_refused(self):
        params = parameters()
        one, two = Adam(params), Adam([{"params": params[:1]}, {"params": params[1:]}])
        with pytest.raises(ValueError, match='must hold "state" and 2 groups in "param_groups"'):
            two.load_state_dict(one.state_dict())
        with pytest.raises(ValueError, match='must hold "state" and one group in "param_groups"'):
            one.load_state_dict(two.state_dict())
        other = Adam([{"params": params[:2]}, {"params": params[2:]}])
        with pytest.raises(ValueError, match="for 1 parameters in group 0, but this optimiser has 2 there"):
            other.load_state_dict(two.state_dict())

    def test_adam_and_adamw_do_not_take_each_others_state(self):
        params = parameters()
        adam, adamw = Adam(params), AdamW(params)
        assert adamw.state_dict()["param_groups"][0]["decoupled_weight_decay"] is True
        with pytest.raises(ValueError, match="uses decoupled_weight_decay, which is not supported; pass one of Adam"):
            adam.load_state_dict(adamw.state_dict())
        state = adam.state_dict()
        state["param_groups"][0]["decoupled_weight_decay"] = False  # as PyTorch's Adam says
        with pytest.raises(ValueError, match="has decoupled_weight_decay=False; pass one of AdamW"):
            adamw.load_state_dict(state)


def test_adamw_by_hand():
    p = Parameter(np.array([1.0, -2.0]))
    o = AdamW([p], lr=0.1, eps=0.0, weight_decay=0.5)
    p.grad = np.array([3.0, 1e-5])
    o.step()  # shrunk by 1 - 0.1 * 0.5, then a first step of lr
    np.testing.assert_allclose(p.data, [0.95 - 0.1, -1.9 - 0.1], rtol=1e-15)
    p.grad = np.zeros(2)
    before = p.data.copy()
    AdamW([p], lr=0.1, weight_decay=0.5).step()  # without a gradient, only the decay
    np.testing.assert_allclose(p.data, before * 0.95, rtol=1e-15)


class TestDecayGroups:
    def test_biases_and_norms_are_spared(self):
        model = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.LayerNorm((2, 3)), nn.RMSNorm((2, 3)), nn.Flatten(),
            nn.Sequential(nn.Linear(6, 2, bias=False)),
        )  # fmt: skip
        decayed, spared = decay_groups(model, 0.1)
        names = {id(p): name for name, p in model.named_parameters()}
        assert [names[id(p)] for p in decayed["params"]] == ["0.weight", "6.0.weight"]
        assert decayed["weight_decay"] == 0.1
        assert spared["weight_decay"] == 0.0
        assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
        SGD([decayed, spared])

    def test_there_is_no_empty_group(self):
        assert len(decay_groups(nn.Linear(3, 2, bias=False), 0.1)) == 1
        assert len(decay_groups(nn.BatchNorm1d(3), 0.1)) == 1
        with pytest.raises(ValueError, match="params is empty"):
            SGD(decay_groups(nn.ReLU(), 0.1))

    def test_only_the_decayed_shrink(self):
        model = nc.MLP([3, 4, 2], seed=0, dtype=np.float64)
        before = model.state_dict()
        o = AdamW(decay_groups(model, 0.5), lr=0.1)
        for p in model.parameters():
            p.grad = np.zeros(p.shape)
        o.step()
        after = model.state_dict()
        for name in before:
            shrunk = name in ("0.weight", "3.weight")
            np.testing.assert_allclose(after[name], before[name] * (0.95 if shrunk else 1), rtol=1e-15, err_msg=name)

    def test_arguments(self):
        model = nn.Linear(2, 2)
        with pytest.raises(TypeError, match=r"decay_groups: model must be a normcore\.nn\.Module, got generator"):
            decay_groups(model.parameters(), 0.1)
        with pytest.raises(ValueError, match=r"decay_groups: weight_decay must be in \[0, inf\), got -1"):
            decay_groups(model, -1)


class TestClipping:
    def test_by_hand(self):
        a, b, c = (Parameter(np.zeros(2)) for _ in range(3))
        a.grad, b.grad = np.array([3.0, 0.0]), np.array([0.0, 4.0])
        assert clip_grad_norm_([a, b, c], 10) == 5.0
        np.testing.assert_array_equal(a.grad, [3, 0])
        assert clip_grad_norm_(iter([a, b, c]), 1.0) == 5.0
        np.testing.assert_allclose(a.grad, [0.6, 0], rtol=1e-6)
        np.testing.assert_allclose(b.grad, [0, 0.8], rtol=1e-6)
        assert c.grad is None
        assert clip_grad_norm_(c, 1.0) == 0.0
        assert clip_grad_norm_([], 1.0) == 0.0
        a.grad = np.array([-3.0, 2.0])
        assert clip_grad_norm_(a, 9, 1) == 5.0
        assert clip_grad_norm_(a, 9, np.inf) == 3.0

    @given(seed=st.integers(0, 99), max_norm=st.floats(1e-6, 100), scale=st.floats(1e-3, 1e3))
    def test_afterwards_the_norm_is_at_most_that(self, seed, max_norm, scale):
        params = parameters(seed=seed)
        for p in params:
            p.grad = p.data * scale
        before = [p.grad.copy() for p in params]
        norm = clip_grad_norm_(params, max_norm)
        after = clip_grad_norm_(params, np.float64(1e9))
        assert after <= max_norm * (1 + 1e-12) or after == norm
        for p, was in zip(params, before, strict=True):  # the direction is kept
            np.testing.assert_allclose(p.grad * norm, was * after, rtol=1e-12)

    def test_norms_beyond_the_dtype(self):
        for dtype, size in ((np.float32, 1e30), (np.float16, 6e4)):
            p = Parameter(np.zeros(4, dtype))
            p.grad = np.full(4, size, dtype)
            assert clip_grad_norm_([p], 1.0) == pytest.approx(2 * size, rel=1e-3)
            # float16 holds 0.5 to half of 2**-11
            np.testing.assert_allclose(p.grad, 0.5, rtol=1e-3)

    def test_what_is_not_finite_can_be_an_error(self):
        params = parameters()
        set_gradients(params)
        params[1].grad[0, 0] = np.nan
        before = [p.grad.copy() for p in params]
        message = (
            "clip_grad_norm_: the norm of the gradients is nan; look for the layer whose gradient is not finite, or "
            "pass error_if_nonfinite=False to scale by it all the same."
        )
        with pytest.raises(RuntimeError, match=re.escape(message)):
            clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
        for p, was in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.grad, was)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (
                (nn.Linear(1, 1), 1.0),
                TypeError,
                "clip_grad_norm_: parameters must be an iterable of parameters, got Lin",
            ),
            ((3, 1.0), TypeError, "clip_grad_norm_: parameters must be an iterable of parameters, got int; "),
            (([3], 1.0), TypeError, "clip_grad_norm_: parameters must hold Parameter objects, got int; "),
            (([], -1.0), ValueError, "clip_grad_norm_: max_norm must be in [0, inf), got -1.0."),
            (([], "1"), TypeError, "clip_grad_norm_: max_norm must be a number, got '1'."),
            (([], 1.0, 0), ValueError, "clip_grad_norm_: norm_type must be above 0, or inf, got 0."),
            (([], 1.0, "2"), ValueError, "clip_grad_norm_: norm_type must be above 0, or inf, got '2'."),
        ],
    )
    def test_arguments(self, arguments, error, message):
        with pytest.raises(error, match=re.escape(message)):
            clip_grad_norm_(*arguments)
