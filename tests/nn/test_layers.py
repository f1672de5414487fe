"""Dropout, Identity, Flatten, Sequential against plain formulas, and what the small layers refuse."""

from __future__ import annotations

import copy
import math

import numpy as np
import oracle
import pytest
from differences import check_gradients
from hypothesis import given
from hypothesis import strategies as st
from tolerances import tol

from normcore.nn import (
    GELU,
    Dropout,
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: GELU("erf"), ValueError, "GELU: approximate must be one of 'none', 'tanh', got 'erf'."),
        (lambda: LeakyReLU(-1), ValueError, "LeakyReLU: negative_slope must be in [0, inf), got -1."),
        (lambda: Dropout(1.5), ValueError, "Dropout: p must be in [0, 1], got 1.5."),
        (lambda: Dropout("x"), TypeError, "Dropout: p must be a number, got 'x'."),
        (lambda: Dropout(rng="x"), TypeError, "rng must be None, an int or a numpy.random.Generator, got str."),
    ],
)
def test_wrong_arguments_of_small_layers(build, error, message):
    with pytest.raises(error) as caught:
        build()
    assert str(caught.value) == message


class TestDropout:
    def test_zeros_and_scaled_values(self, rng):
        x, dy = rng.normal(size=(2, 200, 100)) + 9
        layer = Dropout(0.25, rng=1)
        y, dx = layer(x), layer.backward(dy)
        kept = y != 0
        np.testing.assert_allclose(y, np.where(kept, x / 0.75, 0), rtol=1e-15)
        np.testing.assert_allclose(dx, np.where(kept, dy / 0.75, 0), rtol=1e-15)
        # 20000 coins: four standard deviations
        assert abs(kept.mean() - 0.75) < 4 * math.sqrt(0.25 * 0.75 / 20000)
        assert (layer(x) != y).any()

    def test_evaluation_is_the_identity_and_draws_nothing(self, rng):
        layer, x = Dropout(0.5, rng=1), rng.normal(size=(4, 5))
        state = layer.rng.bit_generator.state
        assert layer.eval()(x) is x
        assert layer.backward(x) is x
        assert layer.rng.bit_generator.state == state
        assert Dropout(0.0)(x) is x

    def test_all_of_it(self):
        layer = Dropout(1.0)
        np.testing.assert_array_equal(layer(np.ones(5)), np.zeros(5))
        np.testing.assert_array_equal(layer.backward(np.ones(5)), np.zeros(5))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_one_seed_is_one_mask_for_every_dtype(self, dtype):
        y = Dropout(0.5, rng=7)(np.ones((6, 7), dtype))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, Dropout(0.5, rng=7)(np.ones((6, 7))))

    def test_its_state_brings_the_mask_back(self):
        layer, x = Dropout(rng=3), np.ones(100)
        layer(x)
        state = layer.rng.bit_generator.state
        y = layer(x)
        layer.rng.bit_generator.state = state
        np.testing.assert_array_equal(layer(x), y)
        assert isinstance(layer.rng, np.random.Generator)

    def test_gradient(self, rng):
        layer, x = Dropout(0.4, rng=5), rng.normal(size=(4, 5))
        state = layer.rng.bit_generator.state

        def loss(values):
            layer.rng.bit_generator.state = state
            return float(layer(values).sum())

        loss(x)
        np.testing.assert_allclose(
            layer.backward(np.ones((4, 5))), oracle.fourth_order_gradient(loss, x), **tol(np.float64, kind="fd")
        )


def test_identity(rng):
    layer, x = Identity(54, unused=True), rng.normal(size=(2, 3))
    assert layer(x) is x
    assert layer.backward(x) is x
    assert repr(layer) == "Identity()"
    with pytest.raises(ValueError, match=r"Identity\.backward: dy has shape \(3,\)"):
        layer.backward(np.ones(3))


