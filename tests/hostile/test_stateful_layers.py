"""Layers in any order of calls, with errors in between, against a simple model of them: weights, statistics, last x.

The model knows what a layer has to remember; what the arithmetic gives is said by the oracle, in float64.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import oracle
from hostile.outcomes import Refusal, outcome
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tolerances import tol

from normcore import nn

C = 3
TOLERANCE = tol("float64", kind="trajectory", scale=10.0)
SHAPES = st.sampled_from([(4, C), (2, C), (5, C, 2), (3, C, 1)])
seeds = st.integers(0, 1000)


def arrays(shape, *seeds):
    return [np.random.default_rng(seed).standard_normal(shape) + 0.5 for seed in seeds]


class Layers(RuleBasedStateMachine):
    """A batch norm, a Tanh behind it and a batch norm again: pairs that run as one, and one that does not."""

    @initialize(fuse=st.booleans(), momentum=st.sampled_from([0.1, 1.0, None]), affine=st.booleans())
    def make(self, fuse, momentum, affine):
        options = {"momentum": momentum, "affine": affine, "dtype": np.float64}
        self.net = nn.Sequential(nn.BatchNorm1d(C, **options), nn.Tanh(), nn.BatchNorm1d(C, **options))
        self.net.fuse = fuse
        self.momentum, self.affine = momentum, affine
        self.training, self.last = True, None
        self.state = {
            f"{i}.{name}": value
            for i in (0, 2)
            for name, value in [
                *([("weight", np.ones(C)), ("bias", np.zeros(C))] if affine else []),
                ("running_mean", np.zeros(C)),
                ("running_var", np.ones(C)),
                ("num_batches_tracked", np.array(0)),
            ]
        }
        self.grads = None

    # The model

    def parameters(self, i):
        return (self.state[f"{i}.weight"], self.state[f"{i}.bias"]) if self.affine else (None, None)

    def normalise(self, i, x, activation):
        """One batch norm, and how its statistics move."""
        weight, bias = self.parameters(i)
        names = {} if self.training else {"mean": f"{i}.running_mean", "var": f"{i}.running_var"}
        given = {key: self.state[name] for key, name in names.items()}
        z = oracle.forward(x, weight, bias, **given).y
        y = np.tanh(z) if activation else z
        if self.training:
            n = x.size // C
            count = self.state[f"{i}.num_batches_tracked"] + 1
            momentum = 1 / count if self.momentum is None else self.momentum
            axes = tuple(a for a in range(x.ndim) if a != 1)
            for name, new in (("running_mean", x.mean(axes)), ("running_var", x.var(axes) * n / (n - 1))):
                self.state[f"{i}.{name}"] = (1 - momentum) * self.state[f"{i}.{name}"] + momentum * new
            self.state[f"{i}.num_batches_tracked"] = count
        return y, (i, x, weight, given, y if activation else None)

    # The rules

    @rule(shape=SHAPES, seed=seeds)
    def forward(self, shape, seed):
        (x,) = arrays(shape, seed)
        x.flags.writeable = False
        y = self.net(x)
        hidden, first = self.normalise(0, x, activation=True)
        expected, second = self.normalise(2, hidden, activation=False)
        np.testing.assert_allclose(y, expected, **TOLERANCE)
        self.last = shape, [first, second], self.training

    @precondition(lambda self: self.last is not None)
    @rule(seed=seeds)
    def backward(self, seed):
        shape, steps, _ = self.last
        (dy,) = arrays(shape, seed)
        dx, self.grads = self.net.backward(dy), {}
        for i, x, weight, given, tanh in reversed(steps):
            dy = dy if tanh is None else dy * (1 - tanh**2)
            expected = oracle.backward(dy, x, weight, **given)
            dy = expected.dx
            if self.affine:
                self.grads |= {f"{i}.weight": expected.dweight, f"{i}.bias": expected.dbias}
        np.testing.assert_allclose(dx, dy, **TOLERANCE)

    @rule()
    def train(self):
        assert self.net.train() is self.net
        self.training = True

    @rule()
    def eval(self):
        self.net.eval()
        self.training = False

    @rule()
    def zero_grad(self):
        self.net.zero_grad()
        self.grads = None

    @rule(seed=seeds)
    def load(self, seed):
        """Another state; a forward from before still has its backward."""
        rng = np.random.default_rng(seed)
        new = {name: rng.uniform(0.5, 2.0, value.shape) for name, value in self.state.items() if "num" not in name}
        new |= {name: np.array(rng.integers(0, 5)) for name in self.state if "num" in name}
        self.net.load_state_dict(new)
        self.state, self.last = new, None  # weights are written in place: what was kept refers to them

    @rule(how=st.sampled_from(["deepcopy", "pickle", "state"]))
    def become_a_copy(self, how):
        old = self.net
        if how == "deepcopy":
            self.net = copy.deepcopy(old)
        elif how == "pickle":
            self.net = pickle.loads(pickle.dumps(old))
        else:
            options = {"momentum": self.momentum, "affine": self.affine, "dtype": np.float64}
            self.net = nn.Sequential(nn.BatchNorm1d(C, **options), nn.Tanh(), nn.BatchNorm1d(C, **options))
            self.net.fuse = old.fuse
            self.net.load_state_dict(old.state_dict())
            self.net.train(self.training)
            self.grads = None
        self.last = None
        old.train()(np.random.default_rng(0).standard_normal((7, C)))  # what one does is not seen by the other
        got = outcome_of_backward(self.net)
        assert isinstance(got, RuntimeError), "a copy keeps the layer, not the last batch"

    @rule(
        wrong=st.sampled_from(
            [np.zeros((4, C + 1)), np.zeros(C), np.zeros((4, C), int), np.ma.masked_array(np.zeros((4, C))), None, "x"]
        )
    )
    def fail_forward(self, wrong):
        assert isinstance(outcome(self.net, wrong), Refusal)

    @precondition(lambda self: self.training)
    @rule()
    def fail_on_a_single_row(self):
        assert isinstance(outcome(self.net, np.ones((1, C))), Refusal)

    @precondition(lambda self: self.last is not None)
    @rule(wrong=st.sampled_from([np.zeros((9, C)), np.zeros((4, C), np.float32), None]))
    def fail_backward(self, wrong):
        assert isinstance(outcome(self.net.backward, wrong), Refusal)

    @rule(
        name=st.sampled_from(["2.running_var", "0.running_mean"]),
        value=st.sampled_from([np.ones(C + 1), "one", np.full(C, "a"), None]),
    )
    def fail_to_load(self, name, value):
        assert isinstance(outcome(self.net.load_state_dict, self.net.state_dict() | {name: value}), Refusal)

    @rule(buffer=st.sampled_from(["running_mean", "running_var", "num_batches_tracked"]))
    def fail_on_a_read_only_buffer(self, buffer):
        layer = self.net[0]
        held = getattr(layer, buffer)
        held.flags.writeable = False
        if self.training:
            assert isinstance(outcome(self.net, np.random.default_rng(1).standard_normal((4, C))), Refusal)
        assert isinstance(outcome(self.net.load_state_dict, self.net.state_dict()), Refusal)
        held.flags.writeable = True

    # What must hold after each of them

    @invariant()
    def is_as_the_model(self):
        if not hasattr(self, "net"):
            return
        state = self.net.state_dict()
        assert state.keys() == self.state.keys()
        for name, value in self.state.items():
            np.testing.assert_allclose(state[name], value, err_msg=name, **TOLERANCE)
        for name, parameter in self.net.named_parameters():
            if self.grads is None:
                assert parameter.grad is None
            else:
                np.testing.assert_allclose(parameter.grad, self.grads[name], err_msg=name, **TOLERANCE)
        assert self.net.training == self.training


def outcome_of_backward(net):
    try:
        return net.backward(np.ones((4, C)))
    except RuntimeError as error:
        return error


TestLayers = Layers.TestCase
TestLayers.settings = settings(stateful_step_count=15)
