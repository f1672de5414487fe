"""The study inference: averages against layers that keep them, batches against plain NumPy, and what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

import normcore as nc
from normcore.nn import BatchNorm1d
from normcore.studies import STUDIES, inference
from normcore.studies._data import load_classes
from normcore.studies._estimate import Difference
from normcore.studies._runs import Run, TrainingRuns
from normcore.studies._statistics import EXACT, Averages, with_batch_statistics
from normcore.studies.inference import Config

SMALL = dict(hidden=(8, 6), epochs=2, repeats=2, sizes=(16, 256), momenta=(0.1, None), test_sizes=(1, 2, 64))
RESULTS = []


def result():
    if not RESULTS:
        RESULTS.append(inference.run(Config(**SMALL)))
    return RESULTS[0]


def table_of(name, of=None):
    (table,) = [table for table in (of or result()).tables if table.name == name]
    return table


def trained(momentum, callbacks=(), epochs=2):
    data = load_classes("digits")
    model = nc.MLP([64, 8, 6, 10], norm="batch", seed=0, momentum=momentum)
    trainer = nc.Trainer(model, nc.optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(*data.train, epochs, 60, data.validation, seed=0, callbacks=callbacks)
    return trainer


@pytest.mark.parametrize("momentum", [0.01, 0.5, None])
def test_the_averages_are_those_that_a_layer_with_this_momentum_keeps(momentum):
    data = load_classes("digits")
    ours = Averages(*(data.train, data.validation), [0.9, momentum], [], 2)
    trained(1.0, [ours])
    trainer = trained(momentum)
    layers = [layer for layer in trainer.model if isinstance(layer, BatchNorm1d)]
    for layer, mean, var in zip(layers, ours._means, ours._vars, strict=True):
        # the layer keeps float32
        np.testing.assert_allclose(mean[1], layer.running_mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(var[1], layer.running_var, rtol=1e-4, atol=1e-5)
    name = "mean of all batches" if momentum is None else f"momentum {momentum:g}"
    found = ours.recorded.epochs[name]
    history = trainer.history.history
    assert [worth.val_loss for worth in found] == pytest.approx(history["val_loss"], rel=1e-4)
    assert [worth.val_accuracy for worth in found] == pytest.approx(history["val_accuracy"], abs=1 / 449)


def test_the_exact_statistics_are_recalibrated_ones():
    data = load_classes("digits")
    ours = Averages(data.train, data.validation, [0.5], [], 2)
    trained(1.0, [ours])
    trainer = trained(0.1)
    nc.recalibrate(trainer.model, data.train.X)
    exact = ours.recorded.epochs[EXACT][-1]
    assert exact.val_loss == pytest.approx(trainer.evaluate(*data.validation)["loss"], rel=1e-5)
    assert (exact.mean, exact.var) == (0, 0)
    off = ours.recorded.epochs["momentum 0.5"][-1]
    layers = [layer for layer in trainer.model if isinstance(layer, BatchNorm1d)]
    means = [
        (m[0] - layer.running_mean) / np.sqrt(layer.running_var + layer.eps)
        for m, layer in zip(ours._means, layers, strict=True)
    ]
    assert off.mean == pytest.approx(np.sqrt(np.mean(np.concatenate(means) ** 2)), rel=1e-4)


def test_batch_statistics_are_those_of_each_test_batch():
    data = load_classes("digits")
    model = trained(0.1).model
    X, y = (part[:20] for part in data.validation)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    loss, accuracy = with_batch_statistics(model, type(data.validation)(X, y), 10, "sorted by class")
    rows = np.argsort(y, kind="stable")
    want = []
    for at in (rows[:10], rows[10:]):
        z = X[at].astype(np.float64)
        for layer in model:
            if isinstance(layer, BatchNorm1d):
                z = (z - z.mean(0)) / np.sqrt(z.var(0) + layer.eps) * layer.weight.data + layer.bias.data
            elif isinstance(layer, nc.nn.Linear):
                z = z @ layer.weight.data.T.astype(np.float64) + layer.bias.data
            else:
                z = np.maximum(z, 0)
        want.append((np.log(np.exp(z).sum(1)) - z[np.arange(10), y[at]], z.argmax(1) == y[at]))
    assert loss == pytest.approx(np.concatenate([a for a, _ in want]).mean(), rel=1e-4)
    assert accuracy == np.concatenate([b for _, b in want]).mean()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(layer.update_stats for layer in model if isinstance(layer, BatchNorm1d))


def test_a_batch_of_one_has_no_statistics():
    data = load_classes("digits")
    said = with_batch_statistics(trained(0.1, epochs=1).model, data.validation, 1, "shuffled")
    assert "its variance would be zero" in said
    rows = table_of("test-batches").rows
    assert [row[1:] for row in rows if row[1] == 1] == [[1, *["cannot"] * 4]] * 2
    assert "Test batches of 1 cannot be normalised with their own statistics" in result().table()


def test_the_tables_have_every_way_size_and_seed():
    ways = ["momentum 0.1", "mean of all batches", "exact"]
    rows = table_of("statistics").rows
    assert [tuple(row[:2]) for row in rows] == [(f"batches of {n}", way) for n in (16, 256) for way in ways]
    runs = table_of("runs").rows
    assert {(row[1], row[2]) for row in runs} == {(seed, epoch) for seed in (0, 1) for epoch in (1, 2)}
    last = [row for row in runs if row[0] == "batches of 16, exact" and row[2] == 2]
    assert rows[2][2].mean == pytest.approx(sum(row[3] for row in last) / 2)
    json.loads(result().to_json(), parse_constant=pytest.fail)


def test_the_last_batch_is_told_of():
    assert "Rows in the last batch of an epoch, by batch size: 4 (16), 68 (256)." in result().table()


def losses(arm, seed, loss):
    return Run(arm, seed, {"val_loss": [loss], "val_accuracy": [1 - loss]}, [1.0])


def test_the_sentence_is_computed_with_the_spread():
    made_up = [("exact", 0.1, 0.11), ("bad", 0.5, 0.512), ("good", 0.05, 0.0602), ("even", 0.1, 0.12)]
    runs = [losses(f"batches of 8, {way}", seed, values[seed]) for way, *values in made_up for seed in (0, 1)]
    said = inference._momentum_verdict(TrainingRuns(tuple(runs), 8), 8, [way for way, *_ in made_up])
    assert said == (
        "Trained with batches of 8: the exact statistics have a validation loss of 0.1050; of the running averages "
        "(95 % intervals over 2 seeds) clearly worse: bad (+0.4010); clearly better: good (-0.0499); "
        "not clearly different: even (+0.0050)."
    )
    one = inference.run(Config(**SMALL | dict(repeats=1, epochs=1, sizes=(256,))))
    assert "(one seed, so it may be chance)" in one.table()
    gap = Difference(0.1, 0.05, 0.15, 3)
    assert inference._how_sure([gap, gap._replace(low=-0.1)]) == "more than chance explains (95 % intervals) in 1 of 2"


def test_every_picture_has_axes_units_and_a_legend():
    pytest.importorskip("matplotlib", reason="draws pictures")
    assert [picture.name for picture in result().pictures] == ["epochs", "test-batches"]
    for picture in result().pictures:
        figure = picture.draw()
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert "(" in axes.get_ylabel()
        assert len(figure.legends[0].get_texts()) >= 3


def test_only_test_batches_of_one_can_be_shown():
    only = inference.run(Config(**SMALL | dict(repeats=1, epochs=1, sizes=(256,), test_sizes=(1,))))
    assert only.table().count("cannot") >= 4
    assert [picture.name for picture in only.pictures] == ["epochs"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(sizes=(1,)), "every entry of sizes must be at least 2, as batch norm needs two rows, got 1"),
        (dict(momenta=(0.0,)), "every entry of momenta must be None or from above 0 to 1, got 0.0"),
        (dict(momenta=()), "momenta must hold at least one value"),
        (dict(test_sizes=(0,)), "every entry of test_sizes must be at least 1"),
    ],
)
def test_what_makes_no_study_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Config(**options)


def test_quick_is_a_look_at_the_same():
    assert STUDIES["inference"].config(quick=True) == Config(repeats=1, epochs=5, sizes=(15, 250))
