"""The study shift: what a look sees, that it changes nothing, and the figures against plain NumPy."""

from __future__ import annotations

import json

import numpy as np
import pytest

import normcore as nc
from normcore.nn import BatchNorm1d, Linear
from normcore.studies import STUDIES, shift
from normcore.studies._data import load_classes
from normcore.studies._distributions import Moves, Watch
from normcore.studies.shift import Config

SMALL = dict(hidden=(8, 6), epochs=2, repeats=2, looks=10, rows=50)
RESULTS = []


def result():
    if not RESULTS:
        RESULTS.append(shift.run(Config(**SMALL)))
    return RESULTS[0]


def table_of(name, of=None):
    (table,) = [table for table in (of or result()).tables if table.name == name]
    return table


def trained(recorder, norm="batch", epochs=1):
    data = load_classes("digits")
    model = nc.MLP([64, 5, 4, 10], "sigmoid", norm, seed=0)
    trainer = nc.Trainer(model, nc.optim.SGD(model.parameters(), lr=0.5))
    trainer.fit(*data.train, epochs, 60, seed=0, callbacks=[] if recorder is None else [recorder])
    return model, trainer.history.history


def test_looking_changes_nothing():
    X = load_classes("digits").validation.X[:30]
    watched, unwatched = trained(Watch(X, 5)), trained(None)
    assert watched[1] == unwatched[1]
    for name, value in watched[0].state_dict().items():
        np.testing.assert_array_equal(value, unwatched[0].state_dict()[name])
    assert all(layer.update_stats for layer in watched[0] if isinstance(layer, BatchNorm1d))
    assert not any(layer._forward_hooks for layer in watched[0].modules())


def test_a_look_sees_what_the_layers_get():
    X = load_classes("digits").validation.X[:30]
    watch = Watch(X, 23)
    model, _ = trained(watch)
    seen = watch.recorded
    assert seen.steps == [0, 23]
    linear = model[0](X)
    np.testing.assert_allclose(seen.linear[0].mean[-1], linear.mean(axis=0, dtype=np.float64), rtol=1e-6, atol=1e-7)
    wide = linear.astype(np.float64)
    norm = model[1]
    # normalised with the statistics of these rows, as in training
    inputs = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + norm.eps) * norm.weight.data + norm.bias.data
    np.testing.assert_allclose(seen.inputs[0].std[-1], inputs.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        seen.inputs[0].quantiles[-1], np.quantile(inputs, [0.15, 0.5, 0.85], axis=0).T, rtol=1e-5, atol=1e-5
    )
    assert [len(seen.linear), len(seen.inputs)] == [2, 2]
    assert seen.inputs[1].quantiles.shape == (2, 4, 3)


def test_ways_are_sums_of_moves():
    """Two units, three looks; the first moves by 1 and by 2, its spread is 1, then 2, then 4."""
    mean = np.array([[0.0, 5.0], [1.0, 5.0], [-1.0, 5.0]])
    std = np.array([[1.0, 3.0], [2.0, 3.0], [4.0, 3.0]])
    quantiles = mean[:, :, None] + np.array([-0.5, 0.0, 0.5])
    moves = Moves(mean, std, quantiles)
    assert moves.way_of_mean() == (3 + 0) / 2
    assert moves.way() == (1 / 1 + 2 / 2 + 0) / 2
    assert moves.way_of_spread() == pytest.approx((np.log(2) + np.log(2)) / 2)
    assert (moves.spread(0), moves.spread(-1)) == (2.0, 3.5)
    assert moves.typical() == 1  # the lower of two


def test_the_network_has_small_gaussian_weights():
    data = load_classes("digits")
    config = Config()
    plain, normed = (shift._network(config, data, norm, 1) for norm in (None, "batch"))
    ours, theirs = ([layer for layer in model if isinstance(layer, Linear)] for model in (plain, normed))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.weight.data, b.weight.data)
        assert not a.bias.data.any()
    weights = np.concatenate([layer.weight.data.ravel() for layer in ours])
    assert abs(weights.std() - 0.1) < 3 * 0.1 / np.sqrt(2 * weights.size)


def test_the_table_is_the_mean_of_the_seeds():
    rows = table_of("movement").rows
    places = ("no norm", "batch norm", "batch norm, before the norm")
    assert [tuple(row[:2]) for row in rows] == [(place, layer) for place in places for layer in (1, 2)]
    looks = table_of("looks").rows
    assert {(row[0], row[1], row[2]) for row in looks} == {(p, s, n) for p in places for s in (0, 1) for n in (1, 2)}
    last = [row for row in looks if row[0] == "no norm" and row[2] == 2 and row[3] == max(r[3] for r in looks)]
    assert rows[1][3].mean == pytest.approx(sum(row[5] for row in last) / 2)
    # Behind the norm the spread is |gamma|, which begins with 1; eps takes a little of it.
    assert rows[2][2].mean == pytest.approx(1, rel=1e-2)


def test_what_it_says_is_computed():
    text = result().table()
    assert "Layer 1: with batch norm what its sigmoids get moved" in text
    assert "Layer 2: with batch norm what comes out of Linear, before the norm, moved" in text
    assert "digits, 1,348 images" in text
    json.loads(result().to_json(), parse_constant=pytest.fail)
    one = shift.run(Config(**SMALL | dict(repeats=1, epochs=1)))
    assert "one seed, so it may be chance" in one.table()


def test_every_picture_has_axes_units_and_a_legend():
    pytest.importorskip("matplotlib", reason="draws pictures")
    for picture in result().pictures:
        figure = picture.draw()
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert "(" in axes.get_ylabel()
        assert len(figure.legends[0].get_texts()) >= 2
    assert [picture.name for picture in result().pictures] == ["quantiles", "layers", "moves", "curves"]


def test_after_ctrl_c_one_arm_is_enough(monkeypatch):
    real = shift._plans
    monkeypatch.setattr(shift, "_plans", lambda *a: real(*a)[:1])
    half = shift.run(Config(**SMALL | dict(repeats=1, epochs=1)))
    assert {row[0] for row in table_of("movement", half).rows} == {"no norm"}
    if pytest.importorskip("matplotlib", reason="draws pictures"):
        for picture in half.pictures:
            picture.draw()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(weight_std=0), "weight_std must be a positive number"),
        (dict(looks=1), "looks must be at least 2"),
        (dict(rows=1), "rows must be at least 2, as batch norm needs two rows"),
    ],
)
def test_what_makes_no_study_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Config(**options)


def test_quick_is_a_look_at_the_same():
    assert STUDIES["shift"].config(quick=True) == Config(repeats=1, epochs=40)
