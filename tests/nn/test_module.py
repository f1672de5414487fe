"""Module and Parameter: the tree, modes, state dicts, copies, and which way imports point."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import normcore as nc
from normcore import nn
from normcore.nn import BatchNorm1d, Linear, Module, Parameter, ReLU, Sequential


def net(seed=0):
    return Sequential(
        Linear(3, 4, rng=seed), Sequential(BatchNorm1d(4), ReLU()), Linear(4, 2, bias=False, rng=seed + 1)
    )


def trained_net():
    model = net()
    model(np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32))
    return model


class Scale(Module):
    """A layer as a user would write one: a parameter, a buffer, a child."""

    buffer_names = ("calls",)

    def __init__(self):
        self.factor = Parameter(np.array([2.0]))
        self.calls = np.zeros((), np.int64)
        self.inner = ReLU()

    def forward(self, x):
        self._saved = x = self.inner(x)
        self.calls += 1
        return x * self.factor.data

    def backward(self, dy):
        self.factor.grad = np.array([np.vdot(dy, self._recall())])
        return self.inner.backward(dy * self.factor.data)


KEYS = [
    "0.weight", "0.bias", "1.0.weight", "1.0.bias", "1.0.running_mean", "1.0.running_var", "1.0.num_batches_tracked",
    "2.weight",
]  # fmt: skip


class TestTree:
    def test_names_follow_position_and_definition_order(self):
        model = net()
        assert list(model.state_dict()) == KEYS
        assert [name for name, _ in model.named_parameters()] == [
            "0.weight",
            "0.bias",
            "1.0.weight",
            "1.0.bias",
            "2.weight",
        ]
        assert [name for name, _ in model.named_buffers()] == KEYS[4:7]
        assert [name for name, _ in model.named_modules()] == ["", "0", "1", "1.0", "1.1", "2"]
        assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
        assert len(list(model.parameters())) == 5
        assert len(list(model.buffers())) == 3

    def test_a_layer_of_ones_own_takes_part(self):
        model = Sequential(Scale())
        assert list(model.state_dict()) == ["0.factor", "0.calls"]
        y = model(np.array([-1.0, 3.0]))
        np.testing.assert_array_equal(y, [0, 6])
        np.testing.assert_array_equal(model.backward(np.array([1.0, 1.0])), [0, 2])
        np.testing.assert_array_equal(next(model.parameters()).grad, [3])
        assert model.state_dict()["0.calls"] == 1
        assert not model.eval()[0].inner.training

    def test_unfinished_layers_say_what_they_lack(self):
        with pytest.raises(NotImplementedError, match=r"Module has no forward\(x\)"):
            Module()(np.ones(1))
        with pytest.raises(NotImplementedError, match=r"Module has no backward\(dy\)"):
            Module().backward(np.ones(1))

    @pytest.mark.parametrize(
        "layer",
        [Linear(2, 2), BatchNorm1d(2), ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Flatten()],
        ids=lambda m: type(m).__name__,
    )
    def test_backward_needs_a_forward(self, layer):
        with pytest.raises(RuntimeError, match=f"{type(layer).__name__}.backward was called before forward"):
            layer.backward(np.ones((2, 2), np.float32))


class TestModes:
    def test_train_and_eval_reach_every_layer_and_return_the_model(self):
        model = net()
        assert all(module.training for module in model.modules())
        assert model.eval() is model
        assert not any(module.training for module in model.modules())
        assert model.train() is model
        assert all(module.training for module in model.modules())
        assert model.train(False)[1][0].training is False

    def test_zero_grad(self):
        model = trained_net()
        model.backward(np.ones((6, 2), np.float32))
        assert all(p.grad.shape == p.shape and p.grad.dtype == p.dtype for p in model.parameters())
        model.zero_grad()
        assert all(p.grad is None for p in model.parameters())

    def test_backward_sets_and_does_not_add(self):
        model = trained_net()
        dy = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
        model.backward(dy)
        first = [p.grad.copy() for p in model.parameters()]
        model.backward(dy)
        for p, grad in zip(model.parameters(), first, strict=True):
            np.testing.assert_array_equal(p.grad, grad)


class TestParameter:
    def test_shape_dtype_repr(self):
        p = Parameter(np.zeros((2, 3), np.float32))
        assert (p.shape, p.dtype, p.grad) == ((2, 3), np.float32, None)
        assert repr(p) == "Parameter(shape=(2, 3), dtype=float32)"

    def test_the_gradient_uses_the_same_memory_in_every_step(self):
        p = Parameter(np.zeros(3))
        buffer = p.new_grad()
        p.zero_grad()
        assert p.grad is None
        assert p.new_grad() is buffer is p.grad
        p.data = np.zeros(4)
        assert p.new_grad().shape == (4,)

    def test_only_floating_point_arrays(self):
        with pytest.raises(
            TypeError, match=r"Parameter: data must be a NumPy array, got list; convert it with np\.asarray"
        ):
            Parameter([1.0])
        with pytest.raises(TypeError, match="Parameter: data must be float32, float64 or float16, got int64"):
            Parameter(np.arange(3))


class TestStateDict:
    def test_holds_copies(self):
        model = trained_net()
        state = model.state_dict()
        for value in state.values():
            value[...] = 77
        assert all((value != 77).all() for value in model.state_dict().values())

    def test_loads_in_place_and_exactly(self):
        source, target = trained_net(), net(seed=8)
        arrays = [p.data for p in target.parameters()]
        buffers = list(target.buffers())
        assert target.load_state_dict(source.state_dict()) == ([], [])
        assert all(p.data is array for p, array in zip(target.parameters(), arrays, strict=True))
        assert all(b is buffer for b, buffer in zip(target.buffers(), buffers, strict=True))
        for (name, value), other in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
            np.testing.assert_array_equal(value, other, err_msg=name)
            assert value.dtype == other.dtype
        assert target.state_dict()["1.0.num_batches_tracked"] == 1

    def test_savez_and_back(self, tmp_path):
        source, target = trained_net(), net(seed=8)
        np.savez(tmp_path / "model.npz", **source.state_dict())
        with np.load(tmp_path / "model.npz") as state:
            target.load_state_dict(state)
        x = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(source.eval()(x), target.eval()(x))

    def test_all_problems_in_one_message_and_nothing_written(self):
        model = trained_net()
        before = model.state_dict()
        state = net(seed=9).state_dict()
        state["0.bias"] = np.zeros(7)
        state["1.0.num_batches_tracked"] = np.array(1.5)
        state["1.0.running_var"] = np.array(["a"] * 4)
        del state["2.weight"]
        state["9.weight"] = np.zeros(1)
        with pytest.raises(ValueError, match="nothing was loaded") as caught:
            model.load_state_dict(state)
        assert str(caught.value) == (
            "Sequential.load_state_dict: nothing was loaded; missing keys: 2.weight; unexpected keys: 9.weight; "
            "0.bias: has shape (7,), expected (4,); 1.0.running_var: has dtype <U1, expected float32; "
            "1.0.num_batches_tracked: has dtype float64, expected int64 "
            "(strict=False passes over missing and unexpected keys)."
        )
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("0.bias", np.ma.zeros(4), "is a masked array, whose mask would be ignored; pass its filled(value)"),
            ("0.bias", np.array([1, 2, -1e300, 3]), "has values beyond float32, such as 1e+300"),
            ("1.0.running_mean", [1e39, 0, 0, 0], "has values beyond float32, such as 1e+39"),
            ("1.0.running_var", np.array([1, 2, 3, -0.5]), "has negative values, such as -0.5"),
            ("1.0.num_batches_tracked", -3, "has negative values, such as -3"),
            ("0.bias", np.array(list("abcd")), "has dtype <U1, expected float32"),
        ],
    )
    def test_values_that_do_not_fit_are_refused(self, name, value, problem):
        model = trained_net()
        before = model.state_dict()
        with pytest.raises(ValueError, match=re.escape(f"nothing was loaded; {name}: {problem}.")):
            model.load_state_dict({**net(seed=9).state_dict(), name: value})
        for key, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[key])

    def test_infinities_and_nans_of_a_diverged_model_are_loaded(self):
        values = np.array([np.nan, np.inf, -np.inf, 1.0])
        model = trained_net()
        model.load_state_dict({"0.bias": values, "1.0.running_var": np.abs(values)}, strict=False)
        np.testing.assert_array_equal(model[0].bias.data, values)

    def test_not_strict_passes_over_keys_but_not_shapes(self):
        model = trained_net()
        result = model.load_state_dict({"0.bias": np.full(4, 3.0), "x": 1}, strict=False)
        assert result.missing_keys == [key for key in KEYS if key != "0.bias"]
        assert result.unexpected_keys == ["x"]
        np.testing.assert_array_equal(model[0].bias.data, np.full(4, 3, np.float32))
        with pytest.raises(ValueError, match=r"0\.bias: has shape \(3,\), expected \(4,\)\.$"):
            model.load_state_dict({"0.bias": np.zeros(3)}, strict=False)

    def test_needs_a_mapping(self):
        with pytest.raises(TypeError, match="state_dict must be a mapping, got list"):
            net().load_state_dict([])

    def test_own_arrays_may_be_loaded(self):
        model = trained_net()
        before = model.state_dict()
        model.load_state_dict(dict(model._named_state()))
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])


class TestCopies:
    @pytest.mark.parametrize(
        "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
    )
    def test_a_copy_is_equal_independent_and_without_the_last_batch(self, duplicate):
        model = trained_net().eval()
        twin = duplicate(model)
        x = np.ones((3, 3), np.float32)
        with pytest.raises(RuntimeError, match="before forward"):
            twin.backward(np.ones((6, 2), np.float32))
        np.testing.assert_array_equal(model(x), twin(x))
        for array in twin.buffers():
            array[...] = 5
        for p in twin.parameters():
            p.data[...] = 5
        assert all((value != 5).all() for value in model.state_dict().values())
        assert not twin.training


def test_repr_shows_the_tree_as_pytorch_does():
    assert repr(net()) == (
        "Sequential(\n"
        "  (0): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): BatchNorm1d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (2): Linear(in_features=4, out_features=2, bias=False)\n"
        ")"
    )
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)"
    assert repr(Sequential()) == "Sequential()"


class TestImports:
    # What each folder may import of normcore besides itself.
    ALLOWED: ClassVar = {
        "nn": {"normcore.functional", "normcore._threads", "normcore._arraylike", "normcore._shown"},
        "optim": {"normcore.nn", "normcore._dispatch", "normcore._threads", "normcore._memory", "normcore._shown"},
        "training": {
            "normcore.nn",
            "normcore.optim",
            "normcore.data",
            "normcore.moments",
            "normcore.functional",
            "normcore._dispatch",
            "normcore._reading",
            "normcore._npz",
            "normcore._arraylike",
            "normcore._shown",
        },
    }

    @pytest.mark.parametrize("folder", ALLOWED)
    def test_point_downwards_only(self, folder):
        root = Path(nc.__file__).parent
        for path in (root / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom):
                    assert node.level <= 1, f"{path.name} climbs out of its folder"
                    modules = [] if node.level else [node.module]
                elif isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                else:
                    continue
                for module in modules:
                    if module.split(".")[0] == "normcore":
                        assert ".".join(module.split(".")[:2]) in self.ALLOWED[folder], f"{path.name} imports {module}"

    @pytest.mark.parametrize(
        ("statement", "absent"),
        [
            ("import normcore", ["normcore.nn", "normcore.optim", "normcore.training", "tqdm"]),
            ("import normcore.nn", ["normcore.optim", "normcore.training"]),
            ("import normcore.training", ["tqdm", "torch", "numba"]),
        ],
    )
    def test_only_what_is_needed(self, statement, absent):
        code = f"{statement}; import sys; print([m for m in {absent!r} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
