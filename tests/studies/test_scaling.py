"""The study scaling: the data of each arm against plain formulas, the choice of the rate, and what it says."""

from __future__ import annotations

import builtins
import json
import math

import numpy as np
import pytest

from normcore.cli import main
from normcore.nn import BatchNorm1d
from normcore.studies import STUDIES, scaling
from normcore.studies._data import load_classes
from normcore.studies._needs import MissingPackageError
from normcore.studies._runs import Run, TrainingRuns
from normcore.studies.scaling import ARMS, Config, scaled_data

SMALL = dict(hidden=(6, 5), epochs=2, repeats=2, lrs=(0.01, 0.1))
RESULTS = []


@pytest.fixture(autouse=True)
def _sklearn():
    pytest.importorskip("sklearn", reason="the scalers build on it")


def result():
    if not RESULTS:
        RESULTS.append(scaling.run(Config(**SMALL)))
    return RESULTS[0]


def table_of(name, of=None):
    (table,) = [table for table in (of or result()).tables if table.name == name]
    return table


def raw(seed=0):
    data = load_classes("digits")
    factors = 10.0 ** np.random.default_rng(seed).uniform(-3, 3, 64)
    return [part.X.astype(np.float64) * factors for part in (data.train, data.validation)]


def test_the_factors_span_the_decades_and_differ_by_seed():
    data = load_classes("digits")
    one, two = (scaled_data(Config(), data, "", seed) for seed in (0, 1))
    np.testing.assert_allclose(one.train.X, raw()[0], rtol=1e-6)
    assert not np.allclose(one.train.X, two.train.X)
    ranges = np.ptp(one.train.X, axis=0)
    ranges = ranges[ranges > 0]
    assert ranges.max() / ranges.min() > 1e4
    np.testing.assert_array_equal(one.train.y, data.train.y)


FORMULAS = {
    "min-max": lambda x, t: (x - t.min(0)) / np.ptp(t, axis=0),
    "mean": lambda x, t: (x - t.mean(0)) / np.ptp(t, axis=0),
    "standard": lambda x, t: (x - t.mean(0)) / t.std(0),
    "rows": lambda x, t: x / np.linalg.norm(x, axis=1, keepdims=True),  # noqa: ARG005 - nothing is learned
    "columns": lambda x, t: x / np.linalg.norm(t, axis=0),
}


@pytest.mark.parametrize("scaler", FORMULAS)
def test_a_scaling_is_learned_from_the_training_rows(scaler):
    train, validation = raw()
    found = scaled_data(Config(), load_classes("digits"), scaler, 0)
    varies = np.ptp(train, axis=0) > 0
    if scaler == "rows":
        varies = np.ones(64, bool)
    for got, x in ((found.train.X, train), (found.validation.X, validation)):
        with np.errstate(all="ignore"):
            want = FORMULAS[scaler](x, train)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got[:, varies], want[:, varies], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaler", ["pca", "zca"])
def test_whitened_data_have_the_identity_for_a_covariance(scaler):
    found = scaled_data(Config(decades=1.0), load_classes("digits"), scaler, 0).train.X.astype(np.float64)
    covariance = np.cov(found.T)
    kept = np.diagonal(covariance) > 0.5
    # constant pixels have no share; what is left is float32
    if scaler == "pca":
        np.testing.assert_allclose(covariance[np.ix_(kept, kept)], np.eye(kept.sum()), atol=1e-4)
    values = np.linalg.eigvalsh(covariance)
    assert ((np.abs(values - 1) < 1e-3) | (np.abs(values) < 1e-3)).all()


def test_batch_norm_is_where_the_names_say():
    data = load_classes("digits")
    for name, arm in ARMS.items():
        layers = list(scaling._network(Config(), data, arm, 0))
        norms = [index for index, layer in enumerate(layers) if isinstance(layer, BatchNorm1d)]
        assert norms == {"raw, batch norm": [1, 4], "standardisation, batch norm": [1, 4]}.get(
            name, [0, 2, 5] if "input" in name else []
        )


