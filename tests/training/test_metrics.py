"""Metrics: by hand, and those over all rows against formulas written a second time."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers import bits, data

from normcore.nn import MLP, BatchNorm1d, CrossEntropyLoss, Linear, Module, Sequential
from normcore.training import Callback, PooledMetric, Trainer
from normcore.training._pooled import F1, R2, RMSE
from normcore.training.metrics import accuracy, binary_accuracy, mae, mse, resolve, top_k_accuracy

X, y = data()


class Columns(Module):
    """(N, 1) as (N,)."""

    def forward(self, x):
        return x[:, 0]


def f1_of(hits, false_positive, false_negative):
    return 2 * hits / (2 * hits + false_positive + false_negative)


class TestByHand:
    def test_binary_accuracy(self):
        z, t = np.array([[1.0], [-1.0], [0.0], [2.0]]), np.array([[1], [0], [0], [0]])
        assert binary_accuracy(z, t) == 0.75  # a logit of 0 says 0

    def test_top_k(self):
        z = np.array([[1.0, 2, 3], [3, 2, 1], [1, 1, 1], [np.nan, 0, 1]])
        t = np.array([0, 1, 2, 0])
        assert top_k_accuracy(1)(z, t) == 0.25  # the tie is in
        assert top_k_accuracy(2)(z, t) == 0.5  # a NaN is never in
        assert top_k_accuracy(3)(z[:3], t[:3]) == 1
        assert top_k_accuracy(3)(z[:1], t[:1]) == 1
        assert top_k_accuracy(3)(z[:0], t[:0]) == 0
        assert top_k_accuracy(2)(z, np.eye(3)[t]) == 0.5
        assert top_k_accuracy(7).__name__ == "top_7_accuracy"
        with pytest.raises(ValueError, match="top_k_accuracy: k must be a positive int, got 0"):
            top_k_accuracy(0)

    def test_errors_of_numbers(self):
        z, t = np.array([[1.0, 2], [3, 4]], np.float16), np.array([[1, 0], [0, 0]])
        assert mse(z, t) == (4 + 9 + 16) / 4
        assert mae(z, t) == 9 / 4
        assert RMSE()(z, t) == np.sqrt(29 / 4)

    def test_nothing_is_broadcast(self):
        for metric in (mse, mae, binary_accuracy, RMSE(), R2()):
            with pytest.raises(ValueError, match=re.escape("output has shape (2, 1), but target has shape (2,)")):
                metric(np.ones((2, 1)), np.ones(2))

    def test_r2(self):
        t = np.array([[1.0], [2.0], [3.0]])
        assert R2()(t, t) == 1
        assert R2()(np.full((3, 1), 2.0), t) == 0
        assert R2()(np.ones((3, 1)), np.ones((3, 1))) == 1  # scikit-learn's conventions for a constant
        assert R2()(np.zeros((3, 1)), np.ones((3, 1))) == 0

    def test_f1(self):
        z = np.eye(3)[[0, 0, 1, 1, 0]]
        t = np.array([0, 1, 1, 1, 0])
        # class 0: 2 hits, 1 false positive; class 1: 2 hits, 1 missed; class 2 does not occur
        assert F1()(z, t) == pytest.approx((f1_of(2, 1, 0) + f1_of(2, 0, 1)) / 2)
        assert F1()(np.array([[1.0], [1], [-1]]), np.array([[1], [0], [1]])) == 0.5
        assert F1()(np.full((3, 1), -1.0), np.zeros((3, 1))) == 0

    def test_the_largest_of_one_column_is_no_answer(self):
        with pytest.raises(ValueError, match="accuracy: output has a single column, which is always the largest; use "):
            accuracy(np.ones((3, 1)), np.ones((3, 1)))


class TestOverAllRows:
    @given(st.integers(0, 2**32), st.integers(2, 30))
    def test_batches_make_no_difference(self, seed, batch_size):
        rng = np.random.default_rng(seed)
        rows = 31
        x = rng.normal(size=(rows, 4)).astype(np.float32)
        model = MLP([4, 2], seed=0)
        t = Trainer(model, loss="mse", metrics=["mse", "rmse", "mae", "r2"])
        target = (x[:, :2] + rng.normal(size=(rows, 2)) + 1e3).astype(np.float64)
        scores = t.evaluate(x, target, batch_size)
        z = t.predict(x).astype(np.float64)
        errors = np.square(z - target)
        np.testing.assert_allclose(
            [scores[name] for name in ("mse", "rmse", "mae", "r2")],
            [
                errors.mean(),
                np.sqrt(errors.mean()),
                np.abs(z - target).mean(),
                (1 - errors.sum(0) / np.square(target - target.mean(0)).sum(0)).mean(),
            ],
            rtol=1e-9,
        )

    @pytest.mark.parametrize("batch_size", [5, 60])
    def test_f1(self, batch_size):
        t = Trainer(MLP([4, 8, 3], seed=0), metrics=["accuracy", "f1", "top_2_accuracy"])
        found = t.evaluate(X, y, batch_size)
        said = t.predict(X).argmax(1)
        expected = [
            f1_of(*(np.sum(mask) for mask in ((said == k) & (y == k), (said == k) & (y != k), (said != k) & (y == k))))
            for k in range(3)
        ]
        assert found["f1"] == pytest.approx(np.mean(expected), rel=1e-12)
        assert found["accuracy"] == np.mean(said == y)
        assert found["accuracy"] <= found["top_2_accuracy"] <= 1

    def test_f1_of_probabilities_is_that_of_their_largest(self):
        t = Trainer(MLP([4, 8, 3], seed=0), metrics=["f1", "accuracy"])
        assert t.evaluate(X, np.eye(3)[y])["f1"] == t.evaluate(X, y)["f1"]
        binary = Trainer(MLP([4, 8, 3], seed=0), metrics="f1", loss="bce_with_logits")
        assert binary.evaluate(X, np.eye(3)[y])["f1"] == F1()(binary.predict(X), np.eye(3)[y])

    @pytest.mark.parametrize("index", [-100, -1, 1, 255])
    def test_rows_that_the_loss_ignores(self, index):
        def own(output, target):
            assert index not in target
            return accuracy(output, target)

        names = ["accuracy", "f1", "top_2_accuracy", own]
        t = Trainer(MLP([4, 8, 3], seed=0), loss=CrossEntropyLoss(ignore_index=index), metrics=names)
        plain = Trainer(t.model, t.optimizer, metrics=names)
        some = y.copy()
        some[::3] = some[:14] = index  # a batch of 7 has none that counts
        counts = some != index
        found = t.evaluate(X, some, batch_size=7)
        assert found == pytest.approx(plain.evaluate(X[counts], y[counts]), rel=1e-6)
        seen = []

        class Batches(Callback):
            def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
                seen.append(logs)

        history = t.fit(X, some, 1, 7, validation_data=(X, some), callbacks=[Batches()], shuffle=False).history
        assert all(np.isnan(value) for value in seen[0].values())
        finite = [np.isfinite(list(logs.values())).all() for logs in seen]
        assert finite == [counts[start : start + 7].any() for start in range(0, 60, 7)]
        assert all(np.isfinite(value[0]) for value in history.values())
        assert all(np.isnan(value) for value in t.evaluate(X, np.full_like(y, index)).values())

    @pytest.mark.parametrize("index", [-100, 1])
    @pytest.mark.parametrize("soft", [False, True])
    def test_places_of_rows(self, index, soft):
        """A class for every place of (N, C, d): metrics are those of the places as rows."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 3, 5)).astype(np.float32)
        classes = (x + rng.normal(size=x.shape)).argmax(axis=1)
        names = ["accuracy", "f1", "top_2_accuracy"]

        def trainer(loss):
            return Trainer(Sequential(BatchNorm1d(3)), loss=loss, metrics=names)

        t, rows = trainer(CrossEntropyLoss(ignore_index=-100 if soft else index)), trainer(CrossEntropyLoss())
        target = np.moveaxis(np.eye(3)[classes], -1, 1) if soft else classes.copy()
        counts = np.ones(classes.shape, bool)
        if not soft:
            target[::3, 2] = target[:7] = index  # a batch of 7 has none that counts
            counts = target != index
        as_rows = np.moveaxis(x, 1, -1)[counts]
        want = rows.evaluate(as_rows, classes[counts])
        assert t.evaluate(x, target, batch_size=7) == pytest.approx(want, rel=1e-6)
        assert want["accuracy"] == np.mean(as_rows.argmax(1) == classes[counts])
        history = t.fit(x, target, 3, 7, validation_data=(x, target), sample_weight=np.ones(40), seed=0).history
        assert np.isfinite(list(history.values())).all()

    def test_an_output_without_columns(self):
        t = Trainer(Sequential(Linear(4, 1, rng=0), Columns()))
        with pytest.raises(ValueError, match=r"^the model's output has shape \(60,\), but cross-entropy needs a co"):
            t.fit(X, np.full(60, 0.5, np.float32))

    @pytest.mark.parametrize("name", ["r2", "mae", "binary_accuracy"])
    def test_what_does_not_fit_is_found_before_training(self, name):
        t = Trainer(MLP([4, 8, 3], seed=0), metrics=["accuracy", name])
        before = bits(t)
        with pytest.raises(ValueError, match=r"^metrics do not fit y and the model's output: .*has shape \(2,\)"):
            t.fit(X, y)
        assert bits(t) == before

    def test_ones_own_are_not_tried(self):
        calls = []
        t = Trainer(MLP([4, 8, 3], seed=0), metrics=lambda output, target: calls.append(len(output)) or len(target))
        t.fit(X, y, batch_size=30)
        assert calls == [30, 30]

    def test_while_training(self):
        t = Trainer(MLP([4, 8, 3], seed=0), metrics=["f1", "accuracy"])
        history = t.fit(X, y, epochs=2, batch_size=8, validation_data=(X, y), seed=0).history
        assert list(history) == ["loss", "f1", "accuracy", "val_loss", "val_f1", "val_accuracy"]
        assert history["val_f1"][-1] == t.evaluate(X, y)["f1"]

    def test_ones_own(self):
        class Largest(PooledMetric):
            __name__ = "largest"

            def start(self):
                return []

            def add(self, state, output, target):  # noqa: ARG002 - the signature of what it overrides
                state.append(output.max())

            def value(self, state):
                return max(state)

        t = Trainer(MLP([4, 3], seed=0), metrics=["accuracy", Largest()])
        scores = t.evaluate(X, y, batch_size=7)
        assert scores["largest"] == t.predict(X).max()
        assert PooledMetric.__call__(Largest(), np.array([[1.0, 5.0]]), y[:1]) == 5

    def test_the_base_class_says_what_is_missing(self):
        for call in (PooledMetric().start, lambda: PooledMetric().add(0, 0, 0), lambda: PooledMetric().value(0)):
            with pytest.raises(NotImplementedError, match="PooledMetric has no "):
                call()


def test_names():
    assert list(resolve(["accuracy", "top_3_accuracy", "r2"])) == ["accuracy", "top_3_accuracy", "r2"]
    assert resolve("accuracy", binary=True) == {"accuracy": binary_accuracy}
    for name in ("top_0_accuracy", "top_x_accuracy", "R2"):
        with pytest.raises(ValueError, match=f"metrics has the unknown name '{name}'; use 'accuracy', "):
            resolve(name)
    with pytest.raises(ValueError, match="metrics has the name 'lr', which is taken"):
        resolve({"lr": "mse"})
    with pytest.raises(ValueError, match="metrics has the name 'val_loss', but 'val_' stands for validation; choose"):
        resolve({"val_loss": "mse"})
    with pytest.raises(TypeError, match="metrics must have strings as names, got 3"):
        resolve({3: "mse"})
    with pytest.raises(TypeError, match="must be a name or a function"):
        resolve([RMSE])
