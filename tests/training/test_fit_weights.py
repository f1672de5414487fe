"""fit: weights of classes and rows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from trainers import Rows, bits, data, trainer

from normcore.nn import (
    MLP,
    CrossEntropyLoss,
    MSELoss,
)
from normcore.optim import SGD, Adam, OneCycleLR
from normcore.training import Trainer
from normcore.training._weights import by_class

X, y = data()


class TestWeights:
    def test_are_the_loop_one_would_write(self):
        w = np.random.default_rng(1).random(60)
        t = trainer()
        history = t.fit(X, y, epochs=2, batch_size=16, seed=5, sample_weight=w)
        model = MLP([4, 8, 3], seed=0)
        optimizer, criterion, rng = Adam(model.parameters(), lr=0.01), CrossEntropyLoss(), np.random.default_rng(5)
        for epoch in range(2):
            order = rng.permutation(60)
            total = 0.0
            for start in range(0, 60, 16):
                rows = order[start : start + 16]
                total += criterion(model(X[rows]), y[rows], sample_weight=w[rows]) * w[rows].sum()
                model.backward(criterion.backward())
                optimizer.step()
            assert history.history["loss"][epoch] == pytest.approx(total / w.sum(), rel=1e-12)
        for (name, value), other in zip(t.model.state_dict().items(), model.state_dict().values(), strict=True):
            np.testing.assert_array_equal(value, other, err_msg=name)

    def test_equal_weights_are_none(self):
        one, two = trainer(), trainer()
        a = one.fit(X, y, epochs=3, seed=0)
        b = two.fit(X, y, epochs=3, seed=0, sample_weight=np.full(60, 2))
        np.testing.assert_allclose(a.history["loss"], b.history["loss"], rtol=1e-5)

    @pytest.mark.parametrize("unit", [2.0**e for e in (-1060, -700, -153, -146, 130, 700, 980)])
    @pytest.mark.parametrize("loss", [CrossEntropyLoss(), MSELoss()])
    def test_the_unit_of_the_weights_does_not_matter(self, loss, unit):
        w = np.random.default_rng(1).integers(1, 4, 60) * 1.0
        target = y if isinstance(loss, CrossEntropyLoss) else np.eye(3, dtype=np.float32)[y]
        found = []
        for weights in (w, w * unit):
            model = MLP([4, 8, 3], seed=0)
            t = Trainer(model, Adam(model.parameters(), lr=0.01), loss)
            history = t.fit(X, target, epochs=2, seed=0, batch_size=16, validation_split=0.2, sample_weight=weights)
            found.append((history.history["loss"], history.history["val_loss"], t.evaluate(X, target, 7, weights)))
        assert found[0] == found[1]

    def test_so_it_is_for_a_sum(self):
        found = []
        for unit in (1.0, 2.0**-400, 2.0**980):
            model = MLP([4, 8, 3], seed=0)
            t = Trainer(model, SGD(model.parameters(), lr=0.1), CrossEntropyLoss("sum"))
            found.append(t.evaluate(X, y, 7, np.full(60, unit)))
        assert found[0] == found[1] == found[2]

    def test_weights_that_add_up_to_too_much(self):
        t = trainer()
        before = bits(t)
        with pytest.raises(ValueError, match=r"^fit: sample_weight adds up to 1e300 or more; divide all weights "):
            t.fit(X, y, epochs=1, sample_weight=np.full(60, 1e299))
        with pytest.raises(ValueError, match=r"^sample_weight times class_weight adds up to 1e300 or more; divide "):
            t.fit(X, y, epochs=1, sample_weight=np.full(60, 1e200), class_weight={0: 1e200})
        assert bits(t) == before

    def test_rows_of_weight_zero_do_not_matter_without_batch_norm(self):
        kept = np.arange(60) % 3 > 0
        target = np.where(kept, y, (y + 1) % 3)
        models = [MLP([4, 8, 3], norm=None, seed=0, dtype=np.float64) for _ in range(2)]
        one, two = (Trainer(model, SGD(model.parameters(), lr=0.1)) for model in models)
        # one batch: what is left out would else be in other batches
        one.fit(X, target, epochs=5, batch_size=60, shuffle=False, sample_weight=kept)
        two.fit(X[kept], y[kept], epochs=5, batch_size=60, shuffle=False)
        for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-12)

    def test_a_batch_in_which_no_row_counts(self):
        w = np.repeat([0.0, 1.0], 30)
        t = trainer()
        history = t.fit(X, y, epochs=2, batch_size=10, shuffle=False, sample_weight=w)
        assert np.isfinite(history.history["loss"]).all()
        assert all(np.isfinite(value).all() for value in t.model.state_dict().values())

    @pytest.mark.parametrize("loss", [CrossEntropyLoss("sum"), MSELoss("sum"), MSELoss()], ids=repr)
    def test_evaluate(self, loss):
        w = np.random.default_rng(2).random(60)
        model = MLP([4, 8, 3], seed=0, dtype=np.float64)
        t = Trainer(model, loss=loss)
        target = y if isinstance(loss, CrossEntropyLoss) else np.eye(3)[y]
        losses = type(loss)("none")(t.predict(X), target)
        if losses.ndim == 2:
            losses = losses.sum(1) if loss.reduction == "sum" else losses.mean(1)
        for size in (7, 60):
            scores = t.evaluate(X, target, size, sample_weight=w)
            assert scores["loss"] == pytest.approx(np.average(losses, weights=w), rel=1e-12)

    def test_class_weight_is_sample_weight(self):
        weights = {0: 0.5, 2: 3}
        one, two, three, four = (trainer() for _ in range(4))
        one.fit(X, y, epochs=2, seed=0, class_weight=weights)
        two.fit(X, y, epochs=2, seed=0, sample_weight=np.array([0.5, 1, 3])[y])
        assert bits(one) == bits(two)
        own = np.random.default_rng(0).random(60)
        three.fit(X, y, epochs=2, seed=0, class_weight=weights, sample_weight=own)
        four.fit(X, y, epochs=2, seed=0, sample_weight=own * np.array([0.5, 1, 3])[y])
        assert bits(three) == bits(four)

    def test_balanced_is_scikit_learns(self):
        keep = np.flatnonzero((y > 0) | (np.arange(60) % 5 == 0))
        counts = np.bincount(y[keep])
        one, two = trainer(), trainer()
        one.fit(X[keep], y[keep], seed=0, class_weight="balanced")
        two.fit(X[keep], y[keep], seed=0, sample_weight=(len(keep) / (3 * counts))[y[keep]])
        assert bits(one) == bits(two)

    def test_balanced_has_a_mean_of_one(self):
        np.testing.assert_allclose(by_class("balanced", np.array([0, 0, 0, 1])), [2 / 3, 2 / 3, 2 / 3, 2])

    def test_balanced_counts_the_rows_that_are_trained_on(self):
        w = np.zeros(60)
        rows, t = Rows(), trainer()
        t.fit(X, y, seed=0, validation_split=0.4, class_weight="balanced", callbacks=[rows])
        train = np.isin(X[:, 0], rows.seen)
        w[train] = (train.sum() / (3 * np.bincount(y[train])))[y[train]]
        two = trainer()
        two.fit(X, y, seed=0, validation_split=0.4, sample_weight=np.where(train, w, 1))
        assert bits(t) == bits(two)

    def test_binary_targets_have_classes_too(self):
        target = (X[:, :1] > 1).astype(np.float32)
        models = [MLP([4, 8, 1], seed=0) for _ in range(2)]
        one, two = (Trainer(model, loss="bce_with_logits") for model in models)
        one.fit(X, target, seed=0, class_weight={1: 4})
        two.fit(X, target, seed=0, sample_weight=np.where(target[:, 0] > 0, 4, 1))
        assert bits(one) == bits(two)

    def test_a_loss_of_ones_own(self):
        class Absolute:
            def __call__(self, output, target, sample_weight=None):
                w = np.ones(len(output)) if sample_weight is None else sample_weight
                self.difference, self.w = output - target, w / w.sum()
                return (np.abs(self.difference[:, 0]) * self.w).sum()

            def backward(self):
                return np.sign(self.difference) * self.w[:, None]

        model = MLP([4, 1], seed=0, dtype=np.float64)
        w = np.arange(60.0)
        t = Trainer(model, SGD(model.parameters(), lr=0.05), loss=Absolute())
        scores = t.evaluate(X, X[:, :1], batch_size=9, sample_weight=w)
        assert scores["loss"] == pytest.approx(np.average(np.abs(t.predict(X) - X[:, :1])[:, 0], weights=w), rel=1e-12)
        assert np.isfinite(t.fit(X, X[:, :1], sample_weight=w, seed=0).history["loss"]).all()

    @pytest.mark.parametrize("per_epoch", [False, True])
    def test_a_cycle_that_is_shorter_than_the_training(self, per_epoch):
        model = MLP([4, 8, 3], seed=0)
        optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
        cycle = OneCycleLR(optimizer, 0.05, total_steps=4 if per_epoch else 8, per_epoch=per_epoch)
        t = Trainer(model, optimizer, scheduler=cycle)
        before = bits(t)
        said = "4 steps left, but this training takes 5" if per_epoch else "8 steps left, but this training takes 10"
        with pytest.raises(ValueError, match=f"^fit: scheduler is OneCycleLR, which has {said}; make the cycle"):
            t.fit(X, y, 5, batch_size=30)
        assert bits(t) == before
        t.fit(X, y, 2, batch_size=30)
        t.fit(X, y, 4, batch_size=30, resume=True)
        with pytest.raises(ValueError, match="which has 0 steps left, but this training takes "):
            t.fit(X, y, 5, batch_size=30, resume=True)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (
                {"sample_weight": np.ones(3)},
                ValueError,
                "fit: sample_weight has shape (3,), but X has 60 rows; pass one weight for each row, an array of shape "
                "(60,).",
            ),
            (
                {"sample_weight": np.ones((60, 1))},
                ValueError,
                "fit: sample_weight has shape (60, 1), but X has 60 rows; pass one weight for each row, "
                "sample_weight.reshape(60).",
            ),
            ({"sample_weight": 1.0}, ValueError, "fit: sample_weight has shape (), but X has 60 rows; pass one weight"),
            ({"sample_weight": -np.ones(60)}, ValueError, "fit: sample_weight must be finite and not negative"),
            ({"sample_weight": np.full(60, np.nan)}, ValueError, "fit: sample_weight must be finite and not negative"),
            ({"sample_weight": np.zeros(60)}, ValueError, "fit: sample_weight is 0 everywhere, so no row counts;"),
            ({"sample_weight": ["a"] * 60}, TypeError, "fit: sample_weight must be real numbers, got <U1;"),
            ({"class_weight": "even"}, ValueError, "class_weight must be 'balanced' or a dict from class to"),
            ({"class_weight": [1, 2, 3]}, TypeError, "class_weight must be 'balanced' or a dict from class to"),
            ({"class_weight": {7: 1.0}}, ValueError, "class_weight has the class 7, which is not in y;"),
            ({"class_weight": {0: -1}}, ValueError, "finite weights that are not negative, got -1 for class 0."),
            ({"class_weight": {0: True}}, ValueError, "class_weight must have finite weights that are not neg"),
            ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "class_weight is 0 for every class in y, so no row"),
            (
                {"class_weight": {0: 0}, "sample_weight": y == 0},
                ValueError,
                "sample_weight and class_weight leave no row that counts; give some rows a weight.",
            ),
            (
                {"class_weight": "balanced", "y": np.eye(3)[y]},
                ValueError,
                "class_weight needs y to hold one class for each row, but y has shape (60, 3); pass sample_weight, "
                "or a loss with weights of its own.",
            ),
        ],
    )  # fmt: skip
    def test_errors(self, arguments, error, message):
        t = trainer()
        before = bits(t)
        with pytest.raises(error, match=re.escape(message)):
            t.fit(**{"X": X, "y": y, **arguments})
        assert bits(t) == before

    def test_class_weight_of_numbers(self):
        t = Trainer(MLP([4, 1]), loss="mse")
        with pytest.raises(
            ValueError, match="class_weight needs y to hold classes, but it has numbers that are not whole"
        ):
            t.fit(X, X[:, :1], class_weight="balanced")

    @pytest.mark.parametrize("argument", [{"sample_weight": np.ones(60)}, {"class_weight": "balanced"}])
    def test_a_loss_that_takes_none(self, argument):
        class Plain:
            def __call__(self, output, target):  # noqa: ARG002 - what a loss is called with
                return 0.0

            def backward(self):
                return None

        with pytest.raises(TypeError, match=re.escape("needs a loss that is called as loss(output, target, sample_we")):
            Trainer(MLP([4, 3]), loss=Plain()).fit(X, y, **argument)
