"""Tables, results and their files: the text, the CSV and the JSON hold the same numbers."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from normcore.studies._config import command
from normcore.studies._estimate import Estimate
from normcore.studies._picture import Animation, Picture
from normcore.studies._result import Result
from normcore.studies._table import Column, Table
from normcore.studies._writing import files
from normcore.studies.batch_size import Config as BatchSizeConfig
from normcore.studies.cifar import Config as CifarConfig
from normcore.studies.norms import Config as NormsConfig

TABLE = Table(
    "numbers",
    "Some numbers",
    [Column("network"), Column("epoch"), Column("loss", spec=".3f"), Column("time", "s", ".1f"), Column("note")],
    [
        ["no norm", 1, Estimate.over([0.1, 0.3]), 1.25, None],
        ["batch norm", 10, Estimate.over([None, None]), math.nan, "diverged"],
    ],
)


def result(**changes):
    given = dict(
        study="made-up", title="Made up", question="Is it?", notes=("A note.",), config={"rates": (0.1, math.inf)},
        tables=(TABLE,), conclusions=("It is.",), seconds=1.0, environment={"numpy": "2"},
        texts={"A log": "line 1\nline 2"}, data={"x": np.arange(2), 0.5: np.float32(2)},
    )  # fmt: skip
    return Result(**{**given, **changes})


def test_a_table_as_text():
    assert TABLE.text().splitlines() == [
        "Some numbers",
        "network     epoch           loss  time (s)  note",
        "no norm         1  0.200 ± 0.141       1.2",
        "batch norm     10          never       nan  diverged",
    ]


def test_a_table_as_csv_is_exact():
    rows = list(csv.reader(io.StringIO(TABLE.to_csv())))
    assert rows[0] == ["network", "epoch", "loss", "loss, spread", "loss, seeds", "time (s)", "note"]
    estimate = TABLE.rows[0][2]
    assert [float(cell) for cell in rows[1][2:5]] == [estimate.mean, estimate.spread, 2]
    assert rows[2] == ["batch norm", "10", "", "", "0", "nan", "diverged"]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="rows of the table t must have 1 cells, one for each column, got 2"):
        Table("t", "T", [Column("a")], [[1, 2]])


def test_the_text_of_a_result_has_everything_that_is_printed():
    hidden = Table("more", "More", [Column("a")], [[1]], "report")
    text = result(tables=(TABLE, hidden), interrupted="Interrupted: 1 of 2.").table()
    for part in ("Made up", "Is it?", "A note.", TABLE.text(), "A log\nline 1\nline 2", "Interrupted: 1 of 2."):
        assert part in text
    assert text.endswith("It is.")
    assert "More" not in text


def test_json_is_strict_and_complete():
    content = json.loads(result().to_json(), parse_constant=pytest.fail)
    assert content["config"] == {"rates": [0.1, None]}
    assert content["data"] == {"x": [0, 1], "0.5": 2.0}
    assert content["tables"]["numbers"]["rows"][0][2] == {
        "mean": 0.2, "spread": pytest.approx(0.1 * math.sqrt(2)), "count": 2, "of": 2,
    }  # fmt: skip
    assert content["conclusions"] == ["It is."]


def figure(colour="red"):
    matplotlib = pytest.importorskip("matplotlib.figure", reason="draws a picture")
    drawn = matplotlib.Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 2], color=colour)
    return drawn


def test_pictures_are_drawn_only_when_wanted():
    def never():
        raise AssertionError("drawn")

    pictured = result(pictures=[Picture("p", "P", never)])
    assert [name for name, _ in files(pictured, pictures=False)] == ["result.json", "numbers.csv"]


def test_pictures_and_animations_are_files_that_open():
    image = pytest.importorskip("PIL.Image", reason="comes with matplotlib")
    animation = Animation("moving", "M", lambda: (figure(colour) for colour in ("red", "blue", "green")))
    pictured = result(pictures=[Picture("still", "S", figure), animation])
    content = dict(files(pictured, pictures=True))
    still, moving = (image.open(io.BytesIO(content[name])) for name in ("still.png", "moving.gif"))
    assert (still.format, still.size) == ("PNG", (220, 110))
    assert (moving.format, moving.n_frames, moving.info["loop"]) == ("GIF", 3, 0)


@pytest.mark.parametrize(
    ("study", "config", "line"),
    [
        ("norms", NormsConfig(), "normcore study norms"),
        ("norms", NormsConfig(data="mnist", epochs=2, data_dir="/x"), "normcore study norms --data mnist --epochs 2"),
        ("cifar", CifarConfig(), "normcore study cifar"),
        ("cifar", CifarConfig(seed=3), "normcore study cifar --seed 3"),
        ("batch-size", BatchSizeConfig(**BatchSizeConfig.QUICK), "normcore study batch-size --epochs 3 --repeats 1"),
        ("norms", NormsConfig(hidden=(8,), repeats=1), "norms.run(norms.Config(hidden=(8,), repeats=1))"),
    ],
)
def test_the_command_gives_the_same_config(study, config, line):
    assert command(study, config) == line


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": "letters"}, ValueError, "data must be digits, mnist, fashion-mnist or cifar10, got 'letters'"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an int, got 1.5"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2, as batch norm needs two rows, got 1"),
        ({"lr": 0.0}, ValueError, "lr must be a positive number, got 0.0"),
        ({"lr": "fast"}, TypeError, "lr must be a number, got 'fast'"),
        ({"seed": -1}, ValueError, "seed must be 0 or more, got -1"),
        ({"repeats": 0}, ValueError, "repeats must be at least 1, got 0"),
        ({"hidden": ()}, ValueError, "hidden must name at least one layer"),
        ({"hidden": [8]}, TypeError, r"hidden must be a tuple of ints, got \[8\]"),
        ({"hidden": (8, 0)}, ValueError, "every entry of hidden must be at least 1, got 0"),
        ({"momentum": math.nan}, ValueError, "momentum must be a positive number, got nan"),
        ({"placement": "beside"}, ValueError, "placement must be after or before, got 'beside'"),
        ({"sizes": (4, 4)}, ValueError, r"sizes must hold at least one value, and none twice, got \(4, 4\)"),
        ({"sizes": (1, 4)}, ValueError, "every entry of sizes must be at least 2, as batch norm needs two rows, got 1"),
        ({"activations": ("sine",)}, ValueError, "every entry of activations must be sigmoid or relu, got 'sine'"),
    ],
)
def test_a_config_that_makes_no_study_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        BatchSizeConfig(**options)
