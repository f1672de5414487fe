"""SGD and Adam against their published formulas in float64, their state dicts, and every error message."""

from __future__ import annotations

import copy
import pickle
import re
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

import normcore as nc
from normcore import nn
from normcore.nn import Parameter
from normcore.optim import SGD, Adam, Optimizer

SHAPES = [(4, 3), (4,), (1, 1)]


def parameters(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [Parameter(rng.normal(size=shape).astype(dtype)) for shape in SHAPES]


def set_gradients(params, step):
    rng = np.random.default_rng([7, step])
    for p in params:
        p.grad = rng.normal(size=p.shape).astype(p.dtype)


def sgd_formula(p, grads, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    """Sutskever et al. 2013 as PyTorch writes it: velocity without the learning rate."""
    velocity = None
    for grad in grads:
        g = (-grad if maximize else grad) + weight_decay * p
        velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
        p = p - lr * (g + momentum * velocity if nesterov else velocity if momentum else g)
    return p


def adam_formula(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False):
    """Kingma & Ba 2015, algorithm 1; with amsgrad Reddi et al. 2018, algorithm 2, as PyTorch corrects it."""
    m = v = largest = 0.0
    for t, grad in enumerate(grads, 1):
        g = (-grad if maximize else grad) + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = np.maximum(largest, v) if amsgrad else v
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(largest / (1 - betas[1] ** t)) + eps)
    return p


CASES = {
    "sgd": (SGD, sgd_formula, {}),
    "decay": (SGD, sgd_formula, {"weight_decay": 0.1}),
    "momentum": (SGD, sgd_formula, {"momentum": 0.9}),
    "dampening": (SGD, sgd_formula, {"momentum": 0.9, "dampening": 0.4, "weight_decay": 0.02}),
    "nesterov": (SGD, sgd_formula, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    "adam": (Adam, adam_formula, {}),
    "adam decay": (Adam, adam_formula, {"weight_decay": 0.1, "betas": (0.5, 0.7), "eps": 1e-3}),
    "adam betas 0": (Adam, adam_formula, {"betas": (0.0, 0.0)}),
    "amsgrad": (Adam, adam_formula, {"amsgrad": True, "betas": (0.5, 0.2)}),
    "maximize adam": (Adam, adam_formula, {"maximize": True, "amsgrad": True, "weight_decay": 0.1}),
    "maximize": (SGD, sgd_formula, {"maximize": True, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
}
cases = pytest.mark.parametrize(("kind", "formula", "options"), CASES.values(), ids=CASES)


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_formula(kind, formula, options, dtype):
    params = parameters(dtype=dtype)
    starts, grads = [p.data.astype(np.float64) for p in params], []
    arrays = [p.data for p in params]
    optimizer = kind(params, lr=0.05, **options)
    for step in range(12):
        set_gradients(params, step)
        grads.append([p.grad.copy() for p in params])
        optimizer.step()
        for p, grad in zip(params, grads[-1], strict=True):
            np.testing.assert_array_equal(p.grad, grad)  # left alone
    for i, p in enumerate(params):
        expected = formula(starts[i], [g[i].astype(np.float64) for g in grads], 0.05, **options)
        np.testing.assert_allclose(p.data, expected, **tol(dtype, kind="trajectory"))
        assert p.data is arrays[i]  # in place


def test_by_hand():
    p = Parameter(np.array([1.0]))
    optimizer = SGD([p], lr=0.5, momentum=0.5)
    for grad, expected in ((2.0, 0.0), (1.0, -1.0), (0.0, -1.5)):  # velocities 2, 2, 1
        p.grad = np.array([grad])
        optimizer.step()
        assert p.data[0] == expected

    p = Parameter(np.array([1.0, -1.0]))
    optimizer = Adam([p], lr=0.1, eps=0.0)
    p.grad = np.array([1e-6, -1e6])
    optimizer.step()  # the first step is lr long, whatever the gradient
    np.testing.assert_allclose(p.data, [0.9, -0.9], rtol=1e-15)


def test_amsgrad_by_hand():
    p = Parameter(np.array([0.0]))
    optimizer = Adam([p], lr=1.0, betas=(0.0, 0.5), eps=0.0, amsgrad=True)
    # v is 8, 4.5, 2.75, and the largest of them 8; corrected by 1/2, 3/4, 7/8
    expected = 0.0
    for grad, largest, correction in ((4.0, 8.0, 0.5), (1.0, 8.0, 0.75), (1.0, 8.0, 0.875)):
        p.grad = np.array([grad])
        optimizer.step()
        expected -= grad / np.sqrt(largest / correction)
        np.testing.assert_allclose(p.data, expected, rtol=1e-15)


@cases
@pytest.mark.parametrize("backend", ["cython", "reference"])
def test_maximising_is_minimising_the_negative(kind, formula, options, backend):
    del formula
    options = {name: value for name, value in options.items() if name != "maximize"}
    climbing, other = parameters(), parameters()
    with nc.use_backend(backend):
        one, two = kind(climbing, maximize=True, **options), kind(other, **options)
        for step in range(5):
            set_gradients(climbing, step)
            for p, q in zip(climbing, other, strict=True):
                q.grad = -p.grad
            one.step()
            two.step()
    for p, q in zip(climbing, other, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("backend", ["cython", "reference"])
def test_amsgrad_switched_on_later_begins_with_the_v_of_then(backend):
    params, twins = parameters(), parameters()
    with nc.use_backend(backend):
        optimizer, plain = Adam(params, betas=(0.5, 0.5)), Adam(twins, betas=(0.5, 0.5))
        for step in range(4):
            set_gradients(params, step)
            set_gradients(twins, step)
            if step == 2:
                optimizer.amsgrad = True
                again = Adam(params)
                again.load_state_dict(optimizer.state_dict())  # also where there is no largest v yet
                optimizer = again
            optimizer.step()
            plain.step()
            if step == 2:
                for p, q in zip(params, twins, strict=True):
                    np.testing.assert_array_equal(p.data, q.data)
                    np.testing.assert_array_equal(optimizer.state[p]["max_exp_avg_sq"], plain.state[q]["exp_avg_sq"])
    assert any((p.data != q.data).any() for p, q in zip(params, twins, strict=True))


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_state_from_before_there_were_amsgrad_and_maximize_loads(kind):
    params = parameters()
    optimizer = kind(params, maximize=True)
    state = kind(parameters()).state_dict()
    for name in ("amsgrad", "maximize"):
        state["param_groups"][0].pop(name, None)
    optimizer.load_state_dict(state)
    assert optimizer.maximize is False


@given(scale=st.sampled_from([2.0**-20, 0.5, 2.0, 2.0**20]), lr=st.floats(1e-4, 1.0), seed=st.integers(0, 100))
def test_adam_does_not_feel_the_scale_of_the_loss(scale, lr, seed):
    results = []
    for factor in (1.0, scale):
        params = parameters(seed)
        optimizer = Adam(params, lr=lr, eps=0.0)
        for step in range(3):
            set_gradients(params, step)
            for p in params:
                p.grad *= factor
            optimizer.step()
        results.append(params)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.data, b.data, **tol(np.float64, kind="trajectory"))


@cases
def test_a_parameter_without_gradient_is_left_alone(kind, formula, options):
    params = parameters()
    before = params[1].data.copy()
    optimizer = kind(params, **options)
    set_gradients(params, 0)
    params[1].zero_grad()
    optimizer.step()
    np.testing.assert_array_equal(params[1].data, before)
    assert 1 not in optimizer.state_dict()["state"]
    # it then starts as new: Adam's bias correction counts its own steps
    grads = []
    for step in (1, 2):
        set_gradients(params, step)
        grads.append(params[1].grad.copy())
        optimizer.step()
    np.testing.assert_allclose(params[1].data, formula(before, grads, 1e-3, **options), rtol=1e-13)


@cases
def test_state_goes_on_where_it_was(kind, formula, options, tmp_path):
    del formula
    straight, first = parameters(), parameters()
    one = kind(straight, lr=0.05, **options)
    two = kind(first, lr=0.05, **options)
    for step in range(3):
        for params, optimizer in ((straight, one), (first, two)):
            set_gradients(params, step)
            optimizer.step()
    second = [Parameter(p.data.copy()) for p in first]
    (tmp_path / "state").write_bytes(pickle.dumps(two.state_dict()))
    resumed = kind(second, lr=1.0)  # options come with the state
    resumed.load_state_dict(pickle.loads((tmp_path / "state").read_bytes()))
    assert repr(resumed) == repr(two)
    for step in range(3, 6):
        for params, optimizer in ((straight, one), (second, resumed)):
            set_gradients(params, step)
            optimizer.step()
    for a, b in zip(straight, second, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


class TestStateDict:
    def test_layout_is_pytorchs(self):
        params = parameters()
        optimizer = Adam(params)
        assert optimizer.state_dict() == {
            "state": {},
            "param_groups": [
                {
                    "lr": 1e-3,
                    "betas": (0.9, 0.999),
                    "eps": 1e-8,
                    "weight_decay": 0.0,
                    "amsgrad": False,
                    "maximize": False,
                    "params": [0, 1, 2],
                }
            ],
        }
        set_gradients(params, 0)
        optimizer.step()
        state = optimizer.state_dict()["state"]
        assert list(state) == [0, 1, 2]
        assert list(state[0]) == ["step", "exp_avg", "exp_avg_sq"]
        assert state[0]["step"] == 1
        assert state[0]["exp_avg"].shape == (4, 3)
        assert SGD(params, momentum=0.5).state_dict()["param_groups"] == [
            {
                "lr": 1e-3,
                "momentum": 0.5,
                "dampening": 0.0,
                "weight_decay": 0.0,
                "nesterov": False,
                "maximize": False,
                "params": [0, 1, 2],
            }
        ]

    def test_holds_copies_both_ways(self):
        params = parameters()
        optimizer = Adam(params)
        set_gradients(params, 0)
        optimizer.step()
        saved, reference = optimizer.state_dict(), optimizer.state_dict()
        other = Adam(parameters())
        other.load_state_dict(saved)
        saved["state"][0]["exp_avg"][...] = 99
        for copied in (optimizer, other):
            np.testing.assert_array_equal(copied.state_dict()["state"][0]["exp_avg"], reference["state"][0]["exp_avg"])

    def broken(self, change):
        params = parameters()
        optimizer = Adam(params, lr=0.25)
        set_gradients(params, 0)
        optimizer.step()
        state = optimizer.state_dict()
        change(state)
        return optimizer, state

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("state"), 'state_dict must hold "state" and one group in "param_groups"'),
            (lambda s: s["param_groups"].append({}), 'state_dict must hold "state" and one group in "param_groups"'),
            (lambda s: s.update(state=None), 'state_dict must hold "state" and one group in "param_groups"'),
            (
                lambda s: s["param_groups"][0]["params"].pop(),
                "state_dict is for 2 parameters, but this optimiser has 3.",
            ),
            (lambda s: s["param_groups"][0].pop("betas"), "state_dict has no betas; pass one of Adam."),
            (
                lambda s: s["param_groups"][0].update(amsgrad="yes"),
                "Adam: amsgrad must be True or False, got 'yes'.",
            ),
            (
                lambda s: s["param_groups"][0].update(amsgrad=True) or s["state"][1].update(max_exp_avg_sq=-np.ones(4)),
                "max_exp_avg_sq of parameter 1 has negative values, such as -1.",
            ),
            (
                lambda s: s["param_groups"][0].update(decoupled_weight_decay=True),
                "state_dict uses decoupled_weight_decay, which is not supported; pass one of Adam.",
            ),
            (lambda s: s["param_groups"][0].update(eps=-1.0), "Adam: eps must be in [0, inf), got -1.0."),
            (
                lambda s: s["state"][2].update(exp_avg=np.zeros(2)),
                "exp_avg of parameter 2 has shape (2,), expected (1, 1).",
            ),
            (
                lambda s: s["state"][1].update(momentum_buffer=np.zeros(4)),
                "state of parameter 1 has momentum_buffer, which Adam does not use; pass the state of Adam.",
            ),
            (lambda s: s["state"][1].pop("exp_avg_sq"), "state of parameter 1 has no exp_avg_sq; "),
            (lambda s: s["state"][1].pop("step"), "state of parameter 1 has no step; "),
            (lambda s: s["state"][1].update(step=-3), "step of parameter 1 must be a whole number from 0 to 2**53"),
            (lambda s: s["state"][1].update(step=1.5), "step of parameter 1 must be a whole number from 0 to 2**53"),
            (lambda s: s["state"][1].update(step="two"), "from 0 to 2**53, got 'two'."),
            (lambda s: s["state"][1].update(step=10**5000), "from 0 to 2**53, got an int of 16610 bits."),
            (
                lambda s: s["state"][1].update(exp_avg=np.array(list("abcd"))),
                "exp_avg of parameter 1 has dtype <U1, expected float64.",
            ),
            (
                lambda s: s["state"][1].update(exp_avg=np.ma.zeros(4)),
                "exp_avg of parameter 1 is a masked array, whose mask would be ignored; pass its filled(value).",
            ),
            (
                lambda s: s["state"][1].update(exp_avg_sq=np.array([1.0, -2, 3, 4])),
                "exp_avg_sq of parameter 1 has negative values, such as -2.",
            ),
            (
                lambda s: s["state"].update({7: s["state"][0]}),
                "state_dict has state of parameter 7, but numbers its parameters [0, 1, 2]; pass what state_dict() ret",
            ),
            (
                lambda s: (
                    s["param_groups"][0].update(
                        params=[0, 1, 1],
                    )
                    or s["state"].pop(2)
                ),
                "state_dict numbers its parameters [0, 1, 1]; ",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused_and_nothing_changed(self, change, message):
        optimizer, state = self.broken(change)
        state["param_groups"][0]["lr"] = 0.75
        before = copy.deepcopy(optimizer.state_dict())
        with pytest.raises(ValueError, match=re.escape(message)):
            optimizer.load_state_dict(state)
        after = optimizer.state_dict()
        assert after["param_groups"] == before["param_groups"]
        for i, entry in before["state"].items():
            for name, value in entry.items():
                np.testing.assert_array_equal(after["state"][i][name], value)

    def test_what_does_not_fit_into_the_dtype_is_refused(self):
        params = parameters(dtype=np.float32)
        optimizer = Adam(params)
        set_gradients(params, 0)
        optimizer.step()
        state = optimizer.state_dict()
        state["state"][1]["exp_avg"] = np.array([0, 1, -1e300, 2])
        with pytest.raises(ValueError, match=r"exp_avg of parameter 1 has values beyond float32, such as 1e\+300\.$"):
            optimizer.load_state_dict(state)

    def test_of_another_optimizer(self):
        with pytest.raises(ValueError, match=r"^Adam.load_state_dict: state_dict has no betas; pass one of Adam\.$"):
            Adam(parameters()).load_state_dict(SGD(parameters()).state_dict())


class TestArguments:
    def test_defaults(self):
        assert (
            repr(Adam(parameters())) == "Adam(3 parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)"
        )
        assert repr(SGD(parameters())) == (
            "SGD(3 parameters, lr=0.001, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False)"
        )

    @pytest.mark.parametrize(
        ("kind", "options", "error", "message"),
        [
            (SGD, {"lr": -1}, ValueError, "SGD: lr must be in [0, inf), got -1."),
            (Adam, {"lr": np.inf}, ValueError, "Adam: lr must be in [0, inf), got inf."),
            (SGD, {"lr": 10**400}, ValueError, "SGD: lr must be in [0, inf), got an int of 1329 bits."),
            (Adam, {"eps": -(10**5000)}, ValueError, "Adam: eps must be in [0, inf), got an int of 16610 bits."),
            (SGD, {"lr": "fast"}, TypeError, "SGD: lr must be a number, got 'fast'."),
            (SGD, {"lr": True}, TypeError, "SGD: lr must be a number, got True."),
            (SGD, {"momentum": -0.1}, ValueError, "SGD: momentum must be in [0, inf), got -0.1."),
            (SGD, {"dampening": np.nan}, ValueError, "SGD: dampening must be in (-inf, inf), got nan."),
            (SGD, {"weight_decay": -1}, ValueError, "SGD: weight_decay must be in [0, inf), got -1."),
            (
                SGD,
                {"nesterov": True},
                ValueError,
                "SGD: nesterov needs momentum above 0 and dampening 0, got momentum=0.0 and dampening=0.0.",
            ),
            (
                SGD,
                {"nesterov": True, "momentum": 0.5, "dampening": 0.1},
                ValueError,
                "SGD: nesterov needs momentum above 0 and dampening 0, got momentum=0.5 and dampening=0.1.",
            ),
            (Adam, {"betas": (0.9, 1.0)}, ValueError, "Adam: betas[1] must be in [0, 1), got 1.0."),
            (Adam, {"betas": (-0.1, 0.5)}, ValueError, "Adam: betas[0] must be in [0, 1), got -0.1."),
            (Adam, {"betas": 0.9}, ValueError, "Adam: betas must be a pair of numbers, got 0.9."),
            (Adam, {"eps": -1e-8}, ValueError, "Adam: eps must be in [0, inf), got -1e-08."),
            (Adam, {"weight_decay": None}, TypeError, "Adam: weight_decay must be a number, got None."),
            (Adam, {"amsgrad": "no"}, TypeError, "Adam: amsgrad must be True or False, got 'no'."),
            (Adam, {"maximize": 1}, TypeError, "Adam: maximize must be True or False, got 1."),
            (SGD, {"maximize": None}, TypeError, "SGD: maximize must be True or False, got None."),
            (
                SGD,
                {"nesterov": "False", "momentum": 0.5},
                TypeError,
                "SGD: nesterov must be True or False, got 'False'.",
            ),
        ],
    )
    def test_options(self, kind, options, error, message):
        with pytest.raises(error) as caught:
            kind(parameters(), **options)
        assert str(caught.value) == message

    def test_parameters(self):
        model = nn.Linear(2, 3)
        for params, error, message in [
            (model, TypeError, "SGD: params must be an iterable of parameters, got Linear; pass model.parameters()."),
            (model.weight, TypeError, "params must be an iterable of parameters, got Parameter; "),
            (3, TypeError, "params must be an iterable of parameters, got 3; pass model.parameters()."),
            (model.state_dict(), TypeError, "must be an iterable of parameters, got dict; pass model.parameters()."),
            ([], ValueError, "params is empty; pass model.parameters() of a model that has some (an iterator"),
            (nn.ReLU().parameters(), ValueError, "params is empty"),
            ([np.ones(2)], TypeError, "params must hold Parameter objects, got ndarray; pass model.parameters()."),
            ([{"params": []}], ValueError, "params is empty; "),
            ([model.bias, model.bias], ValueError, "params holds the same Parameter twice; pass each one once."),
        ]:  # fmt: skip
            with pytest.raises(error) as caught:
                SGD(params)
            assert message in str(caught.value)

    def test_lr_may_be_set_between_steps(self):
        p = Parameter(np.zeros(1))
        optimizer = SGD([p], lr=1.0)
        for lr in (1, 0.5, np.float32(0.25)):
            optimizer.lr = lr
            p.grad = np.ones(1)
            optimizer.step()
        assert p.data[0] == -1.75
        with pytest.raises(ValueError, match=r"SGD: lr must be in \[0, inf\), got -1"):
            optimizer.lr = -1
        assert optimizer.lr == 0.25


def test_a_gradient_of_another_shape_changes_no_parameter():
    params = parameters()
    before = [p.data.copy() for p in params]
    optimizer = SGD(params)
    set_gradients(params, 0)
    params[2].grad = np.ones(3)
    with pytest.raises(
        ValueError, match=r"SGD.step: a parameter of shape \(1, 1\) has a grad of shape \(3,\); set grad"
    ):
        optimizer.step()
    for p, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, value)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_read_only_parameter_stops_the_step_before_anything_changes(kind):
    params = parameters()
    params[2].data.flags.writeable = False
    before = [p.data.copy() for p in params]
    optimizer = kind(params, lr=0.1)
    set_gradients(params, 0)
    with pytest.raises(ValueError, match=r"step: a parameter of shape \(1, 1\) has data that is read-only; set data"):
        optimizer.step()
    for p, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, value)
    assert not optimizer.state
    params[2].grad = None
    optimizer.step()
    assert np.any(params[0].data != before[0])


def test_zero_grad():
    params = parameters()
    set_gradients(params, 0)
    SGD(params).zero_grad()
    assert all(p.grad is None for p in params)


def test_parameters_of_two_dtypes():
    params = [Parameter(np.zeros(5, np.float32)), Parameter(np.zeros((2, 3)))]
    for optimizer in (SGD(params, momentum=0.9, weight_decay=0.1), Adam(params, weight_decay=0.1)):
        for p in params:
            p.grad = np.ones(p.shape, p.dtype)
        optimizer.step()
        assert [p.dtype for p in params] == [np.float32, np.float64]


def test_an_optimizer_of_ones_own():
    class Sign(Optimizer):
        def _update(self, data, grad, state, a, b):  # noqa: ARG002 - the signature of what it overrides
            data -= self.lr * np.sign(grad)

    p = Parameter(np.zeros(2))
    p.grad = np.array([3.0, -4.0])
    Sign([p], lr=0.5).step()
    np.testing.assert_array_equal(p.data, [-0.5, 0.5])
    with pytest.raises(NotImplementedError):
        Optimizer([p], lr=0.1).step()


class TestTogether:
    """Small parameters are stepped as one array; nobody can tell."""

    KINDS: ClassVar = [(SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}), (Adam, {"weight_decay": 0.1})]

    @pytest.mark.parametrize(("kind", "options"), KINDS)
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_same_bits_as_alone(self, kind, options, dtype):
        shapes = [(4, 3), (4,), (), (1 << 15, 2), (5, 2), (0, 3)]
        rng = np.random.default_rng(0)
        starts = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
        starts[4] = np.asfortranarray(starts[4])
        together, alone = ([Parameter(start.copy(order="K")) for start in starts] for _ in range(2))
        optimizers = [kind(together, **options)], [kind([p], **options) for p in alone]
        for step in range(8):
            missing = {3: {1}, 4: {1, 2}, 6: {0, 3}}.get(step, set())
            for i, shape in enumerate(shapes):
                grad = np.asarray(rng.normal(size=shape), dtype)
                together[i].grad = alone[i].grad = None if i in missing else grad
            for optimizer in (*optimizers[0], *optimizers[1]):
                optimizer.step()
            if step == 5:  # a copy goes on like the original
                together, optimizers[0][:] = (lambda pair: (pair[0], [pair[1]]))(
                    copy.deepcopy((together, optimizers[0][0]))
                )
        for i, (a, b) in enumerate(zip(together, alone, strict=True)):
            np.testing.assert_array_equal(a.data, b.data, err_msg=str(i))
        (state,) = (o.state_dict()["state"] for o in optimizers[0])
        for i, optimizer in enumerate(optimizers[1]):
            for name, value in optimizer.state_dict()["state"][0].items():
                np.testing.assert_array_equal(state[i][name], value)

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
    def test_a_copy_is_independent(self, duplicate):
        params = parameters()
        optimizer = Adam(params)
        set_gradients(params, 0)
        optimizer.step()
        twin = duplicate(optimizer)
        before = [p.data.copy() for p in params]
        set_gradients(twin.params, 1)
        twin.step()
        assert [p.data.tobytes() for p in params] == [b.tobytes() for b in before]
        assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [1, 1, 1]
        assert [entry["step"] for entry in twin.state_dict()["state"].values()] == [2, 2, 2]


class TestFloat16:
    @cases
    def test_formula(self, kind, formula, options):
        params = parameters(dtype=np.float16)
        starts, grads = [p.data.astype(np.float64) for p in params], []
        optimizer = kind(params, lr=0.05, **options)
        for step in range(6):
            set_gradients(params, step)
            grads.append([p.grad.astype(np.float64) for p in params])
            optimizer.step()
        for i, p in enumerate(params):
            assert p.dtype == np.float16
            expected = formula(starts[i], [g[i] for g in grads], 0.05, **options)
            # Each of the six steps rounds a value below 4 once: by half of 2**-9 at the most.
            np.testing.assert_allclose(p.data, expected, rtol=0, atol=6 * 2.0**-10)
        for entry in optimizer.state_dict()["state"].values():
            arrays = [value for value in entry.values() if isinstance(value, np.ndarray)]
            assert all(value.dtype == np.float32 for value in arrays)

    def test_a_zero_gradient_is_no_step(self):
        p = Parameter(np.ones(3, np.float16))
        optimizer = Adam([p])
        for grad in (0.0, 1e-4):  # whose square is 0 in float16
            p.grad = np.full(3, grad, np.float16)
            optimizer.step()
            assert np.isfinite(p.data).all()
        assert (p.data < 1).all()

    def test_state_goes_on_where_it_was(self):
        straight = parameters(dtype=np.float16)
        one = Adam(straight, lr=0.05)
        for step in range(6):
            set_gradients(straight, step)
            one.step()
            if step == 2:
                second = [Parameter(p.data.copy()) for p in straight]
                two = Adam(second)
                two.load_state_dict(one.state_dict())
            elif step > 2:
                set_gradients(second, step)
                two.step()
        for a, b in zip(straight, second, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
