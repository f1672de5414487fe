"""The worked example: against hand-worked numbers, differences, PyTorch's convention, and the tutorial's table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from oracle import fourth_order_gradient
from tolerances import tol

from normcore.studies import STUDIES, worked_example
from normcore.studies._by_hand import POPULATION, SAMPLE, steps
from normcore.studies.worked_example import Config, fits


def result(**options):
    return STUDIES["worked-example"].run(Config(**options))


def test_the_first_feature_by_hand():
    """0.23 and 0.56: mean 0.395, deviations 0.165, squares 0.027225."""
    done = steps([0.23, 0.56], [1.0, 0.0], POPULATION, 1.0, 1.0, 1e-5)
    assert done.mean == pytest.approx(0.395, rel=1e-15)
    assert done.var == pytest.approx(0.027225, rel=1e-14)
    assert done.xhat == pytest.approx([-0.165 / math.sqrt(0.027235), 0.165 / math.sqrt(0.027235)], rel=1e-14)
    assert done.y == pytest.approx([value + 1 for value in done.xhat], rel=1e-15)
    sample = steps([0.23, 0.56], [1.0, 0.0], SAMPLE, 1.0, 1.0, 1e-5)
    assert sample.var == pytest.approx(0.05445, rel=1e-14)
    assert sample.xhat[1] == pytest.approx(0.165 / math.sqrt(0.05446), rel=1e-14)


@pytest.mark.parametrize("kind", [POPULATION, SAMPLE])
def test_the_gradients_are_those_of_differences(kind):
    x, dy = np.array([0.3, -1.2, 0.7, 2.0]), [0.5, -1.0, 2.0, 0.25]

    def loss(values):
        return float(np.dot(steps(list(values), dy, kind, 1.5, 0.5, 1e-3).y, dy))

    done = steps(list(x), dy, kind, 1.5, 0.5, 1e-3)
    np.testing.assert_allclose(done.dx, fourth_order_gradient(loss, x), **tol(x.dtype, kind="fd"))
    assert done.dgamma == pytest.approx(sum(a * b for a, b in zip(dy, done.xhat, strict=True)))
    assert done.dbeta == 1.75


def test_the_tutorials_table_is_of_the_sample_variance_and_rounded():
    found = result()
    (table,) = [table for table in found.tables if table.name == "tutorial"]
    assert [row[-1] for row in table.rows] == [
        "sample",
        "xhat, with 0.054 for the variance",
        "sample",
        "xhat, sample",
        "sample",
        "xhat, sample",
    ]
    text = " ".join(found.conclusions)
    assert "in the table 3 of 3 variances are sample variances and 0 are population variances" in text
    assert "2 outputs are xhat of the sample variance and 0 of the population variance" in text
    assert "By the formula the outputs are -1.000, 1.000, -1.000." in text
    assert "Its -0.710 is neither: it is -0.165 / sqrt(0.054)" in text
    assert "0.293, 1.707, 0.293" in text


@pytest.mark.parametrize(
    ("printed", "value", "is_it"), [("0.130", 0.13005, True), ("0.13", 0.1249, False), ("5.81", 5.814, True)]
)
def test_an_entry_is_compared_as_it_is_printed(printed, value, is_it):
    assert fits(printed, value) is is_it


def test_batch_norm_gives_the_same_numbers(monkeypatch):
    assert "give the numbers above, to within 1e-1" in result().conclusions[0]
    many = result(vectors=((1.0, -3.0), (2.5, 0.0), (4.0, 7.0)), gamma=2.0, beta=-1.0, eps=0.1)
    assert "give the numbers above, to within 1e-1" in many.conclusions[0]
    assert "sum to 0 over the batch" in many.conclusions[1]
    assert [table.name for table in many.tables] == ["population", "sample"]

    real = worked_example.steps
    monkeypatch.setattr(worked_example, "steps", lambda *a: (done := real(*a))._replace(var=done.var * 1.001))
    assert "which is a defect" in result().conclusions[0]


def test_every_intermediate_is_printed():
    text = result().table()
    assert text.count("feature ") >= 6
    for line in (
        "mean            (0.230000 + 0.560000) / 2 = 0.395000",
        "(x - mean)^2    (0.027225, 0.027225)",
        "var             (0.027225 + 0.027225) / 2 = 0.027225   (population: m = 2)",
        "var             (0.027225 + 0.027225) / 1 = 0.054450   (sample: m - 1 = 1)",
        "sqrt(var + eps) sqrt(5.814050 + 1e-05) = 2.411236",
        "xhat            (x - mean) / 2.411236 = (-0.707106, 0.707106)",
        "y               1 * xhat + 1 = (0.292894, 1.707106)",
        "dgamma          sum(dy * xhat) = -0.707106",
    ):
        assert line in text
    content = json.loads(result().to_json(), parse_constant=pytest.fail)
    assert content["data"]["population"][0]["mean"] == pytest.approx(0.395)
    assert len(content["tables"]["population"]["rows"]) == 6


def test_the_picture_has_labels_and_a_legend():
    pytest.importorskip("matplotlib", reason="draws pictures")
    (picture,) = result().pictures
    figure = picture.draw()
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel() == "value (no unit)"
        assert len(axes.lines) == 7  # three features of two rows, and zero
    assert len(figure.legends[0].get_texts()) == 6


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (dict(vectors=((1.0,),)), ValueError, "vectors must be two or more"),
        (dict(vectors=((1.0,), (1.0, 2.0))), ValueError, "of one length that is not 0"),
        (dict(vectors=[[1.0], [2.0]]), TypeError, "vectors must be a tuple of tuples of numbers"),
        (dict(vectors=((1.0,), (math.inf,))), ValueError, "every entry of vectors must be a finite number, got inf"),
        (dict(gamma="1"), TypeError, "gamma must be a number, got '1'"),
        (dict(eps=0.0), ValueError, "eps must be a positive number, got 0.0"),
    ],
)
def test_what_makes_no_example_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        Config(**options)
