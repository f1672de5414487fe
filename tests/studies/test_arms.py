"""The studies that compare trainings: each in a tiny configuration, and what it says of made-up numbers."""

from __future__ import annotations

import json
import re

import pytest

import normcore as nc
from normcore.data import load
from normcore.studies import STUDIES, _data, activations, batch_size, cifar, depth, norms, optimizers
from normcore.studies._estimate import Difference
from normcore.studies._training import Trained

SMALL = dict(hidden=(8, 6), epochs=2, repeats=2)
CONFIGS = {
    "norms": SMALL,
    "activations": SMALL,
    "depth": SMALL,
    "optimizers": SMALL,
    "batch-size": dict(SMALL, sizes=(64, 256)),
    "cifar": dict(SMALL, data="digits", every=50),
}
ARMS = {
    "norms": ["no norm", "batch norm", "layer norm", "group norm", "RMS norm"],
    "activations": ["sigmoid, no norm", "sigmoid, batch norm", "ReLU, no norm", "ReLU, batch norm"],
    "depth": [f"{a}, {n}" for a in ("sigmoid", "ReLU") for n in ("0 norms", "1 norm", "2 norms")],
    "optimizers": ["SGD, no norm", "SGD, batch norm", "Adam, no norm", "Adam, batch norm"],
    "batch-size": [
        f"{a}, {size}, {norm}" for a in ("sigmoid", "ReLU") for size in (256, 64) for norm in ("no norm", "batch norm")
    ],
    "cifar": ["no norm", "batch norm"],
}
RESULTS = {}


def result_of(name):
    if name not in RESULTS:
        RESULTS[name] = STUDIES[name].run(STUDIES[name].config(**CONFIGS[name]))
    return RESULTS[name]


def table_of(result, name):
    (table,) = [table for table in result.tables if table.name == name]
    return table


