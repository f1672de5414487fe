"""History as JSON, CSV and a picture."""

from __future__ import annotations

import csv
import io
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import python
from trainers import data, trainer

from normcore.training import Diagnostics, History

X, y = data()


def history_of(rows):
    history = History()
    for row in rows:
        history.append(row, 0.5)
    return history


@given(st.lists(st.fixed_dictionaries({"loss": st.floats(), "a,b": st.floats()}), max_size=4))
def test_what_is_written_is_read(rows):
    history = history_of(rows)
    text = history.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    again = History.from_json(text)
    assert repr(again.to_dict()) == repr(history.to_dict())
    lines = list(csv.reader(io.StringIO(history.to_csv())))
    names = list(rows[0]) if rows else []
    assert lines[0] == ["epoch", *names, "seconds"]
    assert repr([[float(value) for value in line] for line in lines[1:]]) == repr(
        [[float(i), *(row[name] for name in names), 0.5] for i, row in enumerate(rows)]
    )


def test_files(tmp_path):
    history = trainer().fit(X, y, 3, validation_data=(X, y))
    text = history.to_json(tmp_path / "history.json")
    assert (tmp_path / "history.json").read_text() == text + "\n"
    for source in (text, tmp_path / "history.json", str(tmp_path / "history.json")):
        again = History.from_json(source)
        assert again.to_dict() == history.to_dict()
        assert repr(again) == repr(history)
    assert history.to_csv(tmp_path / "history.csv") == (tmp_path / "history.csv").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "history.json"]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"epoch": [0], "seconds": [1.0], "history": {"loss": []}},
        {"epoch": [0], "seconds": [], "history": {}},
        {"epoch": [1], "seconds": [1.0], "history": {"loss": [1.0]}},
        {"epoch": 0, "seconds": [], "history": {}},
        {"epoch": [0], "seconds": [1.0], "history": {"loss": ["x"]}},
        {"epoch": [0], "seconds": [1.0], "history": [1]},
    ],
)
def test_what_is_no_history(content):
    with pytest.raises(ValueError, match='History: content must have "epoch", "seconds" and "history"'):
        History.from_dict(content)
    with pytest.raises(ValueError, match="History: content must have"):
        History.from_json(json.dumps(content))


def test_arrays_are_no_numbers_of_a_history():
    """Nor is what NumPy says of their truth an answer."""
    content = {"epoch": [0], "seconds": [1.0], "history": {"loss": [np.ones(2)]}}
    with pytest.raises(ValueError, match=r'^History: content must have "epoch", "seconds" and "history"'):
        History.from_dict(content)


def test_what_is_no_json(tmp_path):
    with pytest.raises(ValueError, match=r"History\.from_json: source is no JSON; pass what to_json\(\) wrote"):
        History.from_json("{")
    (tmp_path / "a").write_text("[]")
    with pytest.raises(ValueError, match=r"History\.from_json: source is no history"):
        History.from_json(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        History.from_json(tmp_path / "b")


def test_names_that_some_epochs_lack():
    history = history_of([{"loss": 1.0}, {"loss": 2.0, "val_loss": 3.0}, {"val_loss": 4.0}])
    assert repr(history.history) == repr({"loss": [1.0, 2.0, math.nan], "val_loss": [math.nan, 3.0, 4.0]})


def test_ctrl_c_while_an_epoch_is_added():
    history = history_of([{"loss": 1.0}])

    class Ends:
        """Logs that are interrupted between two names."""

        def items(self):
            yield "loss", 2.0
            yield "accuracy", 2.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        history.append(Ends(), 1.0)
    history._trim()
    assert history.to_dict() == {
        "epoch": [0],
        "seconds": [0.5],
        "history": {"loss": [1.0], "accuracy": [math.nan]},
    } or (history.history["loss"] == [1.0])
    assert all(len(values) == 1 for values in history.history.values())


def test_ctrl_c_while_fit_adds_an_epoch(monkeypatch):
    def append(self, logs, seconds):  # noqa: ARG001 - the signature of what it stands for
        self.history.setdefault("loss", []).append(1.0)
        raise KeyboardInterrupt

    t = trainer()
    t.fit(X, y)
    with monkeypatch.context() as patch:
        patch.setattr(History, "append", append)
        with pytest.raises(KeyboardInterrupt):
            t.fit(X, y, 2, resume=True)
    assert [len(values) for values in t.history.history.values()] == [1, 1]
    assert t.fit(X, y, 2, resume=True).epoch == [0, 1]


def test_picture():
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    history = trainer().fit(X, y, 4, validation_data=(X, y))
    figure = history.plot()
    figure.canvas.draw()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "accuracy"]
    for axes, name in zip(figure.axes, ["loss", "accuracy"], strict=True):
        training, validation = axes.lines
        assert list(training.get_xdata()) == [1, 2, 3, 4]
        assert list(training.get_ydata()) == history.history[name]
        assert list(validation.get_ydata()) == history.history[f"val_{name}"]
        assert {side for side, spine in axes.spines.items() if spine.get_visible()} == {"left", "bottom"}
    history_of([{"a": 1.0, "b": 1.0, "c": 2.0, "d": 1.0}]).plot().canvas.draw()
    with pytest.raises(ValueError, match=r"History\.plot: there is no epoch yet; call fit first"):
        History().plot()


@pytest.mark.parametrize(("names", "size"), [("a", (4.5, 3.4)), ("abc", (13.5, 3.4)), ("abcd", (13.5, 6.8))])
def test_the_size_of_a_picture(names, size):
    """Three panels beside one another, and whole epochs below them."""
    pytest.importorskip("matplotlib", reason="matplotlib, for pictures, is not installed")
    figure = history_of([dict.fromkeys(names, 1.0)] * 2).plot()
    figure.canvas.draw()
    assert tuple(figure.get_size_inches()) == pytest.approx(size)
    assert figure.axes[0].get_gridspec().get_geometry() == (size[1] / 3.4, size[0] / 4.5)
    for axes in figure.axes[: len(names)]:
        assert all(tick == round(tick) for tick in axes.get_xticks())


@pytest.mark.parametrize("kind", [History, Diagnostics])
def test_plotting_without_matplotlib(kind, monkeypatch):
    for name in ("_plots", "_diagnostics_plot"):
        monkeypatch.delitem(sys.modules, f"normcore.training.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf"^{kind.__name__}\.plot: a picture needs the package matplotlib; install"):
        kind().plot()


def test_matplotlib_and_safetensors_are_imported_only_when_used():
    code = (
        "import sys, numpy as np, normcore as nc\n"
        "t = nc.Trainer(nc.MLP([4, 3])); t.fit(np.ones((8, 4), np.float32), np.zeros(8, int))\n"
        "t.history.to_json(); print([m for m in ('matplotlib', 'safetensors', 'pickle5') if m in sys.modules])"
    )
    assert python(code) == "[]"