def test_each_arm_has_the_rate_of_its_own_lowest_training_loss():
    rows = table_of("learning-rates").rows
    assert [row[0] for row in rows] == list(ARMS)
    for row in rows:
        finite = [loss if math.isfinite(loss) else math.inf for loss in row[1:3]]
        assert row[3] == SMALL["lrs"][int(np.argmin(finite))]
    first = {(row[0], row[1]): row[3] for row in table_of("runs").rows if row[2] == 2}
    for row in rows:
        assert first[row[0], 0] == row[1 + SMALL["lrs"].index(row[3])]
    assert {seed for _, seed in first} == {0, 1}
    assert len(first) == 2 * len(ARMS)


def test_what_it_says_is_computed():
    text = result().table()
    assert "over 2 seeds" in text
    assert "Raw, batch norm on the input too: " in text
    assert "below standardisation" in text or "above standardisation" in text
    assert "Chosen at an end of the grid" in text
    json.loads(result().to_json(), parse_constant=pytest.fail)


def test_every_picture_has_axes_units_and_a_legend():
    pytest.importorskip("matplotlib", reason="draws pictures")
    assert [picture.name for picture in result().pictures] == ["scalings", "batch-norm"]
    for picture in result().pictures:
        figure = picture.draw()
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert "(" in axes.get_ylabel()
        assert 6 <= len(figure.legends[0].get_texts()) <= 7  # as many as there are colours


def test_after_ctrl_c_the_arms_that_have_their_rate_are_shown(monkeypatch):
    real, calls = scaling.train_all, []

    def cut(plans, data, epochs, seeds, bar):
        calls.append(len(plans))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(plans, data, epochs, seeds, bar)

    monkeypatch.setattr(scaling, "train_all", cut)
    half = scaling.run(Config(**SMALL | dict(epochs=1)))
    assert "Interrupted: 11 of 22 trainings were finished" in half.table()

    def early(plans, data, epochs, seeds, bar):
        found = real(plans[:3], data, epochs, seeds, bar)
        return TrainingRuns(found.runs, len(plans))

    monkeypatch.setattr(scaling, "train_all", early)
    few = scaling.run(Config(**SMALL | dict(epochs=1)))
    assert [row[0] for row in table_of("learning-rates", few).rows] == ["raw"]
    assert "Interrupted: 1 of 22" in few.table()


def test_an_arm_that_diverges_everywhere_keeps_a_rate():
    history = dict(loss=[math.nan], accuracy=[math.nan], val_loss=[math.nan], val_accuracy=[math.nan])
    runs = [Run(f"raw, learning rate {lr:g}", 0, history, [0.0]) for lr in (0.01, 0.1)]
    assert scaling._best(Config(**SMALL), TrainingRuns(tuple(runs), 2), "raw") == 0.01
    assert scaling._best(Config(**SMALL), TrainingRuns(tuple(runs[:1]), 2), "raw") is None


def test_without_scikit_learn_there_is_one_sentence(monkeypatch, capsys, tmp_path):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "normcore.estimators":
            raise ImportError("scikit-learn is not installed; install it")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPackageError, match="the study scaling needs scikit-learn, on which the scalers build: "):
        scaling.run()
    assert main(["study", "scaling", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("normcore: error: the study scaling needs scikit-learn")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(decades=0), "decades must be a positive number"),
        (dict(lrs=()), "lrs must hold at least one value"),
        (dict(lrs=(0.1, -1.0)), "every entry of lrs must be a positive number"),
    ],
)
def test_what_makes_no_study_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Config(**options)


def test_quick_is_a_look_at_the_same():
    quick = STUDIES["scaling"].config(quick=True)
    assert (quick.data, quick.repeats, quick.epochs) == ("digits", 1, 4)