@pytest.mark.parametrize("name", CONFIGS)
def test_a_study_has_all_its_arms_epochs_and_seeds(name):
    result = result_of(name)
    assert [row[0] for row in table_of(result, "last-epoch").rows] == ARMS[name]
    seeds, epochs = (0, 1), (1, 2)
    cells = {(row[0], row[1], row[2]) for row in table_of(result, "runs").rows}
    assert cells == {(arm, seed, epoch) for arm in ARMS[name] for seed in seeds for epoch in epochs}
    assert result.study == name
    assert result.interrupted == ""
    assert result.conclusions
    assert "digits, 1,348 images to train on and 449 to validate with" in result.table()
    json.loads(result.to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_means_are_those_of_the_runs(name):
    result = result_of(name)
    runs = table_of(result, "runs").rows
    for arm, *cells in table_of(result, "last-epoch").rows:
        last = [row for row in runs if row[0] == arm and row[2] == 2]
        for column, cell in enumerate(cells[:4]):
            assert cell.mean == pytest.approx(sum(row[3 + column] for row in last) / 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_seed_gives_the_same_numbers(name):
    options = dict(CONFIGS[name], repeats=1, seed=1)
    again = STUDIES[name].run(STUDIES[name].config(**options))
    ours = [row[:-1] for row in table_of(result_of(name), "runs").rows if row[1] == 1]
    assert [row[:-1] for row in table_of(again, "runs").rows] == ours
    assert "one seed, so it may be chance" in again.table()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_picture_has_axes_units_and_a_legend(name):
    pytest.importorskip("matplotlib", reason="draws pictures")
    for picture in result_of(name).pictures:
        figure = picture.draw()
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert re.search(r"\(.+\)", axes.get_ylabel()), picture.name
            assert axes.lines
        (legend,) = figure.legends
        assert len(legend.get_texts()) >= 2
        assert picture.caption
    assert result_of(name).pictures[0].render().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", CONFIGS)
def test_quick_is_a_look_at_the_same(name):
    quick = STUDIES[name].config(quick=True)
    assert (quick.data, quick.repeats) == ("digits", 1)
    assert STUDIES[name].config(quick=True, repeats=4).repeats == 4


# --- what is trained, by layers and optimisers ------------------------------------------------------------------------


def plans_of(module, **options):
    """Name, kinds of layers, optimiser of every arm."""
    data = _data.load_classes("digits")
    for plan in module._plans(module.Config(**options), data):
        model = plan.model(0)
        yield plan, [type(layer).__name__ for layer in model], plan.optimizer(model)


def test_norms_trains_the_norms_that_it_names():
    found = {plan.name: (kinds, optimizer, plan) for plan, kinds, optimizer in plans_of(norms)}
    names = {"batch norm": "BatchNorm1d", "layer norm": "LayerNorm", "group norm": "GroupNorm", "RMS norm": "RMSNorm"}
    for name, (kinds, optimizer, plan) in found.items():
        norm = [names[name]] if name in names else []
        assert kinds == ["Linear", *norm, "ReLU", "Linear", *norm, "ReLU", "Linear"]
        assert (type(optimizer), optimizer.lr, plan.batch_size) == (nc.optim.Adam, 1e-3, 32)


@pytest.mark.parametrize("module", [activations, depth, batch_size])
def test_the_deep_networks_are_trained_as_the_tutorial_does(module):
    for plan, kinds, optimizer in plans_of(module):
        assert kinds.count("Linear") == 5
        assert kinds.count("Sigmoid" if "sigmoid" in plan.name else "ReLU") == 4
        assert type(optimizer) is nc.optim.SGD
        assert (optimizer.lr, optimizer.momentum, optimizer.nesterov) == (0.01, 0.9, True)
        if module is not batch_size:
            assert plan.batch_size == 128
        if module is not depth:
            first = ["BatchNorm1d"] if "batch norm" in plan.name else []
            assert kinds[2 : 2 + len(first)] == first
            assert kinds.count("BatchNorm1d") == len(first)


def test_optimizers_are_those_that_it_names():
    kinds = [
        (plan.name.split(",")[0], type(optimizer).__name__, optimizer.lr) for plan, _, optimizer in plans_of(optimizers)
    ]
    assert kinds == [("SGD", "SGD", 0.01), ("SGD", "SGD", 0.01), ("Adam", "Adam", 0.01), ("Adam", "Adam", 0.01)]
    assert all("Sigmoid" in layers for _, layers, _ in plans_of(optimizers))


def test_cifar_is_the_tutorials_network():
    (_, bare, _), (plan, normed, optimizer) = plans_of(cifar)
    assert normed == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert bare == [kind for kind in normed if kind != "BatchNorm1d"]
    assert (type(optimizer), optimizer.lr, plan.batch_size) == (nc.optim.Adam, 1e-4, 10)
    assert [layer.weight.data.shape for layer in plan.model(0) if isinstance(layer, nc.nn.Linear)] == [
        (64, 64), (32, 64), (10, 32),
    ]  # fmt: skip


# --- depth ------------------------------------------------------------------------------------------------------------


def test_depth_puts_batch_norm_after_ever_more_layers():
    data = _data.load_classes("digits")
    config = depth.Config(hidden=(8, 6), placement="after")
    counts = []
    for plan in depth._plans(config, data):
        layers = list(plan.model(0))
        norms = [index for index, layer in enumerate(layers) if isinstance(layer, nc.nn.BatchNorm1d)]
        assert norms == [2, 5][: len(norms)]
        counts.append(len(norms))
    assert counts == [0, 1, 2] * 2


# --- batch-size -------------------------------------------------------------------------------------------------------

UP, DOWN, UNCLEAR = Difference(0.01, 0.005, 0.015, 3), Difference(-0.01, -0.015, -0.005, 3), Difference(0.01, -1, 1, 3)


@pytest.mark.parametrize(
    ("gaps", "sentence"),
    [
        ([DOWN, UP, UP], "it stops helping between 64 and 4 rows, as batches get smaller."),
        ([UP, UNCLEAR, UNCLEAR], "it stops helping between 4 and 64 rows, as batches get larger."),
        ([UP, UP, UP], "at none of these sizes has it stopped helping."),
        ([UNCLEAR, DOWN, UNCLEAR], "none of these sizes shows it to help."),
        ([UNCLEAR, UP, UNCLEAR], "there is no one size at which it stops helping."),
    ],
)
def test_where_it_stops_helping_is_computed_with_the_spread(gaps, sentence):
    pairs = [batch_size.Pair(size, "b", "n", gap) for size, gap in zip((4, 64, 256), gaps, strict=True)]
    assert batch_size.stops("ReLU", pairs[::-1]).endswith(f"(95 % intervals over 3 seeds): {sentence}")


def test_what_helped_and_what_did_harm_is_listed():
    pairs = [batch_size.Pair(size, "b", "n", gap) for size, gap in zip((4, 64, 256), (DOWN, UNCLEAR, UP), strict=True)]
    assert batch_size.stops("ReLU", pairs).startswith(
        "With ReLU batch norm helped at 256; it did harm at 4; it made no clear difference at 64"
    )
    one = [pair._replace(gap=pair.gap._replace(seeds=1)) for pair in pairs]
    assert batch_size.stops("ReLU", one) == (
        "With ReLU batch norm changed the accuracy by -1.00 points at 4, +1.00 points at 64, +1.00 points at 256 "
        "(one seed, so it may be chance)."
    )


def test_every_size_has_its_own_batches():
    data = _data.load_classes("digits")
    sizes = [plan.batch_size for plan in batch_size._plans(batch_size.Config(), data)]
    assert sizes == [1024, 1024, 256, 256, 64, 64, 4, 4] * 2


# --- cifar ------------------------------------------------------------------------------------------------------------


def test_cifar_shows_the_mean_loss_of_each_so_many_batches():
    result = result_of("cifar")
    rows = table_of(result, "windows").rows
    assert [tuple(row[:2]) for row in rows] == [(epoch, batch) for epoch in (1, 2) for batch in (50, 100, 135)]
    first = table_of(result, "runs").rows[0]  # no norm, seed 0, epoch 1: the mean over all batches, weighted by rows
    model = nc.MLP([64, 8, 6, 10], norm=None, seed=0)
    trainer = nc.Trainer(model, nc.optim.Adam(model.parameters(), lr=1e-4))
    losses = []

    class Losses(nc.training.Callback):
        def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
            losses.append(logs["loss"])

    data = load("digits").train
    trainer.fit(data.X, data.y, 1, 10, seed=0, callbacks=[Losses()])
    assert len(losses) == 135
    assert trainer.history.history["loss"][0] == first[3]
    again = cifar.run(cifar.Config(data="digits", hidden=(8, 6), epochs=1, repeats=1, every=50))
    means = [row[2].mean for row in table_of(again, "windows").rows]
    assert means == pytest.approx([sum(losses[:50]) / 50, sum(losses[50:100]) / 50, sum(losses[100:]) / 35])


def test_cifar_prints_them_as_the_tutorial_does():
    (log,) = result_of("cifar").texts.values()
    lines = log.splitlines()
    assert lines[0].split() == ["Starting", "epoch", "1", "no", "norm", "batch", "norm"]
    assert re.fullmatch(r"Loss after mini-batch    50:  \d\.\d{3} ± \d\.\d{3}  +\d\.\d{3} ± \d\.\d{3}", lines[1])
    assert len(lines) == 8


def test_cifar_says_that_digits_stand_in_and_what_the_tutorial_reports(monkeypatch):
    text = result_of("cifar").table()
    assert "digits stands in for CIFAR-10 here" in text
    assert "1.57" not in text

    monkeypatch.setattr(_data, "load", lambda *_, **__: load("digits"))  # as if they were CIFAR-10
    real = cifar.run(cifar.Config(hidden=(4,), repeats=1, batch_size=500))
    assert "The tutorial reports about 1.57 with batch norm and about 1.65 without in the fifth epoch." in real.table()
    assert "stands in" not in real.table()
    assert real.title.endswith("on CIFAR-10")


def test_cifar_reads_the_files_of_cifar_10(tmp_path, monkeypatch):
    """Files in the published form, ten thousand times smaller; the checks of what is published are left out."""
    import functools

    import numpy as np

    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (8, 3073), np.uint8)
        records[:, 0] = rng.integers(0, 10, 8)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"class{k}" for k in range(10)))
    monkeypatch.setattr(_data, "load", functools.partial(load, verify=False, download=False))
    result = cifar.run(cifar.Config(epochs=1, repeats=1, data_dir=str(tmp_path)))
    assert "Network 3072-64-32-10" in result.table()
    assert "CIFAR-10, 40 images to train on and 8 to validate with" in result.table()
    assert "data_dir" not in result.config


def test_half_a_study_can_be_shown():
    """After Ctrl-C in the first seed some arms are missing; all that there is can be drawn and printed."""
    for name in CONFIGS:
        module = __import__(f"normcore.studies.{name.replace('-', '_')}", fromlist=["run"])
        whole = module.train_study

        def cut(config, plans, progress, whole=whole):
            trained = whole(config, lambda data: plans(data)[:1], progress)
            runs = type(trained.runs)(trained.runs.runs, 99)
            return Trained(trained.data, runs, trained.seconds, trained.environment)

        options = dict(CONFIGS[name], repeats=1, epochs=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "train_study", cut)
            result = STUDIES[name].run(STUDIES[name].config(**options))
        assert "Interrupted: 1 of 99 trainings were finished" in result.table()
        for picture in result.pictures:
            picture.draw()
