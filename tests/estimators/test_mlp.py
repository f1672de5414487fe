"""What the perceptrons add to scikit-learn's: norms, dropout, class weights, and their network."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.class_weight import compute_sample_weight

import normcore as nc
from normcore.data import load_digits
from normcore.estimators import MLPClassifier, MLPRegressor
from normcore.nn import BatchNorm1d, Dropout, GroupNorm, LayerNorm, Linear, RMSNorm
from normcore.training import Callback

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = load_digits()
X, Y = DIGITS.X[:500], DIGITS.y[:500]  # float32
XV, YV = DIGITS.X[500:800], DIGITS.y[500:800]
NUMBERS = X @ np.random.RandomState(0).standard_normal((64, 2)).astype(np.float32)
NORMS = {"batch": BatchNorm1d, "layer": LayerNorm, "rms": RMSNorm, "group": GroupNorm, None: None}


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_the_network_has_the_norm_between_layer_and_activation(norm):
    clf = MLPClassifier((20, 12), norm=norm, max_iter=2, random_state=0).fit(X, Y)
    kinds = [type(layer) for layer in clf.model_]
    hidden = [Linear, NORMS[norm], nc.nn.ReLU] if norm else [Linear, nc.nn.ReLU]
    assert kinds == [*hidden, *hidden, Linear]
    assert isinstance(clf.model_, nc.MLP)
    assert not clf.model_.training


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("norm", NORMS)
def test_prediction_is_the_networks_in_evaluation_mode(norm, activation):
    clf = MLPClassifier((20,), activation, norm=norm, dropout=0.2, max_iter=3, random_state=0).fit(X, Y)
    logits = clf.model_(XV)
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(clf.predict_proba(XV), exp / exp.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(clf.predict(XV), logits.argmax(axis=1))
    np.testing.assert_allclose(clf.predict_log_proba(XV), np.log(clf.predict_proba(XV)), rtol=1e-5)
    assert clf.score(XV, YV) == accuracy_score(YV, logits.argmax(axis=1))


@pytest.mark.parametrize("sizes", [(20, 8), ()])
@pytest.mark.parametrize("norm", NORMS)
def test_sparse_rows_are_predicted_as_dense_ones_and_never_made_dense(norm, sizes, monkeypatch):
    import scipy.sparse as sp

    clf = MLPClassifier(sizes, norm=norm, dropout=0.2, max_iter=3, random_state=0).fit(X, Y)
    expected = clf.predict_proba(XV)
    monkeypatch.setattr("normcore.estimators._rows.Rows.take", None)  # what makes rows dense
    for rows in (sp.csr_array(XV), sp.csc_matrix(XV), sp.csr_matrix(XV.astype(np.float64))):
        found = clf.predict_proba(rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_batch_norm_predicts_each_row_by_itself():
    """With running statistics: what else is in the batch makes no difference."""
    clf = MLPClassifier(max_iter=3, random_state=0).fit(X, Y)
    alone = np.concatenate([clf.predict_proba(row[None]) for row in XV[:20]])
    np.testing.assert_allclose(alone, clf.predict_proba(XV)[:20], rtol=1e-4, atol=1e-7)
    many = np.tile(XV, (10, 1))  # more than are predicted at a time
    np.testing.assert_allclose(clf.predict_proba(many), np.tile(clf.predict_proba(XV), (10, 1)), rtol=1e-4, atol=1e-7)


def test_running_statistics_are_plain_averages_for_ten_batches_and_moving_ones_after():
    means = []

    class Means(Callback):
        def on_batch_begin(self, trainer, batch):  # noqa: ARG002 - the signature of what it overrides
            self.hook = trainer.model[0].register_forward_hook(lambda *seen: means.append(seen[-1].mean(axis=0)))

        def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
            self.hook.remove()

    arguments = {"batch_size": 100, "random_state": 0, "callbacks": [Means()]}
    clf = MLPClassifier((8,), max_iter=2, **arguments).fit(X, Y)
    assert len(means) == 10
    np.testing.assert_allclose(clf.model_[1].running_mean, np.mean(means, axis=0), rtol=1e-4, atol=1e-5)
    means.clear()
    clf = MLPClassifier((8, 6), max_iter=3, **arguments).fit(X, Y)
    assert [layer.momentum for layer in clf.model_ if isinstance(layer, BatchNorm1d)] == [0.1, 0.1]
    want = np.mean(means[:10], axis=0)
    for mean in means[10:]:
        want = 0.9 * want + 0.1 * mean
    np.testing.assert_allclose(clf.model_[1].running_mean, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_norm_learns_badly_scaled_pixels_where_the_plain_network_does_not(norm):
    scale = np.geomspace(1e-3, 1e3, 64, dtype=np.float32)
    arguments = {"hidden_layer_sizes": (50, 50, 50), "activation": "logistic", "max_iter": 30, "random_state": 0}
    plain = MLPClassifier(norm=None, **arguments).fit(X * scale, Y)
    normed = MLPClassifier(norm=norm, **arguments).fit(X * scale, Y)
    assert normed.score(XV * scale, YV) > plain.score(XV * scale, YV) + 0.1


def test_lbfgs_trains_batch_norm_on_all_rows_and_leaves_their_statistics():
    clf = MLPClassifier((10,), solver="lbfgs", max_iter=30, random_state=0).fit(X, Y)
    z = X.astype(np.float64) @ clf.coefs_[0] + clf.intercepts_[0]
    np.testing.assert_allclose(clf.model_[1].running_mean, z.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(clf.model_[1].running_var, z.var(axis=0, ddof=1), rtol=1e-5)
    assert clf.coefs_[0].dtype == np.float32
    assert clf.score(X, Y) > 0.95


def test_lbfgs_prints_its_iterations(capsys):
    clf = MLPClassifier((5,), solver="lbfgs", max_iter=3, verbose=True, random_state=0).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["Iteration 1", "Iteration 2", "Iteration 3"]
    assert float(lines[-1].split("=")[1]) == pytest.approx(clf.loss_, rel=1e-4)


# --- coefficients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", None])
def test_coefficients_are_the_networks_memory(norm):
    clf = MLPClassifier((20, 12), norm=norm, max_iter=2, random_state=0).fit(X, Y)
    assert [coef.shape for coef in clf.coefs_] == [(64, 20), (20, 12), (12, 10)]
    assert [intercept.shape for intercept in clf.intercepts_] == [(20,), (12,), (10,)]
    clf.coefs_[-1][...] = 0.0
    clf.intercepts_[-1][...] = np.eye(10)[3]
    assert (clf.predict(XV) == 3).all()


def test_coefficients_can_be_replaced():
    clf = MLPClassifier((20,), norm=None, max_iter=2, random_state=0).fit(X, Y)
    other = MLPClassifier((20,), norm=None, max_iter=4, random_state=1).fit(X.astype(np.float64), Y)
    clf.coefs_, clf.intercepts_ = [coef.copy() for coef in other.coefs_], list(other.intercepts_)
    np.testing.assert_allclose(clf.predict_proba(XV), other.predict_proba(XV), rtol=1e-4, atol=1e-7)
    assert clf.coefs_[0].dtype == np.float32
    own = np.zeros((20, 10), np.float32)
    clf.coefs_[1] = own
    np.testing.assert_allclose(clf.predict_proba(XV)[0], clf.predict_proba(XV)[1])
    clf.partial_fit(X, Y)
    assert own.any()  # trained where it is
    clf.coefs_[1] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"coefs_\[1\] and intercepts_\[1\] must have the shapes \(20, 10\)"):
        clf.predict(XV)


def test_a_step_worked_out_by_hand():
    """The example of scikit-learn's own test_fit, reached by public attributes."""
    clf = MLPClassifier(
        2, "logistic", solver="sgd", learning_rate_init=0.1, alpha=0.1, momentum=0, norm=None, random_state=1
    )
    rows, y = np.array([[0.6, 0.8, 0.7]]), np.array([0])
    clf.partial_fit(rows, y, classes=[0, 1])
    clf.coefs_ = [np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0.0]]), np.array([[0.1], [0.2]])]
    clf.intercepts_ = [np.array([0.1, 0.1]), np.array([1.0])]
    clf.partial_fit(rows, y)
    # h = sigmoid(0.749), sigmoid(0.3); p = sigmoid(0.1 h1 + 0.2 h2 + 1) = 0.765452; d = h (1 - h) p (0.1, 0.2)
    np.testing.assert_allclose(
        clf.coefs_[0], [[0.0979993, 0.1957546], [0.2956657, 0.0960062], [0.4938325, -0.0026196]], atol=1e-6
    )
    np.testing.assert_allclose(clf.coefs_[1], [[0.04701213], [0.15402918]], atol=1e-6)
    np.testing.assert_allclose(clf.intercepts_[0], [0.0983321, 0.0962577], atol=1e-6)
    np.testing.assert_allclose(clf.intercepts_[1], [0.9234548], atol=1e-6)
    np.testing.assert_allclose(clf.predict_proba(rows)[0, 1], 0.739, atol=5e-4)


