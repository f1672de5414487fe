"""Trainer: what fit, evaluate and predict do."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tolerances import tol
from trainers import Record, data, trainer

import normcore as nc
from normcore.nn import MLP, BatchNorm1d, BatchNorm2d, CrossEntropyLoss, Flatten, Linear, MSELoss, Sequential
from normcore.optim import SGD, Adam
from normcore.training import Trainer
from normcore.training._data import batch_bounds


def state(t):
    return {name: value.tobytes() for name, value in t.model.state_dict().items()}


def test_a_new_trainer_has_nothing_to_stop():
    t = trainer()
    assert t.stop_training is False
    assert len(t.history) == 0


class TestFit:
    @pytest.mark.usefixtures("backend")
    def test_is_the_loop_one_would_write(self):
        X, y = data(50)
        t = trainer(seed=1)
        history = t.fit(X, y, epochs=3, batch_size=16, seed=5)

        model = MLP([4, 8, 3], seed=1)
        optimizer, criterion, rng = Adam(model.parameters(), lr=0.01), CrossEntropyLoss(), np.random.default_rng(5)
        losses, accuracies = [], []
        for _ in range(3):
            order = rng.permutation(50)
            total = hits = 0.0
            for start in range(0, 50, 16):
                rows = order[start : start + 16]
                z = model(X[rows])
                total += criterion(z, y[rows]) * len(rows)
                hits += (z.argmax(1) == y[rows]).sum()
                model.backward(criterion.backward())
                optimizer.step()
            losses.append(total / 50)
            accuracies.append(hits / 50)
        np.testing.assert_allclose(history.history["loss"], losses, rtol=1e-14)
        np.testing.assert_allclose(history.history["accuracy"], accuracies, rtol=1e-14)
        for (name, value), other in zip(t.model.state_dict().items(), model.state_dict().values(), strict=True):
            np.testing.assert_array_equal(value, other, err_msg=name)

    @pytest.mark.usefixtures("backend")
    def test_learns(self):
        X, y = data(300)
        t = trainer()
        history = t.fit(X, y, epochs=15, batch_size=32, seed=0, validation_data=data(100, seed=1)).history
        assert history["loss"][-1] < 0.5 * history["loss"][0]
        assert history["val_accuracy"][-1] > 0.8
        assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
        assert all(len(values) == 15 for values in history.values())

    def test_learns_in_float16(self):
        X, y = data(300, dtype=np.float16)
        model = MLP([4, 16, 3], seed=0, dtype=np.float16)
        history = Trainer(model, Adam(model.parameters(), lr=0.01)).fit(X, y, epochs=15, seed=0).history
        assert history["loss"][-1] < 0.5 * history["loss"][0]
        assert all(np.isfinite(value).all() for value in model.state_dict().values())

    def test_learns_a_regression(self):
        X, _ = data(200, dtype=np.float64)
        y = X @ [[1.0], [2.0], [0.0], [-1.0]] + 3
        model = Sequential(Linear(4, 1, dtype=np.float64, rng=0))
        t = Trainer(model, SGD(model.parameters(), lr=0.1), loss="mse")
        history = t.fit(X, y, epochs=40, batch_size=20, seed=0).history
        assert list(history) == ["loss"]
        assert history["loss"][-1] < 1e-10
        np.testing.assert_allclose(model[0].weight.data, [[1, 2, 0, -1]], atol=1e-4)

    def test_probabilities_as_targets(self):
        X, y = data()
        history = trainer().fit(X, np.eye(3)[y], epochs=2, seed=0).history
        expected = trainer().fit(X, y, epochs=2, seed=0).history
        np.testing.assert_allclose(history["loss"], expected["loss"], **tol(np.float32, kind="trajectory"))
        assert history["accuracy"] == expected["accuracy"]

    def test_same_seed_same_bits(self):
        X, y = data()
        first, second, other = trainer(), trainer(), trainer()
        a, b = first.fit(X, y, epochs=3, seed=4), second.fit(X, y, epochs=3, seed=4)
        other.fit(X, y, epochs=3, seed=5)
        assert a.history == b.history
        assert state(first) == state(second) != state(other)

    def test_a_generator_as_seed_moves_on(self):
        X, y = data()
        one, two = trainer(), trainer()
        one.fit(X, y, epochs=2, seed=4)
        generator = np.random.default_rng(4)
        two.fit(X, y, seed=generator)
        two.fit(X, y, seed=generator)
        assert state(one) == state(two)  # a second fit goes on, optimiser and all

    def test_numpys_global_generator_is_left_alone(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state is what is watched
        trainer().fit(*data())
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - the legacy state is what is watched

    def test_without_shuffle_the_order_is_kept(self):
        X, y = data()
        one, two = trainer(), trainer()
        one.fit(X, y, epochs=2, shuffle=False, seed=1)
        two.fit(X, y, epochs=2, shuffle=False, seed=2)
        assert state(one) == state(two)

    def test_data_are_not_written_to(self):
        X, y = data()
        X.flags.writeable = y.flags.writeable = False
        t = trainer()
        t.fit(X, y, shuffle=False)
        t.evaluate(X, y)
        t.predict(X)

    def test_another_float_dtype_and_lists(self):
        X, y = data()
        one, two, three = trainer(), trainer(), trainer()
        one.fit(X, y, seed=0)
        two.fit(X.astype(np.float64), y.astype(np.uint8), seed=0)
        three.fit(X.tolist(), y.tolist(), seed=0, validation_data=[X.tolist(), y.tolist()])
        assert state(one) == state(two) == state(three)

    def test_memory_mapped_input(self, tmp_path):
        X, y = data(200)
        np.save(tmp_path / "X.npy", X)
        np.save(tmp_path / "y.npy", y)
        mapped = [np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "y.npy")]
        one, two = trainer(), trainer()
        a = one.fit(X, y, epochs=2, seed=0, validation_data=(X, y))
        b = two.fit(*mapped, epochs=2, seed=0, validation_data=tuple(mapped))
        assert a.history == b.history
        assert state(one) == state(two)
        np.testing.assert_array_equal(one.predict(X), two.predict(mapped[0]))

    @pytest.mark.parametrize("training", [True, False])
    def test_modes_are_restored_layer_by_layer(self, training):
        t = trainer()
        X, y = data()
        t.model.train(training)
        t.model[1].eval()  # frozen statistics
        modes = [module.training for module in t.model.modules()]
        t.fit(X, y, validation_data=(X, y))
        assert [module.training for module in t.model.modules()] == modes
        t.evaluate(X, y)
        t.predict(X)
        assert [module.training for module in t.model.modules()] == modes
        with pytest.raises(ValueError, match="does not fit"):
            t.evaluate(X[:, :2], y)
        with pytest.raises(ValueError, match="last dimension"):
            t.predict(X[:, :2])
        assert [module.training for module in t.model.modules()] == modes

    def test_every_row_counts_once(self):
        X, y = data(33)
        record = Record()
        t = trainer()
        t.fit(X, y, epochs=2, batch_size=16, callbacks=[record])
        assert len(record.batches) == 4  # 16 and 17: the lone last row joins
        assert t.model[1].num_batches_tracked == 4

    @pytest.mark.parametrize(
        ("rows", "batch_size", "expected"),
        [
            (6, 3, [(0, 3), (3, 6)]),
            (7, 3, [(0, 3), (3, 7)]),
            (8, 3, [(0, 3), (3, 6), (6, 8)]),
            (4, 3, [(0, 4)]),
            (2, 3, [(0, 2)]),
            (1, 3, [(0, 1)]),
            (3, 1, [(0, 1), (1, 2), (2, 3)]),
            (0, 3, []),
        ],
    )
    def test_batches(self, rows, batch_size, expected):
        assert batch_bounds(rows, batch_size) == expected

    def test_a_single_row_and_no_batch_norm(self):
        model = MLP([4, 8, 3], norm=None, seed=0)
        t = Trainer(model)
        X, y = data(3)
        assert len(t.fit(X, y, epochs=2, batch_size=1)) == 2
        t.fit(X[:1], y[:1])

    def test_default_optimizer_is_adam(self):
        assert repr(Trainer(MLP([4, 3])).optimizer) == repr(Adam(MLP([4, 3]).parameters()))

    def test_part_of_the_parameters(self):
        model = MLP([4, 8, 3], seed=0)
        before = model[0].weight.data.copy()
        Trainer(model, SGD(model[3].parameters(), lr=0.1)).fit(*data())
        np.testing.assert_array_equal(model[0].weight.data, before)

    def test_images(self, rng):
        X = rng.normal(size=(20, 2, 3, 3)).astype(np.float32)
        model = Sequential(BatchNorm2d(2), Flatten(), Linear(18, 3, rng=0), BatchNorm1d(3))
        t = Trainer(model)
        assert len(t.fit(X, np.arange(20) % 3, batch_size=6)) == 1
        assert t.predict(X).shape == (20, 3)


class TestEvaluateAndPredict:
    def test_names_and_values(self):
        X, y = data()
        t = trainer()
        history = t.fit(X, y, epochs=2, validation_data=(X, y), seed=0).history
        scores = t.evaluate(X, y)
        assert list(scores) == ["loss", "accuracy"]
        assert scores["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)
        assert scores["accuracy"] == history["val_accuracy"][-1]
        z = t.model.eval()(X)
        assert scores["loss"] == pytest.approx(CrossEntropyLoss()(z, y), rel=1e-6)
        assert scores["accuracy"] == np.mean(z.argmax(1) == y)
        np.testing.assert_allclose(t.predict(X), z, **tol(np.float32, kind="dx"))

    @pytest.mark.parametrize("loss", [MSELoss(), MSELoss("sum"), CrossEntropyLoss(), CrossEntropyLoss("sum")], ids=repr)
    def test_batch_size_changes_nothing(self, loss):
        X, y = data(61)
        model = MLP([4, 8, 3], seed=0, dtype=np.float64)
        t = Trainer(model, loss=loss, metrics={"hits": "accuracy"})
        target = y if isinstance(loss, CrossEntropyLoss) else np.eye(3)[y]
        expected = t.evaluate(X, target, batch_size=100)
        single = type(loss)("sum")(t.model.eval()(X.astype(np.float64)), target)
        per_row = 61 * 3 if isinstance(loss, MSELoss) and loss.reduction == "mean" else 61
        assert expected["loss"] == pytest.approx(single / per_row, rel=1e-12)
        for size in (1, 7, 20, 60):
            assert t.evaluate(X, target, batch_size=size) == pytest.approx(expected, rel=1e-12)
            np.testing.assert_allclose(t.predict(X, batch_size=size), t.predict(X), rtol=1e-12)

    def test_nothing_is_changed(self):
        t = trainer()
        before = state(t)
        t.evaluate(*data())
        t.predict(data()[0])
        assert state(t) == before
        assert t.history.history == {}

    def test_predict_takes_no_rows_and_one_row(self):
        t = trainer()
        X, _ = data()
        assert t.predict(X[:0]).shape == (0, 3)
        assert t.predict(X[:1]).shape == (1, 3)
        assert t.predict(X.astype(np.float64)).dtype == np.float32

    def test_predict_returns_arrays_of_its_own(self):
        X, _ = data()
        t = Trainer(Sequential(Flatten(), Linear(4, 3)))
        t.model = Flatten()  # a view of X
        assert not np.shares_memory(t.predict(X), X)


class TestMetrics:
    def test_own_metrics_and_names(self):
        def share_of_zeros(output, target):
            assert output.shape == (len(target), 3)
            return np.mean(target == 0)

        X, y = data(61)
        t = trainer(metrics=["accuracy", share_of_zeros])
        history = t.fit(X, y, batch_size=20, validation_data=(X, y)).history
        assert list(history) == [
            "loss", "accuracy", "share_of_zeros", "val_loss", "val_accuracy", "val_share_of_zeros"
        ]  # fmt: skip
        assert history["share_of_zeros"][0] == pytest.approx(np.mean(y == 0), rel=1e-12)
        assert list(trainer(metrics=share_of_zeros).evaluate(X, y)) == ["loss", "share_of_zeros"]
        assert list(trainer(metrics={"zeros": share_of_zeros, "hits": "accuracy"}).metrics) == ["zeros", "hits"]
        assert list(trainer(metrics=[]).evaluate(X, y)) == ["loss"]

    @pytest.mark.parametrize(
        ("metrics", "error", "message"),
        [
            (
                "precision",
                ValueError,
                "Trainer: metrics has the unknown name 'precision'; use 'accuracy', 'binary_accuracy', 'f1', 'mse', "
                "'rmse', 'mae', 'r2', 'top_5_accuracy' or a function",
            ),
            (
                [3],
                TypeError,
                "Trainer: each of metrics must be a name or a function (output, target) -> float, got int.",
            ),
            (3, TypeError, "Trainer: metrics must be a name, a function (output, target) -> float, a list or a dict"),
            (
                ["accuracy", "accuracy"],
                ValueError,
                "Trainer: metrics has the name 'accuracy', which is taken; pass a dict",
            ),
            ({"loss": "accuracy"}, ValueError, "Trainer: metrics has the name 'loss', which is taken; "),
        ],
    )
    def test_errors(self, metrics, error, message):
        with pytest.raises(error, match=re.escape(message)):
            trainer(metrics=metrics)


def test_a_loss_of_ones_own():
    class Absolute:
        def __call__(self, output, target):
            self.difference = output - target
            return np.abs(self.difference).mean()

        def backward(self):
            return np.sign(self.difference) / self.difference.size

    X, _ = data(dtype=np.float64)
    model = MLP([4, 1], dtype=np.float64, seed=0)
    t = Trainer(model, SGD(model.parameters(), lr=0.05), loss=Absolute())
    history = t.fit(X, X[:, :1], epochs=20, batch_size=10, seed=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]


def test_repr():
    assert repr(Trainer(MLP([4, 3]))) == (
        "Trainer(optimizer=Adam(2 parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0), "
        "loss=CrossEntropyLoss(reduction='mean'), metrics=['accuracy'])\n"
        "MLP(\n  (0): Linear(in_features=4, out_features=3, bias=True)\n)"
    )
    assert nc.Trainer is Trainer
