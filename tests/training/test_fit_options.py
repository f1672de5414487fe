"""fit: splits, schedules, clipping, divergence, odd batches, going on."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers import PerEpoch, PerStep, Rows, bits, data, trainer, with_dropout

import normcore as nc
from normcore.nn import (
    MLP,
    BatchNorm1d,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    Dropout,
    LayerNorm,
    Linear,
    ReLU,
    Sequential,
)
from normcore.optim import SGD, Adam
from normcore.training import Callback, DivergenceError, Trainer

X, y = data()


class TestValidationSplit:
    def test_is_cut_before_training_and_kept(self):
        t, rows = trainer(), Rows()
        history = t.fit(X, y, epochs=3, batch_size=7, seed=1, validation_split=0.25, callbacks=[rows]).history
        assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
        seen = np.unique(rows.seen)
        assert len(rows.seen) == 3 * 45
        assert len(seen) == 45  # the same rows in every epoch
        held_out = ~np.isin(X[:, 0], seen)
        assert held_out.sum() == 15
        assert t.evaluate(X[held_out], y[held_out])["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)
        # every class has its share, to within one row
        np.testing.assert_allclose(np.bincount(y[held_out]), 0.25 * np.bincount(y), atol=1)

    def test_is_training_on_the_rest_with_validation_data(self):
        rows = Rows()
        one, two = trainer(), trainer()
        a = one.fit(X, y, epochs=2, batch_size=50, shuffle=False, seed=3, validation_split=0.3, callbacks=[rows])
        train = np.isin(X[:, 0], rows.seen)
        b = two.fit(X[train], y[train], epochs=2, batch_size=50, shuffle=False, validation_data=(X[~train], y[~train]))
        assert a.history == b.history
        assert bits(one) == bits(two)

    def test_another_seed_cuts_otherwise(self):
        cuts = []
        for seed in (0, 0, 1):
            rows = Rows()
            trainer().fit(X, y, shuffle=False, seed=seed, validation_split=0.2, callbacks=[rows])
            cuts.append(rows.seen)
        assert cuts[0] == cuts[1] != cuts[2]

    def test_numbers_as_targets_are_not_stratified(self):
        model = MLP([4, 1], seed=0)
        history = Trainer(model, loss="mse").fit(X, X[:, :1], validation_split=0.5, seed=0).history
        assert np.isfinite(history["val_loss"]).all()

    def test_sample_weights_count_in_validation_and_class_weights_do_not(self):
        rows, w = Rows(), np.random.default_rng(0).random(60)
        t = trainer()
        history = t.fit(
            X, y, seed=0, validation_split=0.3, sample_weight=w, class_weight={0: 5.0}, callbacks=[rows]
        ).history
        held_out = ~np.isin(X[:, 0], rows.seen)
        scores = t.evaluate(X[held_out], y[held_out], sample_weight=w[held_out])
        assert scores["loss"] == pytest.approx(history["val_loss"][0], rel=1e-6)
        losses = CrossEntropyLoss("none")(t.predict(X[held_out]), y[held_out])
        assert scores["loss"] == pytest.approx(np.average(losses, weights=w[held_out]), rel=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"validation_split": 1}, ValueError, "fit: validation_split must be in [0, 1), got 1."),
            ({"validation_split": -0.1}, ValueError, "fit: validation_split must be in [0, 1), got -0.1."),
            ({"validation_split": "x"}, TypeError, "fit: validation_split must be a number, got 'x'."),
            (
                {"validation_split": 0.5, "validation_data": (X, y)},
                ValueError,
                "validation_split and validation_data were both given; pass one of them.",
            ),
            (
                {"X": X[:1], "y": y[:1], "validation_split": 0.5},
                ValueError,
                "validation_split needs at least two rows in X, one to train on; pass validation_data.",
            ),
        ],
    )
    def test_errors(self, arguments, error, message):
        with pytest.raises(error, match=re.escape(message)):
            Trainer(MLP([4, 3], seed=0)).fit(**{"X": X, "y": y, **arguments})


class TestBinary:
    def test_learns_and_has_accuracy(self):
        target = (X[:, :1] > 0).astype(np.float32)
        model = MLP([4, 8, 1], seed=0)
        t = Trainer(model, Adam(model.parameters(), lr=0.02), loss="bce_with_logits")
        assert isinstance(t.loss, BCEWithLogitsLoss)
        history = t.fit(X, target, epochs=20, seed=0).history
        assert list(history) == ["loss", "accuracy"]
        assert history["accuracy"][-1] > 0.9
        assert t.evaluate(X, target)["accuracy"] == np.mean((t.predict(X) > 0) == (target > 0))


class TestSchedules:
    def test_by_steps(self):
        model = MLP([4, 3], seed=0)
        optimizer = SGD(model.parameters(), lr=1.0)
        rates = []

        class Look(Callback):
            def on_batch_begin(self, trainer, batch):  # noqa: ARG002 - the signature of what it overrides
                rates.append(trainer.optimizer.lr)

        t = Trainer(model, optimizer, scheduler=PerStep(optimizer))
        history = t.fit(X, y, epochs=2, batch_size=20, callbacks=[Look()]).history
        np.testing.assert_allclose(rates, 0.9 ** np.arange(6), rtol=1e-12)
        assert list(history) == ["loss", "accuracy", "lr"]
        assert history["lr"] == [rates[2], rates[5]]  # of the last step of each epoch
        assert t.scheduler.count == 6

    def test_by_epochs(self):
        model = MLP([4, 3], seed=0)
        optimizer = SGD(model.parameters(), lr=1.0)
        t = Trainer(model, optimizer, scheduler=PerEpoch(optimizer, 0.5))
        history = t.fit(X, y, epochs=3, batch_size=20, validation_data=(X, y)).history
        assert history["lr"] == [1.0, 0.5, 0.25]
        assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy", "lr"]
        assert t.log_names == tuple(history)

    def test_a_callback_that_changes_the_rate_is_logged(self):
        class Halve(Callback):
            changes_lr = True

            def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
                trainer.optimizer.lr /= 2

        assert trainer(lr=0.5).fit(X, y, epochs=3, callbacks=[Halve()]).history["lr"] == [0.5, 0.25, 0.125]

    @pytest.mark.parametrize("scheduler", ["cosine", PerStep, 3])
    def test_errors(self, scheduler):
        with pytest.raises(TypeError, match=re.escape("Trainer: scheduler must be an object with step(), got ")):
            trainer(scheduler=scheduler)


class TestDivergence:
    def diverging(self, **options):
        model = MLP([4, 8, 3], norm=None, seed=0)
        return Trainer(model, SGD(model.parameters(), lr=1e30), **options)

    def test_stops_with_a_message_and_leaves_the_history(self):
        t, ended = trainer(), []

        class Break(Callback):
            def on_batch_begin(self, trainer, batch):
                if len(trainer.history) == 2 and batch == 1:
                    trainer.model[0].weight.data[...] = np.nan

            def on_train_end(self, trainer):
                ended.append(len(trainer.history))

        t.model.eval()
        with pytest.raises(DivergenceError) as caught:
            t.fit(X, y, epochs=9, batch_size=20, callbacks=[Break()])
        assert str(caught.value) == (
            "training diverged: the loss is nan in epoch 3, batch 2 (learning rate 0.01); lower the learning rate, "
            "clip gradients with clip_norm=1.0, or bring X and y to a common scale."
        )
        assert (caught.value.epoch, caught.value.batch) == (2, 1)
        assert np.isnan(caught.value.value)
        assert isinstance(caught.value, FloatingPointError)
        assert len(t.history) == 2
        assert np.isfinite(t.history.history["loss"]).all()
        assert ended == [2]
        assert not t.model.training

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_of_itself(self):
        t = self.diverging()
        with pytest.raises(DivergenceError, match="in epoch 1, batch 2"):
            t.fit(X, y, epochs=9, batch_size=20, seed=0)
        assert len(t.history) == 0
        assert t.history.history == {}

    def test_nothing_is_stepped_by_a_loss_that_is_not_finite(self):
        class Infinite:
            def __call__(self, output, target):  # noqa: ARG002 - what a loss is called with
                return np.inf

            def backward(self):
                raise AssertionError("not asked for")

        model = MLP([4, 3], seed=0)
        before = model[0].weight.data.copy()
        with pytest.raises(DivergenceError, match="the loss is inf in epoch 1, batch 1"):
            Trainer(model, loss=Infinite()).fit(X, y)
        np.testing.assert_array_equal(model[0].weight.data, before)

    def test_a_mean_of_nothing_is_no_divergence(self):
        target = np.where(np.arange(60) < 20, -100, y)
        t = trainer(loss=CrossEntropyLoss())
        history = t.fit(X, target, epochs=2, batch_size=20, shuffle=False)
        assert np.isfinite(history.history["loss"]).all()


class TestSeed:
    def test_an_int_seeds_the_layers(self):
        one, two, three = with_dropout(), with_dropout(), with_dropout()
        two.model[3].rng.random(100)  # another state of the generator
        a, b = one.fit(X, y, epochs=2, seed=4), two.fit(X, y, epochs=2, seed=4)
        assert a.history == b.history
        assert bits(one) == bits(two)
        three.fit(X, y, epochs=2, seed=5)
        assert bits(one) != bits(three)

    def test_each_generator_has_its_own_sequence(self):
        model = Sequential(Dropout(0.5), Dropout(0.5), Linear(4, 3, rng=0))
        Trainer(model).fit(X, y, seed=0)
        a, b = (layer.rng.bit_generator.state["state"]["state"] for layer in (model[0], model[1]))
        assert a != b

    def test_a_shared_generator_is_seeded_once(self):
        rng = np.random.default_rng(0)
        shared, single = Sequential(Dropout(0.5, rng=rng), Dropout(0.5, rng=rng)), Sequential(Dropout(0.5, rng=1))
        nc.training._random.seed_layers(shared, 3)
        nc.training._random.seed_layers(single, 3)
        assert rng.random() == single[0].rng.random()

    def test_a_generator_or_none_leaves_the_layers_alone(self):
        model = Sequential(Dropout(0.0, rng=1), Linear(4, 3, rng=0))
        before = model[0].rng.bit_generator.state
        Trainer(model).fit(X, y, seed=np.random.default_rng(0))
        Trainer(model).fit(X, y)
        assert model[0].rng.bit_generator.state == before

    def test_the_trial_of_a_single_row_draws_nothing(self):
        models = [Sequential(Dropout(0.5, rng=1), Linear(4, 3, rng=0)) for _ in range(2)]
        one, two = (Trainer(model) for model in models)
        one.fit(X[:3], y[:3], batch_size=1, shuffle=False)
        for i in range(3):
            two.model.train()
            two.model.backward((two.loss(two.model(X[i : i + 1]), y[i : i + 1]), two.loss.backward())[1])
            two.optimizer.step()
        assert bits(one) == bits(two)

    @pytest.mark.parametrize("other", [2, 3])
    def test_the_same_bits_for_any_number_of_threads(self, other):
        rng = np.random.default_rng(0)
        many = rng.normal(size=(4096, 64)).astype(np.float32)  # enough for the kernels to take threads
        found = []
        for n in (1, other):
            model = MLP([64, 128, 3], seed=0)
            t = Trainer(model, SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True))
            with nc.threads(n):
                history = t.fit(many, many[:, :3].argmax(1), epochs=2, batch_size=2048, seed=0, validation_split=0.1)
            found.append((history.history, bits(t)))
        assert found[0] == found[1]


class TestBatches:
    @given(st.integers(2, 40), st.integers(2, 45), st.sampled_from(["batch", "layer", None]), st.booleans())
    def test_every_row_counts_once_for_any_sizes(self, rows, batch_size, norm, shuffle):
        layers = {"batch": [BatchNorm1d(5)], "layer": [LayerNorm(5)], None: []}[norm]
        model = Sequential(Linear(4, 5, rng=0), *layers, ReLU(), Linear(5, 3, rng=1))
        t, record = Trainer(model), Rows()
        history = t.fit(
            X[:rows], y[:rows], epochs=2, batch_size=batch_size, shuffle=shuffle, seed=0, callbacks=[record]
        )
        assert np.isfinite(history.history["loss"]).all()
        assert sorted(record.seen) == sorted(X[:rows, 0].tolist() * 2)
        assert min(record.sizes) >= 2
        assert max(record.sizes) <= min(batch_size + 1, rows)
        if not shuffle:
            assert record.seen == X[:rows, 0].tolist() * 2
        scores = t.evaluate(X[:rows], y[:rows], batch_size)
        assert scores["loss"] == pytest.approx(t.evaluate(X[:rows], y[:rows], rows)["loss"], rel=1e-5)

    @given(st.integers(1, 12))
    def test_batches_of_one_row(self, rows):
        for norm in (None, LayerNorm(5)):
            layers = [] if norm is None else [norm]
            model = Sequential(Linear(4, 5, rng=0), *layers, Linear(5, 3, rng=1))
            record = Rows()
            Trainer(model).fit(X[:rows], y[:rows], batch_size=1, callbacks=[record])
            assert record.sizes == [1] * rows
        with pytest.raises(ValueError, match="one value per channel"):
            trainer().fit(X[:rows], y[:rows], batch_size=1)

    def test_any_memory_layout(self):
        wide = np.zeros((120, 8), np.float32)
        wide[::2, ::2] = X
        fits = []
        for x in (X, wide[::2, ::2], np.asfortranarray(X)):
            t = trainer()
            fits.append((t.fit(x, y, 2, 7, seed=0).history, bits(t)))
        assert fits[0] == fits[1] == fits[2]

    def test_frozen_batch_norm_takes_one_row(self):
        t = trainer()
        t.model[1].freeze()
        before = t.model[1].running_mean.copy()
        t.fit(X, y, batch_size=1)
        np.testing.assert_array_equal(t.model[1].running_mean, before)


class TestGoingOn:
    def test_partial_fit_is_a_step(self):
        one, two = trainer(), trainer()
        logs = one.partial_fit(X[:20], y[:20])
        history = two.fit(X[:20], y[:20], batch_size=20, shuffle=False)
        assert {name: [value] for name, value in logs.items()} == history.history
        assert bits(one) == bits(two)
        assert len(one.history) == 0

    def test_partial_fits_are_a_fit(self):
        one, two = trainer(), trainer()
        w = np.linspace(0, 1, 60)
        for _ in range(2):
            for part in np.split(np.arange(60), [10, 35]):
                one.partial_fit(X[part], y[part], w[part], batch_size=5)
        two.fit(X, y, epochs=2, batch_size=5, shuffle=False, sample_weight=w)
        assert bits(one) == bits(two)

    def test_partial_fit_restores_the_mode_and_refuses(self):
        t = trainer()
        t.model.eval()
        t.partial_fit(X, y)
        assert not t.model.training
        before = bits(t)
        with pytest.raises(ValueError, match="one value per channel"):
            t.partial_fit(X[:1], y[:1])
        with pytest.raises(ValueError, match="partial_fit: sample_weight is 0 everywhere"):
            t.partial_fit(X, y, np.zeros(60))
        with pytest.raises(ValueError, match="X has NaN"):
            t.partial_fit(np.full((3, 4), np.nan), y[:3])
        with pytest.raises(ValueError, match="batch_size must be a positive int, got 0"):
            t.partial_fit(X, y, batch_size=0)
        assert bits(t) == before

    def test_partial_fit_steps_schedules_of_steps_alone(self):
        model = MLP([4, 3], seed=0)
        optimizer = SGD(model.parameters(), lr=1.0)
        t = Trainer(model, optimizer, scheduler=PerStep(optimizer))
        t.partial_fit(X, y, batch_size=20)
        assert t.scheduler.count == 3
        t.scheduler = PerEpoch(optimizer)
        t.partial_fit(X, y, batch_size=20)
        assert t.scheduler.count == 0

    def test_resume_with_nothing_before_begins(self):
        one, two = trainer(), trainer()
        a, b = one.fit(X, y, 2, seed=0, resume=True), two.fit(X, y, 2, seed=0)
        assert a.history == b.history
        assert bits(one) == bits(two)

    def test_resume_goes_on_in_one_process(self):
        one, two = with_dropout(), with_dropout()
        one.fit(X, y, 2, seed=0, validation_split=0.2)
        first = one.history
        one.fit(X, y, 5, seed=99, validation_split=0.2, resume=True)
        two.fit(X, y, 5, seed=0, validation_split=0.2)
        assert one.history is first
        assert one.history.epoch == [0, 1, 2, 3, 4]
        assert one.history.history == two.history.history
        assert bits(one) == bits(two)
        before = bits(one)
        one.fit(X, y, 5, validation_split=0.2, resume=True)  # done already
        assert bits(one) == before

    def test_resume_after_an_interrupt_goes_on(self):
        class Interrupt(Callback):
            def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
                if len(trainer.history) == 1:
                    raise KeyboardInterrupt

        t = trainer()
        with pytest.raises(KeyboardInterrupt):
            t.fit(X, y, 3, callbacks=[Interrupt()])
        assert t.fit(X, y, 3, resume=True).epoch == [0, 1, 2]

    def test_resume_cannot_cut_what_was_whole(self):
        t = trainer()
        t.fit(X, y)
        with pytest.raises(ValueError, match="validation_split was given, but the training that is resumed had none"):
            t.fit(X, y, 2, validation_split=0.2, resume=True)

    def test_resume_does_not_train_on_what_was_held_out(self):
        t = trainer()
        t.fit(X, y, validation_split=0.2)
        before = bits(t)
        with pytest.raises(ValueError, match="validation_split is missing, and the rows that were held out"):
            t.fit(X, y, 2, resume=True)
        assert bits(t) == before
        assert t.fit(X, y, 2, validation_split=0.2, resume=True).epoch == [0, 1]
