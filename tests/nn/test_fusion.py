"""A norm and the activation behind it run as one kernel in a Sequential, and nobody can tell."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
from differences import check_gradients
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

from normcore import nn
from normcore.nn import _norm

NORMS = {
    "batch": lambda **o: nn.BatchNorm1d(6, **o),
    "layer": lambda **o: nn.LayerNorm(6, **o),
    "rms": lambda **o: nn.RMSNorm(6, **o),
    "group": lambda **o: nn.GroupNorm(2, 6, **o),
}
ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
}
EVERY_NORM = pytest.mark.parametrize("build", NORMS.values(), ids=NORMS)
EVERY_ACTIVATION = pytest.mark.parametrize("behind", ACTIVATIONS.values(), ids=ACTIVATIONS)


def pair(norm=NORMS["batch"], activation=nn.Tanh, dtype=np.float64, seed=0):
    """A norm with parameters that are not 1 and 0, and an activation."""
    rng = np.random.default_rng(seed)
    layer = norm(dtype=dtype)
    for p in layer.parameters():
        p.data += rng.normal(size=p.shape).astype(dtype) / 2
    return nn.Sequential(layer, activation())


def unfused(model):
    twin = copy.deepcopy(model)
    twin.fuse = False
    return twin


def is_fused(model):
    return isinstance(model[1]._saved, _norm.Skipped)


def assert_same(model, twin, x, dy, dtype=np.float64):
    """Output, gradients and state of both, to rounding."""
    n = x.size
    np.testing.assert_allclose(model(x), twin(x), **tol(dtype, n, "dx", scale=4))
    np.testing.assert_allclose(model.backward(dy), twin.backward(dy), **tol(dtype, n, "dx", scale=8))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, **tol(dtype, n, "dx", scale=20))
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("backend")
@EVERY_NORM
@EVERY_ACTIVATION
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
def test_results_are_those_of_the_two_layers(rng, build, behind, dtype, training):
    model = pair(build, behind, dtype).train(training)
    x, dy = rng.normal(size=(2, 9, 6)).astype(dtype)
    assert_same(model, unfused(model), x, dy, dtype)
    assert is_fused(model)


@EVERY_NORM
@EVERY_ACTIVATION
def test_gradients_by_differences(rng, build, behind):
    x = rng.normal(size=(5, 6))
    model = pair(build, behind)
    z = model[0](x)
    x[(np.abs(z) < 0.03).any(axis=1)] += 0.1  # away from kinks
    check_gradients(model, x, rng.normal(size=(5, 6)))


@pytest.mark.parametrize("training", [True, False])
@EVERY_NORM
@EVERY_ACTIVATION
def test_each_layer_alone_still_has_its_own_backward(rng, build, behind, training):
    model = pair(build, behind).train(training)
    twin = unfused(model)
    x, dy = rng.normal(size=(2, 9, 6))
    model(x), twin(x)
    assert is_fused(model)
    if training and build is NORMS["batch"]:
        before = model.state_dict()
    # the norm first, which in twin does not depend on the activation; then the activation; then both again
    np.testing.assert_allclose(model[0].backward(dy), twin[0].backward(dy), **tol(np.float64, 9, "dx", scale=4))
    np.testing.assert_allclose(model[0].weight.grad, twin[0].weight.grad, **tol(np.float64, 9, "dx", scale=9))
    dz, expected = model[1].backward(dy), twin[1].backward(dy)
    np.testing.assert_allclose(dz, expected, **tol(np.float64, 9, "dx", scale=4))
    np.testing.assert_allclose(model[0].backward(dz), twin[0].backward(expected), **tol(np.float64, 9, "dx", scale=4))
    np.testing.assert_allclose(model.backward(dy), twin.backward(dy), **tol(np.float64, 9, "dx", scale=8))
    if training and build is NORMS["batch"]:
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])  # nothing was counted twice


def test_running_statistics_that_moved_in_between_do_not_matter(rng):
    model = pair().eval()
    twin = unfused(model)
    x, dy = rng.normal(size=(2, 9, 6))
    model(x), twin(x)
    model[0].running_var[...] = 7
    model[0].running_mean[...] = 7
    np.testing.assert_allclose(model[1].backward(dy), twin[1].backward(dy), **tol(np.float64, 9, "dx", scale=4))


@pytest.mark.parametrize("training", [True, False])
def test_a_single_sample_of_instance_norm(rng, training):
    model = nn.Sequential(nn.InstanceNorm1d(3, affine=True, track_running_stats=True, dtype=np.float64), nn.Tanh())
    twin = unfused(model.train(training))
    x, dy = rng.normal(size=(2, 3, 7))
    assert_same(model, twin, x, dy)
    assert is_fused(model)
    np.testing.assert_allclose(model[1].backward(dy), twin[1].backward(dy), **tol(np.float64, 9, "dx"))


class TestNotSeen:
    def test_layers_in_two_containers(self, rng):
        """Whoever did the last forward of a layer decides what its backward is."""
        x, other, dy = rng.normal(size=(3, 9, 6))
        for first, second in itertools.permutations(("flat", "nested", "norm", "activation"), 2):
            expected = []
            for fuse in (False, True):
                norm, activation = pair(seed=1)
                flat = nn.Sequential(norm, activation)
                flat.fuse = fuse
                ways = {
                    "flat": flat,
                    "nested": nn.Sequential(nn.Sequential(norm), nn.Sequential(activation)),
                    "norm": norm,
                    "activation": activation,
                }
                flat(x)  # so that every layer has a forward
                ways[first](x), ways[second](other)
                expected.append([flat.backward(dy), ways[first].backward(dy), ways[second].backward(dy)])
                expected[-1].append(norm.weight.grad)
            for a, b in zip(*expected, strict=True):
                np.testing.assert_allclose(a, b, **tol(np.float64, 9, "dx", scale=9), err_msg=f"{first}, {second}")

    def test_slices_and_layers_after_a_forward_of_the_whole(self, rng):
        x, dy = rng.normal(size=(2, 9, 6))
        model = nn.Sequential(*pair(), nn.Linear(6, 6, dtype=np.float64, rng=0))
        model(x)
        dx = model.backward(dy)
        np.testing.assert_array_equal(model[:2].backward(model[2:].backward(dy)), dx)
        by_layer = dy
        for layer in reversed(list(model)):
            by_layer = layer.backward(by_layer)
        np.testing.assert_allclose(by_layer, dx, **tol(np.float64, 9, "dx"))

    def test_hooks_see_what_each_layer_makes(self, rng):
        model, x = pair(), rng.normal(size=(9, 6))
        seen = []
        handles = [
            layer.register_forward_hook(lambda module, args, y: seen.append((module, args[0], y))) for layer in model
        ]
        y = model(x)
        assert [module for module, _, _ in seen] == list(model)
        (_, a, b), (_, c, d) = seen
        assert a is x
        assert b is c
        assert d is y
        np.testing.assert_array_equal(np.tanh(b), d)
        handles[0].remove()
        handles[0].remove()
        model(x)
        assert len(seen) == 3
        handles[1].remove()
        model(x)
        assert len(seen) == 3
        assert is_fused(model)

    def test_a_hook_may_replace_the_output(self, rng):
        model, x = pair(), rng.normal(size=(9, 6))
        model[1].register_forward_hook(lambda *_: np.zeros(3))
        np.testing.assert_array_equal(model(x), np.zeros(3))
        model.register_forward_hook(lambda *_: np.ones(2))
        np.testing.assert_array_equal(model(x), np.ones(2))
        with pytest.raises(TypeError, match="Sequential: hook must be callable, got int"):
            model.register_forward_hook(3)
        assert not np.array_equal(copy.deepcopy(model)(x), np.ones(2))  # a copy is not watched

    def test_a_forward_or_backward_put_on_a_layer_is_called(self, rng):
        x, dy = rng.normal(size=(2, 9, 6))
        for position, name in itertools.product((0, 1), ("forward", "backward")):
            model = pair()
            expected = unfused(model)
            calls = []
            original = getattr(model[position], name)

            def watched(value, original=original, calls=calls):
                calls.append(value)
                return original(value)

            for after_forward in (False, True):
                if after_forward:
                    model(x)
                    expected(x)
                setattr(model[position], name, watched)
                if not after_forward:
                    model(x)
                    expected(x)
                np.testing.assert_allclose(
                    model.backward(dy), expected.backward(dy), **tol(np.float64, 9, "dx", scale=8)
                )
                delattr(model[position], name)
            assert len(calls) == (2 if name == "backward" else 1)

    def test_layers_of_ones_own_are_not_passed_over(self, rng):
        class Twice(nn.ReLU):
            def forward(self, x):
                return 2 * super().forward(x)

        class Shifted(nn.BatchNorm1d):
            def forward(self, x):
                return super().forward(x) + 1

        x = rng.normal(size=(9, 6))
        model = nn.Sequential(nn.BatchNorm1d(6, dtype=np.float64), Twice())
        np.testing.assert_array_equal(model(x), 2 * np.maximum(model[0](x), 0))
        model = nn.Sequential(Shifted(6, dtype=np.float64), nn.ReLU())
        np.testing.assert_array_equal(model(x), np.maximum(model[0](x), 0))

    def test_a_layer_that_is_replaced(self, rng):
        model, x = pair(), rng.normal(size=(9, 6))
        model(x)
        for activation in (nn.Sigmoid(), nn.LeakyReLU(0.3), nn.Flatten(), nn.ReLU()):
            model[1] = activation
            assert_same(model, unfused(model), x, rng.normal(size=(9, 6)))
        model[0] = nn.Identity()
        np.testing.assert_array_equal(model(x), np.maximum(x, 0))

    def test_options_set_later(self, rng):
        model, x = nn.Sequential(nn.BatchNorm1d(6, dtype=np.float64), nn.LeakyReLU()), rng.normal(size=(9, 6))
        model(x)
        assert is_fused(model)
        model[1].negative_slope = 0.5
        y = model(x)
        assert not is_fused(model)
        np.testing.assert_allclose(y, np.where(model[0](x) > 0, 1, 0.5) * model[0](x), rtol=1e-15)

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies(self, rng, duplicate):
        model, x = pair(), rng.normal(size=(9, 6))
        model(x)
        twin = duplicate(model)
        with pytest.raises(RuntimeError, match="before forward"):
            twin.backward(x)
        with pytest.raises(RuntimeError, match=r"Tanh\.backward was called before forward"):
            twin[1].backward(x)
        assert_same(model, twin, x, x)
        assert is_fused(twin)
        assert twin[1]._saved.norm is twin[0]

    def test_state_dict_and_repr_are_the_layers(self, rng):
        model = pair()
        model(rng.normal(size=(9, 6)))
        keys = ["0.weight", "0.bias", "0.running_mean", "0.running_var", "0.num_batches_tracked"]
        assert list(model.state_dict()) == keys
        assert repr(model).endswith("(1): Tanh()\n)")
        assert len(model) == 2
        assert [name for name, _ in model.named_modules()] == ["", "0", "1"]

    def test_errors_are_the_layers_and_leave_the_last_forward(self, rng):
        model, (x, dy) = pair(), rng.normal(size=(2, 9, 6))
        model(x)
        dx = model.backward(dy)
        with pytest.raises(ValueError, match=r"BatchNorm1d\(6\): x has shape \(9, 5\)"):
            model(np.ones((9, 5)))
        with pytest.raises(ValueError, match="dy must have the shape"):
            model.backward(np.ones((8, 6)))
        np.testing.assert_array_equal(model.backward(dy), dx)


LAYERS = {
    "linear": lambda n: nn.Linear(n, n, dtype=np.float64, rng=n),
    "batch": lambda n: nn.BatchNorm1d(n, dtype=np.float64),
    "batch without statistics": lambda n: nn.BatchNorm1d(n, track_running_stats=False, dtype=np.float64),
    "layer": lambda n: nn.LayerNorm(n, dtype=np.float64),
    "rms": lambda n: nn.RMSNorm(n, eps=1e-3, dtype=np.float64),
    "group": lambda n: nn.GroupNorm(1, n, affine=False, dtype=np.float64),
    "dropout": lambda n: nn.Dropout(0.2, rng=n),
    "identity": lambda _: nn.Identity(),
    "flatten": lambda _: nn.Flatten(),
    **{name: lambda _, make=make: make() for name, make in ACTIVATIONS.items()},
}


@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), max_size=7),
    cuts=st.lists(st.integers(0, 7), max_size=3),
    modes=st.lists(st.booleans(), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_composition(names, cuts, modes, seed):
    """Flat and fused, cut into nested parts, and one layer after the other give the same, over several steps."""
    rng = np.random.default_rng(seed)
    layers = [LAYERS[name](5) for name in names]
    flat = nn.Sequential(*copy.deepcopy(layers))
    bounds = [0, *sorted(min(cut, len(layers)) for cut in cuts), len(layers)]
    parts = copy.deepcopy(layers)
    nested = nn.Sequential(*(nn.Sequential(*parts[a:b]) for a, b in itertools.pairwise(bounds)))
    for mode in modes:
        flat.train(mode), nested.train(mode)
        x, dy = rng.normal(size=(2, 8, 5))
        y = x
        for layer in layers:
            y = layer.train(mode)(y)
        dx = dy
        for layer in reversed(layers):
            dx = layer.backward(dx)
        # errors grow from layer to layer, most where a norm divides by a small standard deviation
        size = max(1.0, np.abs(dx).max())
        for model in (flat, nested):
            np.testing.assert_allclose(model(x), y, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(model.backward(dy), dx, rtol=1e-7, atol=1e-8 * size)
            for back in (lambda _: None, model.backward_parameters):  # twice: after backward, and by itself
                back(dy)
                for p, q in zip(model.parameters(), (p for layer in layers for p in layer.parameters()), strict=True):
                    np.testing.assert_allclose(p.grad, q.grad, rtol=1e-7, atol=1e-8 * size)
                    p.zero_grad()
            state = [value for layer in layers for value in layer.state_dict().values()]
            for a, b in zip(model.state_dict().values(), state, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
