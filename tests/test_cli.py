"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

import normcore as nc
from normcore import _bench, studies
from normcore.cli import main


def test_study_prints_the_table_and_writes_picture_and_numbers(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    out = tmp_path / "new" / "folder"
    assert main(["study", "digits", "--epochs", "1", "--seed", "3", "--data", "digits", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "training loss" in printed.out
    assert "learning rate" in printed.err  # the bar
    for name in ("result.json", "curves.png"):
        assert str(out / name) in printed.out
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((out / "result.json").read_text())
    assert (content["config"]["epochs"], content["config"]["seed"]) == (1, 3)
    assert content["conclusion"] in printed.out


def test_study_writes_to_a_folder_here_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "digits", "--epochs", "1"]) == 0
    assert (tmp_path / "normcore-study-digits" / "result.json").is_file()


def test_without_matplotlib_the_table_still_comes(tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    assert main(["study", "digits", "--epochs", "1", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    before_training = printed.err.splitlines()[0]
    assert before_training.startswith("matplotlib is missing")
    assert 'pip install ".[study]"' in before_training
    assert "normcore-cpu[study]" in before_training
    assert "training loss" in printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("arguments", [["study"], ["study", "--list"]])
def test_studies_are_listed(arguments, capsys):
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for study in studies.STUDIES.values():
        assert f"{study.name}\n    {study.sentence}\n" in printed


def test_info_is_show_config(capsys):
    assert main(["info"]) == 0
    assert capsys.readouterr().out == f"{nc.show_config()}\n"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"normcore {nc.__version__}\n"


def test_help_is_no_mistake_and_no_command_is_one(capsys):
    assert main(["--help"]) == 0
    assert "study" in capsys.readouterr().out
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: normcore")


def test_bench_has_a_line_for_every_direction_and_shape(capsys, monkeypatch):
    run = _bench.run
    monkeypatch.setattr(_bench, "run", lambda *arguments: run(*arguments, shapes=[(8, 4), (2, 3, 4, 4)]))
    before = nc.get_num_threads()
    assert main(["bench", "--threads", "1", "--seconds", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("batch norm, float32, 1 thread,")
    for shape in ("(8, 4)", "(2, 3, 4, 4)"):
        assert [line.removeprefix(shape).split()[0] for line in lines if line.startswith(shape)] == [
            "forward", "backward", "inference",
        ]  # fmt: skip
    assert nc.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "numbers"], "NAME must be one of the studies (digits), got 'numbers'"),
        (["study", "digits", "--data", "mnist"], "--data must be digits in this version, got 'mnist'"),
        (["study", "digits", "--data", "cifar10"], "--data must be digits in this version, got 'cifar10'"),
        (["study", "digits", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["study", "digits", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["study", "digits", "--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["bench", "--threads", "0"], "--threads: n must be an int from 1 to 1024"),
        (["bench", "--threads", "9999"], "--threads: n must be an int from 1 to 1024"),
        (["bench", "--seconds", "nan"], "--seconds must be a positive number, got nan"),
        (["fly"], "invalid choice: 'fly'"),
        (["info", "--loud"], "--loud"),
    ],
)
def test_mistakes_get_a_sentence_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said_before_training(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(studies.Study, "run", lambda *_, **__: pytest.fail("trained first"))
    assert main(["study", "digits", "--out", str(tmp_path / "file")]) == 2
    assert "--out must be a folder to write to" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_no_traceback(capsys, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies.Study, "run", interrupted)
    assert main(["study", "digits", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\nnormcore: interrupted\n"


def test_a_reader_that_goes_away_is_no_traceback():
    program = subprocess.Popen(
        [sys.executable, "-m", "normcore", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait() == 141


def test_the_module_is_the_same_program():
    result = subprocess.run([sys.executable, "-m", "normcore", "study", "no"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("normcore: error: NAME must be")
