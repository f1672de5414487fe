"""Validation rows, early stopping and callbacks of the perceptrons."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

import normcore as nc
from normcore.data import load_digits
from normcore.estimators import MLPClassifier, MLPRegressor
from normcore.nn import Linear
from normcore.training import Callback, CSVLogger, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = load_digits()
X, Y = DIGITS.X[:500], DIGITS.y[:500]  # float32
XV, YV = DIGITS.X[500:800], DIGITS.y[500:800]
NUMBERS = X @ np.random.RandomState(0).standard_normal((64, 2)).astype(np.float32)


class Recorder(Callback):
    """Remembers what it was told."""

    def __init__(self):
        self.logs, self.rates, self.batches = [], [], 0

    def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
        assert np.isfinite(logs["loss"])
        self.batches += 1

    def on_epoch_end(self, trainer, epoch, logs):
        assert trainer.history.epoch[-1] == epoch
        assert tuple(logs) == trainer.log_names
        self.logs.append(dict(logs))
        self.rates.append(trainer.optimizer.lr)


# --- validation -------------------------------------------------------------------------------------------------------


def test_validation_data_is_looked_at_and_not_trained_on():
    plain = MLPClassifier(max_iter=4, random_state=0).fit(X, Y)
    clf = MLPClassifier(max_iter=4, random_state=0).fit(X, Y, validation_data=(XV, YV))
    np.testing.assert_array_equal(clf.coefs_[0], plain.coefs_[0])
    assert plain.validation_curve_ is plain.validation_scores_ is None
    assert len(clf.validation_curve_) == len(clf.validation_scores_) == clf.n_iter_ == 4
    p = clf.predict_proba(XV)[np.arange(len(YV)), YV]
    assert clf.validation_curve_[-1] == pytest.approx(-np.log(p).mean(), rel=1e-5)
    assert clf.validation_scores_[-1] == clf.score(XV, YV)
    assert clf.best_validation_score_ == max(clf.validation_scores_)


def test_validation_data_may_have_weights_and_be_sparse():
    import scipy.sparse as sp

    weights = np.linspace(0.0, 2.0, len(YV))
    clf = MLPClassifier(max_iter=2, random_state=0).fit(X, Y, validation_data=(sp.csc_matrix(XV), YV, weights))
    assert clf.validation_scores_[-1] == pytest.approx(clf.score(XV, YV, weights))
    p = clf.predict_proba(XV)[np.arange(len(YV)), YV]
    assert clf.validation_curve_[-1] == pytest.approx(-np.average(np.log(p), weights=weights), rel=1e-5)


def test_validation_of_numbers_and_of_labels():
    targets = XV @ np.random.RandomState(0).standard_normal((64, 2)).astype(np.float32)
    reg = MLPRegressor(max_iter=2, random_state=0).fit(X, NUMBERS, validation_data=(XV, targets))
    predicted = reg.predict(XV)
    assert reg.validation_curve_[-1] == pytest.approx(((predicted - targets) ** 2).mean() / 2, rel=1e-5)
    assert reg.validation_scores_[-1] == pytest.approx(r2_score(targets, predicted), rel=1e-5)
    labels = np.stack([Y % 2, Y > 4], axis=1)
    clf = MLPClassifier(max_iter=2, random_state=0)
    clf.fit(X, labels, validation_data=(XV, np.stack([YV % 2, YV > 4], axis=1)))
    assert clf.validation_scores_[-1] == clf.score(XV, np.stack([YV % 2, YV > 4], axis=1))


@pytest.mark.parametrize("norm", ["batch", None])
def test_early_stopping_ends_with_the_best_network(norm):
    clf = MLPClassifier(
        norm=norm, early_stopping=True, learning_rate_init=0.05, n_iter_no_change=4, random_state=0
    ).fit(X, Y, validation_data=(XV, YV))
    assert clf.n_iter_ < clf.max_iter
    assert clf.best_loss_ is None
    # Running statistics included: the score is the best one to the last row.
    assert clf.score(XV, YV) == clf.best_validation_score_ == max(clf.validation_scores_)
    assert clf.validation_scores_[-1] < clf.best_validation_score_


def test_early_stopping_holds_out_rows_and_looks_at_their_loss():
    clf = MLPClassifier(early_stopping=True, max_iter=3, n_iter_no_change=5, tol=0.0, random_state=0).fit(X, Y)
    assert clf.t_ == 3 * 450
    rng = np.random.RandomState(0)
    for shape in ((64, 100), 100, (100, 10), 10):  # what the starting values drew
        rng.uniform(size=shape)
    _, held_out = train_test_split(np.arange(len(X)), test_size=0.1, random_state=rng)
    assert clf.best_validation_score_ == clf.score(X[held_out], Y[held_out])
    assert len(clf.validation_curve_) == 3


def test_a_warm_start_that_does_not_help_ends_where_it_began():
    clf = MLPClassifier(early_stopping=True, warm_start=True, max_iter=30, random_state=0)
    clf.fit(X, Y, validation_data=(XV, YV))
    before = clf.predict_proba(XV)
    clf.set_params(learning_rate_init=0.5, max_iter=2).fit(X, Y, validation_data=(XV, YV))
    assert max(clf.validation_scores_[-2:]) < clf.best_validation_score_
    np.testing.assert_array_equal(clf.predict_proba(XV), before)


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_callbacks_are_told_what_the_attributes_say():
    recorder = Recorder()
    clf = MLPClassifier(max_iter=3, random_state=0, callbacks=[recorder]).fit(X, Y, validation_data=(XV, YV))
    assert [logs["loss"] for logs in recorder.logs] == clf.loss_curve_
    assert [logs["val_loss"] for logs in recorder.logs] == clf.validation_curve_
    assert [logs["val_accuracy"] for logs in recorder.logs] == clf.validation_scores_
    assert recorder.batches == 3 * 3
    plain = MLPClassifier(max_iter=3, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(plain.coefs_[0], clf.coefs_[0])


def test_callbacks_end_the_training_and_put_weights_back(tmp_path):
    stop = EarlyStopping("val_accuracy", patience=2, restore_best_weights=True)
    file = tmp_path / "log.csv"
    clf = MLPClassifier(learning_rate_init=0.05, random_state=0, callbacks=[stop, CSVLogger(file)]).fit(
        X, Y, validation_data=(XV, YV)
    )
    assert clf.n_iter_ == stop.stopped_epoch + 1 < clf.max_iter
    assert clf.score(XV, YV) == stop.best
    assert len(file.read_text().splitlines()) == clf.n_iter_ + 1


def test_callbacks_change_the_learning_rate():
    recorder = Recorder()
    callbacks = [ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100.0), recorder]
    MLPClassifier(max_iter=4, random_state=0, callbacks=callbacks).fit(X, Y)
    assert recorder.rates[-1] < recorder.rates[0] <= 1e-3


def test_a_checkpoint_of_an_estimator_is_read_by_a_trainer(tmp_path):
    path = tmp_path / "best.npz"
    clf = MLPClassifier((20,), max_iter=2, random_state=0, callbacks=[ModelCheckpoint(path, monitor="loss")]).fit(X, Y)
    model = nc.MLP([64, 20, 10], seed=1)
    layers = [layer.weight for layer in model if isinstance(layer, Linear)]
    others = [p for p in model.parameters() if all(p is not weight for weight in layers)]
    trainer = nc.Trainer(model, nc.optim.Adam([{"params": layers}, {"params": others}]))
    trainer.load_checkpoint(path)
    np.testing.assert_array_equal(trainer.predict(XV).argmax(1), clf.predict(XV))


@pytest.mark.parametrize("schedule", ["invscaling", "adaptive", "constant"])
def test_learning_rates_of_sgd(schedule):
    recorder = Recorder()
    clf = MLPClassifier(
        solver="sgd", learning_rate=schedule, power_t=0.25, tol=10.0, n_iter_no_change=1, random_state=0,
        callbacks=[recorder],
    ).fit(X, Y)  # fmt: skip
    rates = np.array(recorder.rates)
    if schedule == "invscaling":
        np.testing.assert_allclose(rates, 1e-3 / (500 * np.arange(1, len(rates) + 1) + 1) ** 0.25)
    elif schedule == "adaptive":
        assert clf.n_iter_ < clf.max_iter
        assert rates[-1] < 1e-6
        np.testing.assert_allclose(np.unique(np.round(rates[:-1] / np.append(rates[1:], rates[-1])[:-1])), [1, 5])
    else:
        assert (rates == 1e-3).all()


def test_ctrl_c_keeps_what_was_learned():
    class Interrupt(Callback):
        def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        clf = MLPClassifier(random_state=0, callbacks=[Interrupt()]).fit(X, Y)
    plain = MLPClassifier(max_iter=2, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(XV), plain.predict_proba(XV))