class TestFlatten:
    def test_merges_and_splits_again(self, rng):
        x = rng.normal(size=(2, 3, 4, 5))
        layer = Flatten()
        y = layer(x)
        assert y.shape == (2, 60)
        assert np.shares_memory(x, y)
        np.testing.assert_array_equal(layer.backward(y), x)

    @given(rank=st.integers(1, 5), data=st.data())
    def test_any_range_of_dimensions(self, rank, data):
        shape = tuple(range(2, 2 + rank))
        start = data.draw(st.integers(0, rank - 1))
        end = data.draw(st.integers(start, rank - 1))
        layer = Flatten(start - data.draw(st.sampled_from([0, rank])), end - data.draw(st.sampled_from([0, rank])))
        x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
        y = layer(x)
        assert y.shape == (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
        np.testing.assert_array_equal(y.ravel(), x.ravel())
        assert layer.backward(y).shape == shape

    def test_no_rows_and_no_columns(self):
        for shape in ((0, 3, 4), (2, 0, 4)):
            layer = Flatten()
            y = layer(np.ones(shape))
            assert y.shape == (shape[0], shape[1] * shape[2])
            assert layer.backward(y).shape == shape

    def test_errors(self):
        with pytest.raises(ValueError, match=r"^Flatten: x has shape \(3,\), which has no dimensions 1 to -1 to merge"):
            Flatten()(np.ones(3))
        with pytest.raises(ValueError, match="which has no dimensions 2 to 1 to merge"):
            Flatten(2, 1)(np.ones((2, 3, 4)))
        with pytest.raises(TypeError, match=r"^Flatten: start_dim must be an int, got 1.0\.$"):
            Flatten(1.0)
        with pytest.raises(TypeError, match=r"^Flatten: end_dim must be an int, got True\.$"):
            Flatten(1, True)


class TestSequential:
    def test_nested_is_the_same_as_flat(self, rng):
        layers = [Linear(3, 4, dtype=np.float64, rng=rng), Tanh(), Linear(4, 2, dtype=np.float64, rng=rng)]
        flat, nested = Sequential(*layers), Sequential(Sequential(*layers[:2]), Sequential(layers[2]))
        x, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
        np.testing.assert_array_equal(flat(x), nested(x))
        dx = flat.backward(dy)
        grads = [p.grad.copy() for p in flat.parameters()]
        np.testing.assert_array_equal(nested.backward(dy), dx)
        for p, grad in zip(nested.parameters(), grads, strict=True):
            np.testing.assert_array_equal(p.grad, grad)

    def test_is_a_sequence(self):
        layers = ReLU(), Tanh(), Sigmoid()
        model = Sequential(*layers)
        assert len(model) == 3
        assert tuple(model) == layers
        assert model[-1] is layers[2]
        assert tuple(model[:2]) == layers[:2]
        assert isinstance(model[:2], Sequential)

    def test_empty_is_the_identity(self):
        x = np.ones(3)
        assert Sequential()(x) is x
        assert Sequential().backward(x) is x

    def test_errors(self):
        relu = ReLU()
        with pytest.raises(TypeError, match=r"^Sequential: layer 1 must be a Module, got the class ReLU; call it\.$"):
            Sequential(relu, ReLU)
        with pytest.raises(
            TypeError, match="layer 0 must be a Module, got list; pass each layer as an argument of its own"
        ):
            Sequential([relu])
        with pytest.raises(ValueError, match="the same ReLU object is in layers 0 and 2; make one for each place"):
            Sequential(relu, Tanh(), Sequential(relu))
        model = Sequential(relu)
        with pytest.raises(ValueError, match="layer 1 holds this very Sequential; make another one"):
            model.append(model)
        with pytest.raises(ValueError, match="the same ReLU object is in layers 0 and 1"):
            model.append(relu)
        assert tuple(model) == (relu,)
        for name in ("", "a.b", "forward", 3):
            with pytest.raises(ValueError, match=r"the name of a layer must be a word .*, got .*; choose another"):
                Sequential({name: ReLU()})

    def test_names(self):
        model = Sequential({"fc": Linear(3, 4, rng=0), "act": Tanh(), "out": Linear(4, 2, rng=1)})
        assert list(model.state_dict()) == ["fc.weight", "fc.bias", "out.weight", "out.bias"]
        assert model.fc is model[0]
        assert repr(model).startswith("Sequential(\n  (fc): Linear(")
        model.load_state_dict(model.state_dict())
        model[1] = Sigmoid()
        assert isinstance(model.act, Sigmoid)
        model.append(Tanh())
        assert [name for name, _ in model.named_children()] == ["fc", "act", "out", "3"]
        assert [name for name, _ in model[1:].named_children()] == ["act", "out", "2"]
        assert copy.deepcopy(model).out.in_features == 4
        with pytest.raises(AttributeError, match="Sequential has no attribute 'nothing'"):
            model.nothing  # noqa: B018 - the access is the test

    def test_layers_come_and_go(self, rng):
        a, b, c, d = layers = ReLU(), Tanh(), Sigmoid(), Linear(3, 3, dtype=np.float64, rng=rng)
        model = Sequential(a, b)
        assert model.append(c) is model
        assert model.insert(0, d) is model
        assert tuple(model) == (d, a, b, c)
        assert list(model.state_dict()) == ["0.weight", "0.bias"]
        model[1] = Tanh()
        del model[2:]
        assert model.extend([b, a]) is model
        assert [type(layer) for layer in model] == [Linear, Tanh, Tanh, ReLU]
        assert [name for name, _ in model.named_children()] == ["0", "1", "2", "3"]
        x, dy = rng.normal(size=(2, 5, 3))
        np.testing.assert_allclose(model(x), np.maximum(np.tanh(np.tanh(layers[3](x))), 0), rtol=1e-15)
        check_gradients(model, x, dy)
        with pytest.raises(TypeError, match="layer 4 must be a Module, got the class ReLU; call it"):
            model.append(ReLU)
        assert len(model) == 4
