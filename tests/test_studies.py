"""The digits study is fair, says what its numbers say, and shows batch norm reaching a lower loss sooner."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest

import normcore as nc
from normcore.data import load_digits
from normcore.studies import STUDIES, Arm, StudyResult, digits
from normcore.studies._blas import one_blas_thread

TINY = digits.Config(hidden=(6,), epochs=2, learning_rates=(0.1, 0.5))


@pytest.fixture(scope="module")
def default() -> StudyResult:
    return STUDIES["digits"].run()


@pytest.fixture(scope="module")
def tiny() -> StudyResult:
    return digits.run(TINY)


# --- the promise ------------------------------------------------------------------------------------------------------


def test_batch_norm_reaches_a_lower_loss_sooner(default):
    no_norm, batch_norm = default.arms
    assert default.goal is not None
    ours, theirs = batch_norm.epochs_to(default.goal), no_norm.epochs_to(default.goal)
    assert ours is not None
    assert ours < theirs
    for loss in (1.0, 0.5, 0.2, 0.1):
        assert batch_norm.epochs_to(loss) < no_norm.epochs_to(loss)
    assert batch_norm.history["loss"][-1] < no_norm.history["loss"][-1] / 2
    assert "Batch norm reached" in default.conclusion
    assert f"sooner in epochs ({ours} against {theirs})" in default.conclusion


def test_the_network_without_norm_was_given_a_fair_chance(default):
    no_norm = default.arms[0]
    assert no_norm.history["val_accuracy"][-1] > 0.94
    rates = list(no_norm.tried)
    assert no_norm.lr not in (rates[0], rates[-1])  # its best is inside the grid


def test_each_arm_has_its_own_best_learning_rate(default):
    for arm in default.arms:
        assert tuple(arm.tried) == default.config["learning_rates"]
        assert arm.tried[arm.lr] == min(v for v in arm.tried.values() if math.isfinite(v))
        assert arm.history["loss"][-1] == arm.tried[arm.lr]


def test_both_arms_start_from_the_same_weights():
    no_norm, batch_norm = (digits.network(name, TINY, load_digits()) for name in ("no norm", "batch norm"))
    linear = [[layer for layer in model if isinstance(layer, nc.nn.Linear)] for model in (no_norm, batch_norm)]
    assert len(linear[0]) == len(linear[1]) == 2
    for a, b in zip(*linear, strict=True):
        for (_, left), (_, right) in zip(a.named_parameters(), b.named_parameters(), strict=True):
            np.testing.assert_array_equal(left.data, right.data)
    assert [type(layer).__name__ for layer in batch_norm] == ["Linear", "BatchNorm1d", "Tanh", "Linear"]


def test_the_same_seed_gives_the_same_numbers(tiny):
    again = digits.run(TINY)
    other = digits.run(dataclasses.replace(TINY, seed=1))
    assert [arm.history for arm in again.arms] == [arm.history for arm in tiny.arms]
    assert other.arms[0].history != tiny.arms[0].history


def test_the_kernels_are_those_that_run():
    with nc.use_backend("reference"):
        result = digits.run(dataclasses.replace(TINY, epochs=1, learning_rates=(0.1,)))
    assert [arm.kernels for arm in result.arms] == [(), ("reference: channels (1 thread)",)]
    assert "reference: channels (1 thread)" in result.table()


def test_a_learning_rate_that_diverges_is_not_chosen():
    result = digits.run(dataclasses.replace(TINY, activation="relu", learning_rates=(1e30, 0.1)))
    assert [arm.lr for arm in result.arms] == [0.1, 0.1]
    json.loads(result.to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "mnist"}, "data must be digits in this version, got 'mnist'"),
        ({"hidden": ()}, "hidden must name at least one layer"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rates": ()}, "learning_rates must hold at least one positive number"),
        ({"learning_rates": (0.1, math.nan)}, "learning_rates must hold"),
        ({"learning_rates": (0.1, 0.1)}, "learning_rates must differ"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_a_config_that_makes_no_study_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        STUDIES["digits"].config(**options)


def test_matrix_products_run_on_one_thread(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="limits BLAS")

    def blas_threads():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    before = blas_threads()
    with one_blas_thread() as said:
        assert set(blas_threads()) <= {1}
    assert said == "1 thread"
    assert blas_threads() == before
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    result = digits.run(dataclasses.replace(TINY, epochs=1, learning_rates=(0.1,)))
    assert "threadpoolctl is not installed" in result.environment["BLAS"]


# --- the result -------------------------------------------------------------------------------------------------------


def result_of(*losses: list[float]) -> StudyResult:
    arms = [
        Arm(
            name,
            0.1,
            dict.fromkeys(("loss", "val_loss", "accuracy", "val_accuracy"), loss),
            [0.5] * len(loss),
            {0.1: 1},
        )
        for name, loss in zip(("no norm", "batch norm"), losses, strict=True)
    ]
    return StudyResult("made up", "Made up", ("A note.",), {}, tuple(arms), 1.0, {})


@pytest.mark.parametrize(
    ("base", "other", "sentence"),
    [
        ([3, 2, 1], [2, 1, 0.5], "Batch norm reached training loss 1.0000, the lowest with no norm, "
         "sooner in epochs (2 against 3) "
         "and sooner in time (1.00 s against 1.50 s), and ended at 0.5000."),
        ([3, 1], [3, 1], "as soon in epochs (2 against 2) and as soon in time (1.00 s against 1.00 s)"),
        ([1, 2, 3], [3, 2, 1], "later in epochs (3 against 1) and later in time (1.50 s against 0.50 s)"),
        ([3, 1], [3, 2], "Batch norm did not reach training loss 1.0000, the lowest with no norm, which took 2 epochs "
         "(1.00 s) there: its own lowest is 2.0000."),
        ([3, 1], [math.nan, math.nan], "its own lowest is nan"),
        ([math.nan, math.inf], [3, 2], "The network with no norm never had a finite training loss"),
    ],
)  # fmt: skip
def test_the_conclusion_is_computed(base, other, sentence):
    result = result_of(base, other)
    assert sentence in result.conclusion
    assert result.table().endswith(result.conclusion)


def test_sooner_in_epochs_can_be_later_in_time():
    result = result_of([3, 2, 1], [2, 1, 0.5])
    slow = dataclasses.replace(result.arms[1], seconds=[5.0] * 3)
    result = dataclasses.replace(result, arms=(result.arms[0], slow))
    assert "sooner in epochs (2 against 3) and later in time (10.00 s against 1.50 s)" in result.conclusion


def test_the_table_shows_every_epoch_of_both_arms(tiny):
    rows = [line.split() for line in tiny.table().splitlines()]
    for epoch in range(TINY.epochs):
        expected = [str(epoch + 1)]
        for key in ("loss", "val_loss", "accuracy", "val_accuracy"):
            expected += [f"{arm.history[key][epoch]:.4f}" for arm in tiny.arms]
        expected += [f"{arm.seconds[epoch]:.3f}" for arm in tiny.arms]
        assert expected in rows
    text = tiny.table()
    for arm in tiny.arms:
        assert f"{sum(arm.seconds):.2f} s" in text


@pytest.mark.parametrize(
    ("base", "other", "cells"),
    [
        ([2.5, 0.031], [0.5, 0.0046], [["2.50000", "0.50000"], ["0.03100", "0.00460"]]),
        ([2.5, 0.031], [0.5, 0.046], [["2.5000", "0.5000"], ["0.0310", "0.0460"]]),
        ([math.nan, 3e30], [0.5, 1e-20], [["nan", "0.50000000"], ["3e+30", "0.00000000"]]),
        ([1.0, 0.0], [math.inf, 0.0], [["1.0000", "inf"], ["0.0000", "0.0000"]]),
    ],
)
def test_losses_of_a_table_have_the_same_decimals(base, other, cells):
    result = result_of(base, other)
    rows = [line.split() for line in result.table().splitlines()]
    for epoch, pair in enumerate(cells, 1):
        (row,) = [row for row in rows if row[:1] == [str(epoch)]]
        assert row[1:3] == row[3:5] == pair
        assert row[-2:] == ["0.500", "0.500"]


def test_a_loss_that_was_not_reached_is_said_so():
    lines = result_of([3, 2], [0.9, 0.4]).table().splitlines()
    (line,) = [line for line in lines if "training loss 0.5" in line]
    assert line.split()[-4:] == ["never", "2", "(1.00", "s)"]
    assert not any("training loss 0.2" in line for line in lines)  # reached by neither


def test_json_holds_everything_and_is_strict():
    result = result_of([math.nan, math.inf], [0.9, 0.4])
    content = json.loads(result.to_json(), parse_constant=pytest.fail)
    assert content["arms"][0]["history"]["loss"] == [None, None]
    assert content["arms"][1]["history"]["loss"] == [0.9, 0.4]
    assert content["arms"][1]["tried"] == {"0.1": 1}
    assert content["conclusion"] == result.conclusion


# --- the picture ------------------------------------------------------------------------------------------------------


def test_the_picture_has_all_curves_and_is_written(tiny, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    from normcore.studies._plot import curves

    figure = curves(tiny)
    loss, accuracy = figure.axes
    assert loss.get_yscale() == "log"
    for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
        drawn = [list(line.get_ydata()) for line in axes.lines]
        for arm in tiny.arms:
            assert arm.history[key] in drawn
            assert arm.history[f"val_{key}"] in drawn
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == ["no norm, training", "no norm, validation", "batch norm, training", "batch norm, validation"]
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("losses", [([1.0], [2.0]), ([math.nan] * 2, [math.nan] * 2), ([0.0, 0.0], [0.1, 0.0])])
def test_odd_results_can_be_drawn(losses, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    from normcore.studies._plot import curves

    curves(result_of(*losses)).savefig(tmp_path / "curves.png")


def test_a_study_imports_no_plotting_and_a_picture_no_pyplot():
    code = (
        "import sys; from normcore.studies import STUDIES; import normcore.cli; import normcore.studies.digits\n"
        "assert 'matplotlib' not in sys.modules\n"
        "try:\n    import normcore.studies._plot\nexcept ImportError:\n    pass\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_shown_on_stderr(capsys):
    digits.run(dataclasses.replace(TINY, epochs=1), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "batch norm, learning rate 0.5" in captured.err


def test_progress_without_tqdm_is_a_line_for_each_training(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    digits.run(dataclasses.replace(TINY, epochs=1), progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": loss")[0] for line in lines] == [
        f"{name}, learning rate {lr}" for name in ("no norm", "batch norm") for lr in (0.1, 0.5)
    ]


def test_no_progress_is_silent(capsys):
    digits.run(dataclasses.replace(TINY, epochs=1))
    assert capsys.readouterr() == ("", "")
