"""Arms are trained alike for the same seed, Ctrl-C keeps what is finished, and the tables are what the runs say."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import normcore as nc
from normcore.data import Part
from normcore.studies import _data, _training
from normcore.studies._data import Classes, load_classes
from normcore.studies._estimate import Estimate
from normcore.studies._progress import StudyProgress
from normcore.studies._run_tables import every_epoch, every_run, goals, last_epoch
from normcore.studies._runs import Run, TrainingRuns
from normcore.studies._training import ArmPlan, Recorder, network, train_all
from normcore.studies._verdict import unlearned, versus


def classes(rows=40):
    rng = np.random.default_rng(0)
    X = rng.random((rows, 4), np.float32)
    y = (X[:, 0] > X[:, 1]).astype(np.int64)
    return Classes("made up", Part(X, y), Part(X[:10], y[:10]), 2)


def plans(data, **changes):
    arms = [
        ArmPlan(
            name,
            partial(network, data, (5,), "tanh", norm),
            lambda model: nc.optim.SGD(model.parameters(), lr=0.1),
            8,
        )
        for name, norm in (("no norm", None), ("batch norm", "batch"))
    ]
    return [arm._replace(**changes) for arm in arms]


def train(data, epochs=2, seeds=(0, 1), **changes):
    with StudyProgress(0, False) as bar:
        return train_all(plans(data, **changes), data, epochs, seeds, bar)


# --- training ---------------------------------------------------------------------------------------------------------


def test_every_arm_is_trained_with_every_seed():
    runs = train(classes())
    assert [(run.arm, run.seed) for run in runs.runs] == [
        ("no norm", 0), ("batch norm", 0), ("no norm", 1), ("batch norm", 1),
    ]  # fmt: skip
    assert runs.interrupted == ""
    for run in runs.runs:
        assert [len(values) for values in run.history.values()] == [2] * 4
        assert len(run.seconds) == 2


def test_a_run_is_what_the_trainer_alone_gives():
    data = classes()
    run = train(data, seeds=(3,)).of("batch norm")[0]
    model = nc.MLP([4, 5, 2], activation="tanh", norm="batch", seed=3)
    trainer = nc.Trainer(model, nc.optim.SGD(model.parameters(), lr=0.1))
    history = trainer.fit(*data.train, 2, 8, data.validation, seed=3).history
    assert run.history == history


@pytest.mark.parametrize("placement", ["before", "after"])
def test_the_weights_do_not_depend_on_the_norm(placement):
    data = classes()
    models = [network(data, (6, 5), "relu", norm, 0, placement) for norm in (None, ["batch", None])]
    linear = [[layer for layer in model if isinstance(layer, nc.nn.Linear)] for model in models]
    for a, b in zip(*linear, strict=True):
        np.testing.assert_array_equal(a.weight.data, b.weight.data)
    kinds = [type(layer).__name__ for layer in models[1]]
    first = ["BatchNorm1d", "ReLU"] if placement == "before" else ["ReLU", "BatchNorm1d"]
    assert kinds == ["Linear", *first, "Linear", "ReLU", "Linear"]


def test_a_training_that_diverges_has_no_numbers_for_the_rest():
    runs = train(classes(), 3, (0,), optimizer=lambda model: nc.optim.SGD(model.parameters(), lr=1e38))
    losses = runs.of("no norm")[0].history["loss"]
    assert len(losses) == 3
    assert math.isnan(losses[-1])
    assert len(last_epoch(runs).rows) == 2


class Interrupting(Recorder):
    def __init__(self, after):
        self.after = after
        self.recorded = []

    def on_epoch_end(self, trainer, epoch, logs):  # noqa: ARG002 - the signature of what it overrides
        self.after.append(0)
        self.recorded.append(logs["loss"])
        if len(self.after) == 5:  # in the third of the trainings of two epochs
            raise KeyboardInterrupt


def test_ctrl_c_keeps_the_trainings_that_were_finished():
    done: list[int] = []
    runs = train(classes(), recorder=lambda: Interrupting(done))
    assert [(run.arm, run.seed) for run in runs.runs] == [("no norm", 0), ("batch norm", 0)]
    assert runs.interrupted == "Interrupted: 2 of 4 trainings were finished, and the tables are of these."
    assert runs.of("no norm")[0].recorded == runs.of("no norm")[0].history["loss"]


def test_ctrl_c_before_anything_is_finished_is_passed_on():
    done = [0] * 4
    with pytest.raises(KeyboardInterrupt):
        train(classes(), recorder=lambda: Interrupting(done))


def test_the_data_are_the_two_parts_of_the_data_set(monkeypatch):
    asked = {}

    def load(name, **options):
        asked.update(options, name=name)
        return nc.data.load("digits")

    monkeypatch.setattr(_data, "load", load)
    data = load_classes("mnist", "here", True)
    assert asked == {"name": "mnist", "data_dir": "here", "progress": True}
    assert (data.name, data.features, data.classes, len(data.validation.y)) == ("MNIST", 64, 10, 449)
    assert data.sizes((3,)) == [64, 3, 10]
    assert data.guess == np.bincount(data.validation.y).max() / 449


@pytest.mark.parametrize(("rows", "batch", "steps"), [(40, 8, 5), (41, 8, 5), (42, 8, 6), (5, 8, 1), (40, 40, 1)])
def test_steps_are_those_of_the_trainer(rows, batch, steps):
    data = classes(rows)
    assert data.steps(batch) == steps

    class Count(Recorder):
        recorded = 0

        def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
            self.recorded += 1

    runs = train(data, 1, (0,), batch_size=batch, recorder=Count)
    assert runs.of("batch norm")[0].recorded == steps


def test_matrix_products_run_on_one_thread_during_a_study(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="limits BLAS")
    seen = []

    def train_all(*_):
        seen.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        return "runs"

    monkeypatch.setattr(_training, "train_all", train_all)
    from normcore.studies.norms import Config

    trained = _training.train_study(Config(), lambda _: [], False)
    assert set(seen) <= {1}
    assert trained.environment["BLAS"] == "1 thread"
    assert trained.environment["processor"]


# --- what the runs say ------------------------------------------------------------------------------------------------


def run_of(arm, seed, accuracies, seconds=1.0):
    losses = [1 - accuracy for accuracy in accuracies]
    history = {"loss": losses, "accuracy": accuracies, "val_loss": losses, "val_accuracy": accuracies}
    return Run(arm, seed, history, [seconds] * len(accuracies))


MADE_UP = TrainingRuns(
    (
        run_of("no norm", 0, [0.5, 0.7, 0.80]),
        run_of("batch norm", 0, [0.7, 0.8, 0.90], 2.0),
        run_of("no norm", 1, [0.5, 0.6, 0.82]),
        run_of("batch norm", 1, [0.7, 0.9, 0.93], 2.5),
    ),
    4,
)


def test_goals_are_reached_in_the_first_epoch_that_is_as_good():
    run = MADE_UP.of("batch norm")[0]
    assert [run.epochs_to("val_accuracy", goal) for goal in (0.7, 0.71, 0.9, 0.91)] == [1, 2, 3, None]
    assert run.epochs_to("loss", 0.21) == 2
    assert run.seconds_to("val_accuracy", 0.8) == 4.0
    assert (run.best("val_accuracy"), run.best("loss")) == (0.9, pytest.approx(0.1))
    assert math.isnan(run_of("x", 0, [math.nan]).best("loss"))


def test_the_tables_are_means_over_the_seeds():
    rows = {row[0]: row for row in last_epoch(MADE_UP).rows}
    assert rows["no norm"][4].mean == pytest.approx(0.81)
    assert rows["no norm"][4].spread == pytest.approx(math.sqrt(2e-4))
    assert rows["batch norm"][5].mean == 2.25
    assert [row[:2] for row in every_epoch(MADE_UP).rows] == [[arm, n] for arm in MADE_UP.arms for n in (1, 2, 3)]
    epochs, seconds = goals(MADE_UP, (0.3, 0.5, 0.9, 0.99))
    assert [column.name for column in epochs.columns] == ["network", "50%", "90%"]
    assert epochs.cells() == [["no norm", "1 ± 0", "never"], ["batch norm", "1 ± 0", "2.5 ± 0.707"]]
    assert seconds.cells()[1][2] == "5.50 ± 0.71"
    assert goals(MADE_UP, (0.99,)) == []
    assert len(every_run(MADE_UP).rows) == 12


def test_the_verdict_is_computed_with_the_spread():
    gaps = MADE_UP.compare("batch norm", "no norm", "val_accuracy")
    assert gaps.mean == pytest.approx(0.105)
    assert gaps.clear  # 0.105 ± 12.706 * 0.00707 / sqrt(2)
    assert versus(MADE_UP, "batch norm", "no norm") == (
        "Batch norm ended at a validation accuracy of 91.50%, 10.50 points above no norm (95 % interval "
        "+4.15 to +16.85 over 2 seeds); it reached the best of no norm after 2 epochs, where no norm took 3, "
        "and an epoch took 2.25 s against 1 s, which may be chance."
    )


@pytest.fixture
def _each_nan_is_another(monkeypatch):
    """Dataclasses with the same NaN object are equal up to Python 3.12, and not from 3.13 on."""
    over = Estimate.over

    def with_its_own(values):
        found = over(values)
        return found if found.count > 1 else replace(found, spread=float("nan"))

    monkeypatch.setattr(Estimate, "over", with_its_own)


@pytest.mark.usefixtures("_each_nan_is_another")
def test_the_verdict_of_one_seed_says_so():
    one = TrainingRuns(MADE_UP.runs[:2], 4)
    assert "10.00 points above no norm (one seed, so it may be chance)" in versus(one, "batch norm", "no norm")
    worse = TrainingRuns((run_of("a", 0, [0.9]), run_of("b", 0, [0.8])), 2)
    assert "10.00 points below a" in versus(worse, "b", "a")
    assert "it never reached the best that a had" in versus(worse, "b", "a")
    level = TrainingRuns((run_of("a", 0, [0.9]), run_of("b", 0, [0.9])), 2)
    assert "validation accuracy of 90.00%, as a did; it reached the best of a as soon as that did" in versus(
        level, "b", "a"
    )


def test_networks_that_learned_nothing_are_named():
    assert unlearned(MADE_UP, 0.1) == []
    (said,) = unlearned(MADE_UP, 0.8)
    assert said.startswith("Learned next to nothing: no norm. Always naming the most frequent class has")
    diverged = TrainingRuns((run_of("a", 0, [math.nan]),), 1)
    assert unlearned(diverged, 0.1)[0].startswith("Learned next to nothing: a.")


def test_a_seed_that_one_arm_lacks_is_not_compared():
    cut = TrainingRuns(MADE_UP.runs[:3], 4)
    assert cut.compare("batch norm", "no norm", "val_accuracy").seeds == 1
    assert cut.seeds == 2
