"""Diagnostics: what is recorded, against the same numbers computed from outside; and the pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from trainers import data, trainer

from normcore.nn import MLP, BatchNorm1d, Linear, ReLU, Sequential, Tanh
from normcore.optim import SGD
from normcore.training import Callback, Diagnostics, DivergenceError, Trainer
from normcore.training.diagnostics import _dead, _histogram

X, y = data()


def test_what_is_recorded_in_a_step():
    t, look = trainer(), Diagnostics(every=2, bins=7)
    twin = trainer()
    t.fit(X, y, 2, batch_size=20, shuffle=False, callbacks=[look])
    assert [(r["step"], r["epoch"], r["batch"]) for r in look.records] == [(0, 0, 0), (2, 0, 2), (4, 1, 1)]
    first = look.records[0]

    norm = twin.model[1]
    pre = twin.model[0](X[:20])
    mean, var = pre.mean(0, dtype=np.float64), pre.var(0, dtype=np.float64)
    assert first["drift"]["1"]["mean"] == pytest.approx(np.sqrt(np.mean(mean**2 / (1 + norm.eps))), rel=1e-5)
    expected = np.sqrt(np.mean(np.log((var + norm.eps) / (1 + norm.eps)) ** 2))
    assert first["drift"]["1"]["var"] == pytest.approx(expected, rel=1e-5)

    pre = norm(pre)
    post = twin.model[2](pre)
    found = first["activations"]["2"]
    assert found["kind"] == "ReLU"
    for key, values in (("pre", pre), ("post", post)):
        counts, edges = np.histogram(values, 7)
        assert found[key]["counts"] == counts.tolist()
        np.testing.assert_allclose(found[key]["edges"], edges, rtol=1e-5, atol=1e-6)
        assert found[key]["mean"] == pytest.approx(values.mean(), rel=1e-4, abs=1e-6)
        assert found[key]["std"] == pytest.approx(values.std(), rel=1e-4)
        assert found[key]["nonfinite"] == 0
    assert found["units"] == 8
    assert found["dead"] == np.flatnonzero((post == 0).all(0)).tolist()

    assert first["loss"] == pytest.approx(twin.loss(twin.model[3](post), y[:20]), rel=1e-5)
    twin.model.backward(twin.loss.backward())
    assert list(first["gradients"]) == [name for name, _ in twin.model.named_parameters()]
    for name, parameter in twin.model.named_parameters():
        assert first["gradients"][name] == pytest.approx(float(np.linalg.norm(parameter.grad)), rel=1e-3, abs=1e-6)


def test_is_plain_data():
    look = Diagnostics(every=1)
    trainer().fit(X, y, callbacks=[look])
    assert json.loads(json.dumps(look.records)) == look.records


def test_dead_units():
    model = Sequential(Linear(4, 6, rng=0), ReLU(), Linear(6, 3, rng=1))
    model[0].bias.data[[1, 4]] = -100
    look = Diagnostics(every=1)
    Trainer(model, SGD(model.parameters(), lr=1e-3)).fit(X, y, callbacks=[look])
    assert look.records[0]["activations"]["1"]["dead"] == [1, 4]
    assert look.records[0]["drift"] == {}
    assert _dead(np.array([[1.0, 2], [1, 3]])) == (2, [0])
    assert _dead(np.ones((1, 3))) == (3, None)  # a single row tells nothing
    assert _dead(np.ones(3)) == (1, None)
    images = np.zeros((2, 3, 2, 2))
    images[1, 1, 0, 1] = 1
    assert _dead(images) == (3, [0, 2])


def test_histograms_of_odd_values():
    found = _histogram(np.array([np.nan, np.inf, 1.0, 3.0]), 2)
    assert found == {"counts": [1, 1], "edges": [1, 2, 3], "mean": 2, "std": 1, "nonfinite": 2}
    assert _histogram(np.full(5, 7.0), 4)["counts"] == [0, 0, 5, 0]
    nothing = _histogram(np.array([np.nan]), 4)
    assert nothing["counts"] == []
    assert math.isnan(nothing["mean"])


@pytest.mark.parametrize("norm", ["batch", None])
def test_changes_nothing_but_the_last_place(norm):
    models = [MLP([4, 8, 3], norm=norm, seed=0, dtype=np.float64) for _ in range(2)]
    one, two = (Trainer(model, SGD(model.parameters(), lr=0.1)) for model in models)
    one.fit(X, y, 3, seed=0, callbacks=[Diagnostics(every=2)])
    two.fit(X, y, 3, seed=0)
    # Kernels apart rather than fused: some units in the last place in each of six steps
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-11, atol=1e-13)


def test_nothing_is_left_behind():
    class Interrupt(Callback):
        def on_batch_begin(self, trainer, batch):  # noqa: ARG002 - the signature of what it overrides
            if batch == 1:
                raise KeyboardInterrupt

    t, look = trainer(), Diagnostics(every=1)
    t.fit(X, y, callbacks=[look])
    assert all(module._forward_hooks is None for module in t.model.modules())
    with pytest.raises(KeyboardInterrupt):
        t.fit(X, y, callbacks=[look, Interrupt()])
    assert all(module._forward_hooks is None for module in t.model.modules())
    assert len(look.records) == 1
    t.fit(X, y, 2, batch_size=60, callbacks=[look])
    assert len(look.records) == 2  # of this training alone


def test_a_network_that_diverges_can_be_looked_at():
    model = MLP([4, 8, 3], seed=0)
    model[0].weight.data[0] = np.nan
    look = Diagnostics(every=1)

    class Break(Callback):
        def on_batch_begin(self, trainer, batch):
            if batch == 1:
                trainer.model[3].weight.data[...] = np.nan

    model[0].weight.data[0] = 0
    with pytest.raises(DivergenceError):
        Trainer(model).fit(X, y, batch_size=20, callbacks=[look, Break()])
    assert len(look.records) == 1


def test_a_step_that_broke_off_is_not_taken_for_another():
    t, look = trainer(), Diagnostics(every=2)
    look.on_train_begin(t)
    look.on_batch_begin(t, 0)
    look.on_train_end(t)  # Ctrl-C came
    look.on_train_begin(t)
    look.load_state_dict({"step": 1, "records": []})  # of a checkpoint
    look.on_batch_begin(t, 0)
    look.on_batch_end(t, 0, {"loss": 1.0})
    assert look.records == []


def test_values_that_are_all_not_finite():
    found = _histogram(np.array([np.nan, np.inf, -np.inf]), 4)
    assert (found.pop("counts"), found.pop("edges"), found.pop("nonfinite")) == ([], [], 3)
    assert list(found) == ["mean", "std"]
    assert all(map(math.isnan, found.values()))


def test_values_as_near_as_can_be_have_a_bin_around_them():
    near = _histogram(np.array([1e9 - 1, 1e9]), 4)
    assert near["edges"] == [1e9 - 1.5, 1e9 - 1, 1e9 - 0.5, 1e9, 1e9 + 0.5]
    assert near["counts"] == [0, 1, 0, 1]


def test_pictures():
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    model = Sequential(Linear(4, 6, rng=0), BatchNorm1d(6), ReLU(), Linear(6, 5, rng=1), Tanh(), Linear(5, 3, rng=1))
    look = Diagnostics(every=1)
    Trainer(model).fit(X, y, 3, batch_size=10, seed=0, callbacks=[look])
    figure = look.plot()
    figure.canvas.draw()
    panels = [axes for part in figure.subfigs for axes in part.axes]
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == [
        "2 ReLU, before", "2 ReLU, after", "4 Tanh, before", "4 Tanh, after", "",
        "gradient norms of weights", "share of dead units", "drift, batch against running statistics",
    ]  # fmt: skip
    assert all(len(axes.patches) == 8 for axes in panels[:4])  # as many curves as can be told apart
    gradients = panels[5]
    assert [line.get_label() for line in gradients.lines] == ["0.weight", "1.weight", "3.weight", "5.weight"]
    assert panels[4].get_ylabel() == "step"
    assert panels[4].get_ylim() == (0, 17)  # of the colours
    values = [record["gradients"]["3.weight"] for record in look.records]
    np.testing.assert_array_equal(gradients.lines[2].get_ydata(), values)
    assert gradients.get_yscale() == "log"


def test_the_picture_has_the_gradients_of_every_layer():
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    model = MLP([4, *[6] * 5, 3], seed=0)  # eleven weights: norms have one too
    look = Diagnostics(every=1)
    Trainer(model).fit(X, y, 1, batch_size=20, seed=0, callbacks=[look])
    figure = look.plot()
    figure.canvas.draw()
    (panel,) = [axes for part in figure.subfigs for axes in part.axes if axes.get_title(loc="left").startswith("grad")]
    weights = [name for name, _ in model.named_parameters() if name.endswith("weight")]
    assert [line.get_label() for line in panel.lines] == weights


@pytest.mark.parametrize(("batch_size", "last"), [(60, 1), (30, 1), (20, 2)])
def test_the_colours_of_few_steps(batch_size, last):
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    look = Diagnostics(every=1)
    Trainer(MLP([4, 6, 3], seed=0)).fit(X, y, 1, batch_size=batch_size, callbacks=[look])
    (colours,) = [axes for part in look.plot().subfigs for axes in part.axes if axes.get_ylabel() == "step"]
    assert colours.get_ylim() == (0, last)


@pytest.mark.parametrize(
    ("density", "top"), [([5.0], 5.25), ([1.0, 4.0], 4.2), ([5.0, 1.0], 1.3), ([3.0, 0.0], 3.15), ([0.5, 0.25], 0.525)]
)
def test_a_bar_far_above_the_others_is_cut_off(density, top):
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    from normcore.training._diagnostics_plot import _top

    assert _top(np.array(density)) == pytest.approx(top)


def test_gradients_of_zero_have_no_logarithm():
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    look = Diagnostics()
    look.load_state_dict(
        {"step": 1, "records": [{"step": 0, "activations": {}, "drift": {}, "gradients": {"0.weight": 0.0}}]}
    )
    assert [axes.get_yscale() for axes in look.plot().axes] == ["linear"] * 3


@pytest.mark.parametrize("epochs", [1, 3])
def test_pictures_of_little(epochs):
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    model = MLP([4, 3], seed=0)  # no activation, no norm
    look = Diagnostics(every=2)
    Trainer(model).fit(X, y, epochs, batch_size=60, callbacks=[look])
    look.plot().canvas.draw()
    with pytest.raises(ValueError, match=r"Diagnostics\.plot: nothing was recorded yet; pass the callback"):
        Diagnostics().plot()


def test_errors():
    with pytest.raises(ValueError, match="Diagnostics: every must be a positive int, got 0"):
        Diagnostics(every=0)
    with pytest.raises(TypeError, match=r"Diagnostics: bins must be a positive int, got 1\.5"):
        Diagnostics(bins=1.5)
