"""Numbers that are not finite, and values that are no numbers: what the trainer says, and what NumPy does not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from trainers import bits, data

import normcore as nc
from normcore.nn import MLP, Module, Sequential
from normcore.optim import SGD, Adam
from normcore.training import Callback, DivergenceError, PooledMetric, Trainer


class TestWhatIsNotFinite:
    """Warnings are errors in these tests: NumPy must say nothing of what the trainer tells in a sentence."""

    @pytest.mark.parametrize("backend", ["cython", "reference"])
    @pytest.mark.parametrize("norm", ["batch", None])
    @pytest.mark.parametrize("loss", ["mse", "cross_entropy", "bce_with_logits"])
    @pytest.mark.parametrize("kind", [SGD, Adam])
    @pytest.mark.parametrize("clip", [None, 1e30])
    def test_divergence_is_told_once(self, backend, norm, loss, kind, clip):
        X, y = data()
        target = {"mse": np.eye(3, dtype=np.float32)[y] * 1e18, "cross_entropy": y}.get(loss, np.eye(3)[y])
        model = MLP([4, 8, 3], norm=norm, seed=0)
        before = np.geterr()
        with nc.use_backend(backend):
            t = Trainer(model, kind(model.parameters(), lr=3e38 if kind is SGD else 1e36), loss, clip_norm=clip)
            with pytest.raises(DivergenceError, match=r"^training diverged: the (loss|norm of the gradients) is "):
                t.fit(X, target, 40, 15, seed=0, validation_data=(X, target))
        assert np.geterr() == before

    @pytest.mark.parametrize("change", [{"over": "raise"}, {"all": "raise"}])
    def test_what_the_user_made_an_error_is_one(self, change):
        X, y = data()
        t = Trainer(MLP([4, 8, 3], norm=None, seed=0), loss="mse")
        t.optimizer.lr = 1e36
        with np.errstate(**change), pytest.raises(FloatingPointError) as caught:
            t.fit(X, np.eye(3)[y] * 1e30, 40, 15, seed=0)
        assert type(caught.value) is FloatingPointError

    def test_what_is_the_users_runs_with_the_users_settings(self):
        X, y = data()
        seen = []

        def own(output, target):  # noqa: ARG001 - the signature of a metric
            seen.append(np.geterr())
            return 0.5

        class Pooled(PooledMetric):
            def start(self):
                return []

            def add(self, state, output, target):
                state.append(own(output, target))

            def value(self, state):
                return state[0]

        class Hooks(Callback):
            def on_batch_begin(self, trainer, batch):  # noqa: ARG002 - the signature of what it overrides
                seen.append(np.geterr())

            def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
                seen.append(np.geterr())

        with np.errstate(over="print", under="raise"):
            t = Trainer(MLP([4, 8, 3], seed=0), metrics={"own": own, "pooled": Pooled()})
            t.fit(X, y, 1, 30, validation_data=(X, y), callbacks=[Hooks()])
            assert len(seen) > 8
            assert all(settings == np.geterr() for settings in seen)

    def test_an_evaluation_tells_by_its_value(self):
        X, y = data()
        t = Trainer(MLP([4, 8, 3], norm=None, seed=0), loss="mse")
        for p in t.model.parameters():
            p.data *= 1e30
        assert np.isposinf(t.evaluate(X, np.eye(3)[y])["loss"]) or np.isnan(t.evaluate(X, np.eye(3)[y])["loss"])


class TestWhatIsNoNumber:
    @pytest.mark.parametrize(
        ("value", "got"),
        [
            (None, "None"),
            ("0.5", "'0.5'"),
            (np.ones(3), "an array of shape (3,)"),
            (np.ones((1, 1)), "an array of shape (1, 1)"),
            ([0.5], "list"),
            (1j, "complex"),
            (float, "the class float"),
        ],
    )
    def test_what_metrics_and_losses_return(self, value, got):
        X, y = data()

        def own(output, target):  # noqa: ARG001 - the signature of a metric
            return value

        class Pooled(PooledMetric):
            def start(self):
                return None

            def add(self, state, output, target):
                pass

            def value(self, state):  # noqa: ARG002 - the signature of what it overrides
                return value

        class Loss:
            def __call__(self, output, target):  # noqa: ARG002 - the signature of a loss
                return value

            def backward(self):
                raise AssertionError

        sentence = rf" returned {re.escape(got)}, but must return a number; return a float\.$"
        for metric in (own, Pooled()):
            t = Trainer(MLP([4, 8, 3], seed=0), metrics={"my metric": metric})
            for call in (t.fit, t.evaluate, t.partial_fit):
                with pytest.raises(TypeError, match="^metrics: 'my metric'" + sentence):
                    call(X, y)
        t = Trainer(MLP([4, 8, 3], norm=None, seed=0), loss=Loss())
        before = bits(t)
        for call in (t.fit, t.evaluate):
            with pytest.raises(TypeError, match="^the loss" + sentence):
                call(X, y)
        assert bits(t) == before

    @pytest.mark.parametrize(
        ("result", "error", "message"),
        [
            (lambda x: None, TypeError, "must be an array, got NoneType; return one from every forward(x)."),  # noqa: ARG005 - a forward
            (lambda x: x.tolist(), TypeError, "must be an array, got list; "),
            (lambda x: x.sum(axis=0), ValueError, "has shape (3,) for 2 rows of X; it must have a row for each."),
            (lambda x: x.sum(), TypeError, "must be an array, got float32; "),
        ],
    )
    def test_what_a_model_returns(self, result, error, message):
        class Last(Module):
            def forward(self, x):
                return result(x)

        X, y = data()
        t = Trainer(Sequential(MLP([4, 8, 3], seed=0), Last()))
        before = bits(t)
        for call in (t.fit, t.evaluate):
            with pytest.raises(error, match="^the model's output " + re.escape(message)):
                call(X, y)
        assert bits(t) == before

    @pytest.mark.parametrize("value", [1, True, np.float32(0.5), np.array(0.5), np.int8(3)])
    def test_every_number_is_taken(self, value):
        X, y = data()
        t = Trainer(MLP([4, 8, 3], seed=0), metrics={"own": lambda output, target: value})  # noqa: ARG005 - a metric
        assert t.evaluate(X, y)["own"] == float(value)
