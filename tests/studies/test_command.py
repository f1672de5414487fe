"""`normcore study`: one and all, with studies that fail, and with Ctrl-C."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import normcore as nc
from normcore import studies
from normcore.cli import main
from normcore.data import DataError, DataNotFoundError
from normcore.data.published import OWN
from normcore.studies import Result, Study, _writing
from normcore.studies._picture import Picture
from normcore.studies._table import Column, Table
from normcore.training import _files
from reliability.patience import patience


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "mnist"
    epochs: int = 9
    seed: int = 0

    DATA: ClassVar[tuple[str, ...]] = ("digits", "mnist")
    QUICK: ClassVar[Mapping[str, Any]] = {"epochs": 1}


@dataclasses.dataclass(frozen=True)
class NoData:
    seed: int = 0

    QUICK: ClassVar[Mapping[str, Any]] = {}


def made(name, config, progress, interrupted=""):
    del progress
    return Result(
        study=name, title=f"Study {name}", question="?", notes=(), config=dataclasses.asdict(config),
        tables=(Table("numbers", "Numbers", [Column("n")], [[1]]),), conclusions=(f"{name} is done.",), seconds=0.0,
        environment={}, interrupted=interrupted,
    )  # fmt: skip


def failing(error):
    def run(*_):
        raise error

    return run


@pytest.fixture
def table(monkeypatch):
    """Puts made-up studies in the place of the real ones: a function of names to `run`."""

    def put(**runs):
        found = {}
        for name, run in runs.items():
            module = types.ModuleType(f"made_up_{name}")
            module.Config = NoData if name == "bare" else Config
            module.run = run or (lambda config, progress, name=name: made(name, config, progress))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            found[name] = Study(name, f"About {name}.", module.__name__)
        monkeypatch.setattr(studies, "STUDIES", found)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else name)
    return put


def config_of(folder):
    return json.loads((folder / "result.json").read_text())["config"]


# --- all --------------------------------------------------------------------------------------------------------------


def test_all_studies_are_written_and_reported(table, tmp_path, capsys):
    table(one=None, bare=None)
    assert main(["study", "all", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.index("one is done.") < printed.out.index("bare is done.")
    assert "study 2 of 2: bare" in printed.err
    for name in ("one", "bare"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["numbers.csv", "result.json"]
    page = (tmp_path / "index.html").read_text()
    assert "one is done." in page
    assert "normcore study one --data digits" in page


def test_all_use_digits_unless_told_otherwise(table, tmp_path):
    table(one=None, bare=None)
    assert main(["study", "all", "--quick", "--seed", "4", "--out", str(tmp_path)]) == 0
    assert config_of(tmp_path / "one") == {"data": "digits", "epochs": 1, "seed": 4}
    assert config_of(tmp_path / "bare") == {"seed": 4}
    assert main(["study", "all", "--data", "mnist", "--epochs", "2", "--out", str(tmp_path)]) == 0
    assert config_of(tmp_path / "one") == {"data": "mnist", "epochs": 2, "seed": 0}
    assert main(["study", "all", "--data", "cifar10", "--out", str(tmp_path)]) == 0
    assert config_of(tmp_path / "one")["data"] == "digits"  # it does not take CIFAR-10


def test_a_study_that_fails_does_not_cost_the_others(table, tmp_path, capsys):
    table(one=None, two=failing(RuntimeError("a defect")), three=failing(DataNotFoundError("no data_dir")), bare=None)
    assert main(["study", "all", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "bare is done." in printed.out
    assert "RuntimeError: a defect" in printed.err
    assert "Traceback" in printed.err  # of the defect
    assert "normcore: the study three failed: no --data-dir" in printed.err
    assert printed.err.splitlines()[-1] == "normcore: failed: two, three"
    page = (tmp_path / "index.html").read_text()
    for text in ("one is done.", "RuntimeError: a defect", "no --data-dir", "bare is done."):
        assert text in page


def test_ctrl_c_keeps_the_studies_before(table, tmp_path, capsys):
    table(one=None, two=failing(KeyboardInterrupt()), bare=None)
    assert main(["study", "all", "--out", str(tmp_path)]) == 130
    printed = capsys.readouterr()
    assert "one is done." in printed.out
    said = "Interrupted in the study two, which is left out. Not run: bare."
    assert said in printed.err
    assert said in (tmp_path / "index.html").read_text()
    assert (tmp_path / "one" / "result.json").is_file()
    assert not (tmp_path / "bare").exists()


def test_ctrl_c_in_the_first_study_leaves_nothing(table, tmp_path, capsys):
    table(one=failing(KeyboardInterrupt()), bare=None)
    assert main(["study", "all", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("\nnormcore: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["one", "all"])
def test_half_a_study_is_written_and_ends_with_130(name, table, tmp_path, capsys):
    table(one=lambda config, progress: made("one", config, progress, "Interrupted: 2 of 6."), bare=None)
    assert main(["study", name, "--out", str(tmp_path)]) == 130
    printed = capsys.readouterr()
    assert "one is done." in printed.out
    assert "Interrupted: 2 of 6." in printed.out
    assert printed.err.splitlines()[-1].startswith("normcore: interrupted: 2 of 6.")
    assert "Interrupted: 2 of 6." in (tmp_path / "index.html").read_text()
    assert not (tmp_path / "bare").exists()


@pytest.mark.parametrize("name", ["one", "all"])
def test_ctrl_c_while_pictures_are_drawn_keeps_the_numbers(name, table, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="without matplotlib there are no pictures")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)

    def run(config, progress):
        picture = Picture("late", "Never drawn.", failing(KeyboardInterrupt()))
        return dataclasses.replace(made("one", config, progress), pictures=(picture,))

    table(one=run, bare=None)
    assert main(["study", name, "--out", str(tmp_path)]) == 130
    printed = capsys.readouterr()
    assert "one is done." in printed.out
    assert printed.err.splitlines()[-1].startswith(
        "normcore: interrupted: the pictures that are missing were not drawn."
    )
    assert "one is done." in (tmp_path / "index.html").read_text()
    assert (tmp_path / ("one/" * (name == "all")) / "result.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="a signal to itself is Ctrl-C")
@pytest.mark.parametrize("name", ["one", "all"])
def test_ctrl_c_again_while_files_are_written_drops_nothing(name, table, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="without matplotlib there are no pictures")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    write, before = _files.write_atomically, signal.getsignal(signal.SIGINT)

    def pressed(path, content):
        os.kill(os.getpid(), signal.SIGINT)
        write(path, content)

    def run(config, progress):
        picture = Picture("late", "Drawn until Ctrl-C.", lambda: os.kill(os.getpid(), signal.SIGINT))
        return dataclasses.replace(made("one", config, progress, "Interrupted: 2 of 6."), pictures=(picture,))

    monkeypatch.setattr(_writing, "write_atomically", pressed)
    table(one=run, bare=None)
    assert main(["study", name, "--out", str(tmp_path)]) == 130
    assert "one is done." in capsys.readouterr().out
    assert "one is done." in (tmp_path / "index.html").read_text()
    folder = tmp_path / ("one/" * (name == "all"))
    assert {path.name for path in folder.iterdir()} - {"index.html", "one"} == {"numbers.csv", "result.json"}
    assert signal.getsignal(signal.SIGINT) is before


def test_a_report_of_an_earlier_run_does_not_stay_beside_new_numbers(table, tmp_path, monkeypatch):
    table(one=None)
    assert main(["study", "one", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").exists()
    write = _writing.write_atomically

    def killed(path, content):
        if path.endswith(".csv"):
            raise SystemExit("killed")
        write(path, content)

    monkeypatch.setattr(_writing, "write_atomically", killed)
    with pytest.raises(SystemExit):
        main(["study", "one", "--out", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["numbers.csv", "result.json"]


@pytest.mark.parametrize("error", [DataNotFoundError("no data"), RuntimeError("a defect"), KeyboardInterrupt()])
def test_a_run_that_failed_leaves_no_empty_folder(error, table, tmp_path):
    table(one=failing(error))
    for out in (tmp_path / "new", tmp_path):  # a folder that was there stays
        with contextlib.suppress(RuntimeError):
            assert main(["study", "one", "--out", str(out)]) in (2, 130)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_fills_up_still_gives_the_tables(table, tmp_path, capsys):
    table(one=None, bare=None)
    (tmp_path / "one").write_text("in the way")
    assert main(["study", "all", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "one is done." in printed.out
    assert "bare is done." in printed.out
    assert f"normcore: error: --out: cannot write {tmp_path / 'one'}" in printed.err


# --- one --------------------------------------------------------------------------------------------------------------


def test_data_that_are_missing_are_one_sentence(table, tmp_path, capsys):
    table(one=failing(DataNotFoundError("MNIST was not found: name data_dir")))
    assert main(["study", "one", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "normcore: error: MNIST was not found: name --data-dir"


def test_what_the_command_does_not_have_is_not_advised(table, tmp_path, capsys):
    said = f"a.gz is not the file of MNIST; put a complete copy in its place, {OWN}"
    table(one=failing(DataError(said)))
    assert main(["study", "one", "--out", str(tmp_path)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "normcore: error: a.gz is not the file of MNIST; put a complete copy in its place"


def test_a_defect_of_a_study_alone_keeps_its_traceback(table, tmp_path):
    table(one=failing(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        main(["study", "one", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bare", "--epochs", "3"], "--epochs is no option of the study bare; leave it out"),
        (["bare", "--data-dir", "x"], "--data-dir is no option of the study bare; leave it out"),
        (["all", "--data", "letters"], "--data must be digits, mnist, fashion-mnist or cifar10, got 'letters'"),
        (["--quick"], "--quick needs the NAME of a study (bare) or all"),
        (["--data-dir", "x"], "--data-dir needs the NAME of a study (bare) or all"),
    ],
)
def test_options_that_do_not_fit_are_said(arguments, message, table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(bare=None)
    assert main(["study", *arguments]) == 2
    assert capsys.readouterr().err == f"normcore: error: {message}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["--data", "letters"], "--data must be digits, mnist, fashion-mnist or cifar10, got 'letters'"),
    ],
)
@pytest.mark.parametrize("name", ["norms", "all"])
def test_values_are_checked_before_anything_is_trained(name, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", name, *options]) == 2
    assert capsys.readouterr().err == f"normcore: error: {message}\n"
    assert not list(tmp_path.iterdir())


def test_everything_of_a_study_is_written(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the pictures need matplotlib")
    assert main(["study", "norms", "--quick", "--epochs", "1", "--out", str(tmp_path)]) == 0
    names = {"result.json", "last-epoch.csv", "epochs.csv", "runs.csv", "curves.png", "index.html"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    printed = capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    for sentence in json.loads((tmp_path / "result.json").read_text())["conclusions"]:
        assert sentence in printed
        assert sentence in page
    assert "normcore study norms --epochs 1 --repeats 1" in page
    assert "data:image/png;base64," in page


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to a process of its own on Windows")
def test_ctrl_c_while_training_keeps_what_is_finished(tmp_path):
    """The real thing: a process that trains far too long gets SIGINT after its first training."""
    code = (
        "import sys; from normcore.studies import _training; train = _training._train\n"
        "def told(*arguments):\n"
        "    run = train(*arguments); print('trained', file=sys.stderr, flush=True); return run\n"
        "_training._train = told\n"
        "from normcore.cli import main\n"
        "sys.exit(main(['study', 'norms', '--epochs', '3', '--repeats', '100000', '--out', sys.argv[1]]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(nc.__file__).parents[1])}
    program = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    assert program.stderr is not None
    for line in program.stderr:
        if "trained" in line:
            break
    time.sleep(0.05)  # into the next one
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=patience(60))
    assert program.returncode == 130, err
    assert "of 500000 trainings were finished, and the tables are of these." in out
    assert err.splitlines()[-1].startswith("normcore: interrupted: ")
    assert "Traceback" not in err
    content = json.loads((tmp_path / "result.json").read_text())
    assert content["interrupted"]
    assert content["tables"]["last-epoch"]["rows"]
