"""The regression study: its set-up literally, what the pictures are of, and the window, with a made-up one."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest

import normcore as nc
from normcore.cli import main
from normcore.nn import BatchNorm1d, Linear, Tanh
from normcore.studies import STUDIES, _window, regression
from normcore.studies._layer_values import Story, snapshot
from normcore.studies._window import Window, no_window
from normcore.studies.regression import Config, make_data, network

SMALL = dict(epochs=2, repeats=2, hidden=(10, 10, 10), points=300)
RESULTS = []


def result():
    if not RESULTS:
        RESULTS.append(regression.run(Config(**SMALL)))
    return RESULTS[0]


def table_of(name):
    (table,) = [table for table in result().tables if table.name == name]
    return table


def test_the_points_are_a_noisy_parabola():
    train, validation = make_data(Config()).train, make_data(Config()).validation
    assert train.X.shape == train.y.shape == (2000, 1)
    assert (train.X[0, 0], train.X[-1, 0]) == (-7.0, 10.0)
    noise = train.y - (train.X.astype(np.float64) ** 2 - 5)
    # three standard errors of the mean and of the standard deviation of 2,000 values
    assert abs(noise.mean()) < 3 * 2 / np.sqrt(2000)
    assert abs(noise.std() - 2) < 3 * 2 / np.sqrt(4000)
    assert len(validation.y) == 200


def test_the_network_is_that_of_the_tutorial():
    config = Config()
    plain, normed = network(config, False, 3), network(config, True, 3)
    assert [type(layer) for layer in plain] == [*[Linear, Tanh] * 8, Linear]
    assert [type(layer) for layer in normed] == [BatchNorm1d, *[Linear, BatchNorm1d, Tanh] * 8, Linear]
    assert {layer.momentum for layer in normed if isinstance(layer, BatchNorm1d)} == {0.5}
    linear = [layer for layer in plain if isinstance(layer, Linear)]
    weights = np.concatenate([layer.weight.data.ravel() for layer in linear])
    assert abs(weights.std() - 0.1) < 3 * 0.1 / np.sqrt(2 * weights.size)
    for layer, other in zip(linear, [layer for layer in normed if isinstance(layer, Linear)], strict=True):
        assert (layer.bias.data == np.float32(-0.2)).all()
        np.testing.assert_array_equal(layer.weight.data, other.weight.data)


def test_a_snapshot_is_what_the_layers_make_of_the_points():
    config = Config(hidden=(4, 3))
    model = network(config, True, 0)
    x = np.linspace(-7, 10, 20, dtype=np.float32)[:, None]
    for _ in range(3):
        model(x)
    model.eval()
    want, after = x, []
    for layer in model:
        want = layer(want)
        after.append(want.copy())
    model.train()
    one = snapshot(nc.Trainer(model, loss="mse"), x)
    # a norm and its activation may run as one kernel, which rounds once
    for got, expected in [
        (one.input, after[0]), (one.linear[0], after[1]), (one.pre[0], after[2]), (one.post[0], after[3]),
        (one.linear[1], after[4]), (one.pre[1], after[5]), (one.post[1], after[6]), (one.output, after[7]),
    ]:  # fmt: skip
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert model.training
    assert all(not layer._forward_hooks for layer in model)


def test_every_epoch_has_its_picture_and_the_animation_all_of_them():
    pytest.importorskip("matplotlib", reason="draws pictures")
    image = pytest.importorskip("PIL.Image", reason="reads the animation")
    pictures = {picture.name: picture for picture in result().pictures}
    assert [*pictures] == ["curves", "fits", "layers", *(f"layers-epoch-0{epoch}" for epoch in (0, 1, 2))]
    animation = image.open(io.BytesIO(pictures["layers"].render()))
    assert animation.n_frames == 3
    figure = pictures["layers-epoch-02"].draw()
    assert "after epoch 2 of 2" in figure.get_suptitle()
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel() in ("share of the\nfullest bin", "y (no unit)")
        assert axes.patches or axes.lines
    for name in ("curves", "fits"):
        figure = pictures[name].draw()
        assert all(axes.get_xlabel() and "(no unit)" in axes.get_ylabel() for axes in figure.axes)
        assert len(figure.legends[0].get_texts()) >= 3


def test_the_numbers_of_every_layer_and_epoch_are_in_the_table():
    rows = table_of("layers").rows
    assert [tuple(row[:3]) for row in rows] == [
        (arm, epoch, layer) for arm in ("no norm", "batch norm") for epoch in (0, 1, 2) for layer in (1, 2, 3)
    ]
    untrained = {row[0]: row[3:] for row in rows if row[1] == 0 and row[2] == 3}
    # Before the training the running statistics are 0 and 1, so the norm does nothing yet.
    assert untrained["batch norm"][2] == pytest.approx(untrained["batch norm"][0], rel=1e-4)
    assert untrained["no norm"][0] == pytest.approx(untrained["no norm"][2])


def test_what_the_sentences_say_is_computed():
    text = result().table()
    assert "the noise alone has 4.00" in text
    assert "of what there is to find" in text
    assert "over 2 seeds" in text
    assert "(nc.recalibrate) the error is" in text
    json.loads(result().to_json(), parse_constant=pytest.fail)
    one = regression.run(Config(epochs=1, repeats=1, hidden=(5,), points=64))
    assert "one seed, so it may be chance" in one.table()


def test_the_exact_statistics_are_those_of_all_points():
    config = Config(**SMALL | dict(repeats=1))
    data = make_data(config)
    model = network(config, True, 0)
    trainer = nc.Trainer(model, nc.optim.Adam(model.parameters(), lr=config.lr), "mse")
    trainer.fit(*data.train, config.epochs, config.batch_size, data.validation, seed=0)
    last = trainer.history.history["val_loss"][-1]
    nc.recalibrate(model, data.train.X)
    exact = trainer.evaluate(*data.validation)["loss"]
    (said,) = re.findall(r"nc\.recalibrate\) the error is ([\d.]+),", regression.run(config).table())
    assert float(said) == pytest.approx(exact, abs=0.02)  # two digits are shown
    rows = [row for row in table_of("runs").rows if row[:3] == ["batch norm", 0, 2]]
    assert rows[0][4] == pytest.approx(
        last, rel=1e-5
    )  # the first network is watched, so norm and tanh run as two kernels


def test_the_same_seed_gives_the_same_numbers():
    again = regression.run(Config(**SMALL))
    ours, theirs = ([row[:-1] for row in table.rows] for table in (table_of("runs"), again.tables[-1]))
    assert ours == theirs


# --- the window -------------------------------------------------------------------------------------------------------


class Pyplot:
    """As much of pyplot as the window needs, with figures that are not shown."""

    def __init__(self):
        self.shown, self.is_open = 0, True

    def figure(self, *_, **options):
        self.is_open = True
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        class Canvas(FigureCanvasAgg):
            def start_event_loop(self, timeout=0):
                assert 0 < timeout < 1

        made = Figure(**options)
        Canvas(made)
        made.show = lambda: setattr(self, "shown", self.shown + 1)
        return made

    def fignum_exists(self, title):
        return bool(title) and self.is_open

    def close(self, *_):
        self.is_open = False

    def get_backend(self):
        return "TkAgg"


@pytest.fixture
def pyplot(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="draws pictures")
    import sys

    made = Pyplot()
    monkeypatch.setattr(matplotlib, "pyplot", made, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", made)
    monkeypatch.setenv("DISPLAY", ":0")
    return made


def test_live_shows_every_epoch_in_a_window(pyplot, monkeypatch):
    drawn = []
    real = Story.draw
    monkeypatch.setattr(
        Story, "draw", lambda self, epoch, figure=None: drawn.append(epoch) or real(self, epoch, figure)
    )
    live = regression.run(Config(**SMALL, live=True))
    assert drawn == [0, 1, 2] * 2  # both networks of the first seed
    assert pyplot.shown == 1
    assert not pyplot.is_open
    assert "live" not in live.config


def test_a_window_that_the_user_closes_stays_closed(pyplot):
    window = Window("title", 3, 2)
    pyplot.is_open = False
    window.show(pytest.fail)


def test_live_without_a_display_is_one_sentence(monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="without it, another sentence comes")
    monkeypatch.setattr(_window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["study", "regression", "--live", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "normcore: error: --live needs a display, and there is none here (DISPLAY is not set); "
        "leave it out, the pictures are files too\n"
    )
    assert not any(tmp_path.iterdir())
    assert main(["study", "norms", "--live"]) == 2
    assert "--live is no option of the study norms; leave it out" in capsys.readouterr().err


def test_live_without_a_toolkit_is_one_sentence(pyplot, monkeypatch):
    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")
    assert no_window().startswith("a window, and matplotlib's backend here is agg, which draws files alone;")

    def fails(*_, **__):
        raise RuntimeError("no display name\nand more")

    monkeypatch.setattr(pyplot, "figure", fails)
    assert no_window() == "a display, and the window cannot be opened (no display name); leave it out"
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert "matplotlib, which is not installed" in no_window()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(points=1), "points must be at least 2"),
        (dict(noise=0), "noise must be a positive number"),
        (dict(hidden=()), "hidden must name at least one layer"),
        (dict(bias=float("nan")), "bias must be a finite number"),
        (dict(epochs=0), "epochs must be at least 1"),
        (dict(seed=-1), "seed must be 0 or more"),
    ],
)
def test_what_makes_no_study_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Config(**options)


def test_quick_is_a_look_at_the_same():
    assert STUDIES["regression"].config(quick=True) == Config(repeats=2, epochs=4)