def test_nothing_of_the_data_is_kept():
    import weakref

    clf = MLPClassifier((20,), max_iter=2, random_state=0).fit(X, Y)
    assert all(layer._saved is None for layer in clf.model_)

    class Watched(np.ndarray):
        pass

    rows = XV.copy().view(Watched)
    gone = weakref.ref(rows)
    clf.predict(rows)
    del rows
    assert gone() is None
    assert all(layer._saved is None for layer in clf.model_)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "layer", None])
@pytest.mark.parametrize("estimator, y", [(MLPClassifier, Y), (MLPRegressor, NUMBERS)], ids=["classes", "numbers"])
def test_a_weight_is_how_often_a_row_is_there(estimator, y, norm):
    counts = np.random.RandomState(0).randint(0, 4, 100)
    rows, targets = X[:100].astype(np.float64), y[:100]
    # All rows in a batch: in smaller ones the repeated rows would be spread otherwise.
    arguments = {"norm": norm, "max_iter": 20, "random_state": 0, "activation": "tanh"}
    weighted = estimator(batch_size=len(rows), **arguments).fit(rows, targets, sample_weight=counts)
    repeated = estimator(batch_size=counts.sum(), **arguments).fit(rows.repeat(counts, 0), targets.repeat(counts, 0))
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-9)
    for one, other in zip(weighted.model_.state_dict().values(), repeated.model_.state_dict().values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", ["batch", None])
def test_weights_of_one_are_none(norm):
    plain = MLPClassifier(norm=norm, max_iter=2, random_state=0).fit(X, Y)
    ones = MLPClassifier(norm=norm, max_iter=2, random_state=0).fit(X, Y, sample_weight=np.ones(len(X)))
    np.testing.assert_array_equal(ones.coefs_[0], plain.coefs_[0])


@pytest.mark.parametrize("norm", ["batch", None])
def test_batches_in_which_nothing_counts_are_left_out(norm):
    """scikit-learn divides by zero there."""
    weights = np.zeros(len(X))
    weights[:30] = 2.0
    arguments = {"shuffle": False, "batch_size": 50, "max_iter": 20, "learning_rate_init": 0.05, "random_state": 0}
    clf = MLPClassifier(norm=norm, **arguments).fit(X, Y, weights)
    assert np.isfinite(clf.loss_curve_).all()
    assert clf.score(X[:30], Y[:30]) > clf.score(X[30:], Y[30:])


@pytest.mark.parametrize("classes", [(0, 1), ("no", "yes"), (0, 1, 2)])
@pytest.mark.parametrize("norm", ["batch", None])
def test_class_weights_are_sample_weights(norm, classes):
    y = np.array(classes)[np.minimum(Y // 4, len(classes) - 1)]
    for class_weight in ("balanced", {classes[0]: 5.0}, dict(zip(classes, (0.5, 3.0, 1.0), strict=False))):
        arguments = {"norm": norm, "max_iter": 3, "random_state": 0}
        by_class = MLPClassifier(class_weight=class_weight, **arguments).fit(X, y)
        full = class_weight if isinstance(class_weight, str) else {**dict.fromkeys(classes, 1.0), **class_weight}
        by_row = MLPClassifier(**arguments).fit(X, y, sample_weight=compute_sample_weight(full, y))
        np.testing.assert_allclose(by_class.predict_proba(XV), by_row.predict_proba(XV), rtol=1e-5)


def test_class_weights_multiply_sample_weights_and_count_in_partial_fit():
    weights = np.random.RandomState(0).uniform(0.5, 2.0, len(X))
    factors = np.where(Y == 3, 4.0, 1.0)
    by_class = MLPClassifier(class_weight={3: 4.0}, max_iter=1, random_state=0).fit(X, Y, weights)
    by_row = MLPClassifier(max_iter=1, random_state=0).fit(X, Y, weights * factors)
    np.testing.assert_allclose(by_class.coefs_[0], by_row.coefs_[0], rtol=1e-4, atol=1e-7)
    few = Y < 3  # a part without the class that the dict names
    by_class.partial_fit(X[few], Y[few])
    by_row.partial_fit(X[few], Y[few])
    np.testing.assert_allclose(by_class.coefs_[0], by_row.coefs_[0], rtol=1e-4, atol=1e-7)


def test_balanced_finds_the_rare_class():
    rng = np.random.RandomState(0)
    rows, y = rng.standard_normal((1000, 2)), np.zeros(1000, int)
    y[:30] = 1
    rows[:30] += 1.0
    arguments = {"hidden_layer_sizes": (10,), "max_iter": 50, "random_state": 0}
    plain = MLPClassifier(**arguments).fit(rows, y)
    balanced = MLPClassifier(class_weight="balanced", **arguments).fit(rows, y)
    assert balanced.predict(rows[:30]).mean() > plain.predict(rows[:30]).mean() + 0.3


# --- dropout and the rest ---------------------------------------------------------------------------------------------


def test_dropout_is_reproducible_and_not_in_prediction():
    clf = MLPClassifier(dropout=0.5, max_iter=3, random_state=0).fit(X, Y)
    again = MLPClassifier(dropout=0.5, max_iter=3, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(clf.coefs_[0], again.coefs_[0])
    np.testing.assert_array_equal(clf.predict_proba(XV), clf.predict_proba(XV))
    assert [layer.p for layer in clf.model_ if isinstance(layer, Dropout)] == [0.5]
    other = MLPClassifier(dropout=0.5, max_iter=3, random_state=1).fit(X, Y)
    assert not np.array_equal(clf.coefs_[0], other.coefs_[0])


@pytest.mark.parametrize("rows, batch_size", [(201, "auto"), (401, "auto"), (101, 50), (51, 50)])
def test_a_last_batch_of_a_single_row_joins_the_one_before(rows, batch_size):
    clf = MLPClassifier(batch_size=batch_size, max_iter=1, random_state=0).fit(X[:rows], Y[:rows])
    assert int(clf.model_[1].num_batches_tracked) == rows // (200 if batch_size == "auto" else batch_size)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_in_order_is_fit(solver, norm):
    arguments = {"solver": solver, "norm": norm, "shuffle": False, "random_state": 0, "learning_rate_init": 0.01}
    fitted = MLPClassifier(max_iter=6, **arguments).fit(X, Y)
    parts = MLPClassifier(**arguments)
    for _ in range(6):
        parts.partial_fit(X, Y, classes=np.arange(10))
    assert parts.loss_curve_ == fitted.loss_curve_
    np.testing.assert_array_equal(parts.predict_proba(XV), fitted.predict_proba(XV))


@pytest.mark.parametrize("norm", NORMS)
def test_numbers_are_learned(norm):
    reg = MLPRegressor(hidden_layer_sizes=(50,), norm=norm, max_iter=60, learning_rate_init=0.01, random_state=0)
    assert reg.fit(X, NUMBERS).score(XV, XV @ np.random.RandomState(0).standard_normal((64, 2))) > 0.9
    assert reg.predict(XV).dtype == np.float32
    one = MLPRegressor(max_iter=2, norm=norm, random_state=0).fit(X, NUMBERS[:, :1].ravel())
    assert one.predict(XV).shape == (300,)


def test_counts_are_never_negative_and_learned():
    rng = np.random.RandomState(0)
    rows = rng.uniform(0, 2, (500, 3))
    y = rng.poisson(np.exp(rows @ [0.5, 1.0, -0.5]))
    reg = MLPRegressor("poisson", (20,), learning_rate_init=0.01, random_state=0).fit(rows, y)
    assert (reg.predict(rows) > 0).all()
    assert r2_score(np.exp(rows @ [0.5, 1.0, -0.5]), reg.predict(rows)) > 0.8


def test_labels_keep_the_form_they_came_in():
    import scipy.sparse as sp

    labels = np.stack([Y % 2, Y > 4, Y == 3], axis=1).astype(int)
    dense = MLPClassifier(max_iter=60, random_state=0).fit(X, labels)
    sparse = MLPClassifier(max_iter=60, random_state=0).fit(X, sp.csr_matrix(labels))
    assert dense.predict(XV).dtype.kind == "i"
    assert sp.issparse(sparse.predict(XV))
    np.testing.assert_array_equal(sparse.predict(XV).toarray(), dense.predict(XV))
    np.testing.assert_array_equal(dense.predict(XV), dense.predict_proba(XV) > 0.5)
    assert dense.score(X, labels) > 0.8


def test_without_hidden_layers_there_is_no_norm():
    normed, plain = (
        MLPClassifier((), norm=norm, batch_size=499, max_iter=2, random_state=0).fit(X, Y) for norm in ("batch", None)
    )
    np.testing.assert_array_equal(normed.coefs_[0], plain.coefs_[0])


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("seed", range(3))
def test_of_one_class_there_is_only_that_to_predict(norm, seed):
    clf = MLPClassifier((8,), norm=norm, max_iter=1, early_stopping=True, random_state=seed).fit(X, np.full(500, 7))
    assert clf.validation_scores_ == [1.0]
    assert (clf.predict(XV) == 7).all()
    assert clf.score(XV, np.full(300, 7)) == 1.0
    assert clf.predict_proba(XV).shape == (300, 2)  # as scikit-learn's


def test_the_first_fit_leaves_nothing_to_the_second():
    """Without warm_start fit begins anew, whatever was there."""
    clf = MLPClassifier(max_iter=3, random_state=0, early_stopping=True).fit(X, Y)
    clf.set_params(early_stopping=False, norm=None, hidden_layer_sizes=(5,)).fit(X[:, :10], Y > 4)
    fresh = MLPClassifier(max_iter=3, random_state=0, norm=None, hidden_layer_sizes=(5,)).fit(X[:, :10], Y > 4)
    assert clf.validation_scores_ is None
    assert clf.loss_curve_ == fresh.loss_curve_
    assert clf.t_ == fresh.t_
    np.testing.assert_array_equal(clf.predict_proba(XV[:, :10]), fresh.predict_proba(XV[:, :10]))


def test_threads_may_predict_at_the_same_time():
    from concurrent.futures import ThreadPoolExecutor

    clf = MLPClassifier((50, 50), max_iter=2, random_state=0).fit(X, Y)
    want = clf.predict_proba(XV)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: clf.predict_proba(XV), range(50)):
            np.testing.assert_array_equal(got, want)


def test_without_the_compiled_steps_the_trajectory_is_the_same():
    fitted = []
    for backend in ("cython", "reference"):
        with nc.use_backend(backend):
            fitted.append(MLPClassifier(norm=None, max_iter=2, random_state=0).fit(X.astype(np.float64), Y))
    np.testing.assert_allclose(fitted[0].coefs_[0], fitted[1].coefs_[0], rtol=1e-9, atol=1e-12)
