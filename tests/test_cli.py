"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from devices import needs_full_disk

import normcore as nc
from normcore import _bench, studies
from normcore.cli import main
from reliability.patience import patience

NAMES = ", ".join(studies.STUDIES)


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epochs.csv", "index.html", "result.json"]


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
        (["study", "numbers"], f"NAME must be one of the studies ({NAMES}) or all, got 'numbers'"),
        (["study", "digits", "--data", "mnist"], "--data must be digits in this version, got 'mnist'"),
        (["study", "digits", "--data", "cifar10"], "--data must be digits in this version, got 'cifar10'"),
        (["study", "digits", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["study", "digits", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["study", "digits", "--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["bench", "--threads", "0"], "--threads: n must be an int from 1 to 1024"),
        (["bench", "--threads", "9999"], "--threads: n must be an int from 1 to 1024"),
        (["bench", "--seconds", "nan"], "--seconds must be a positive number, got nan"),
        (["study", "--list", "extra"], "--list takes no NAME, got 'extra'; leave one of them out"),
        (["study", "digits", "--list"], "--list takes no NAME, got 'digits'; leave one of them out"),
        (["study", "--epochs", "3"], f"--epochs needs the NAME of a study ({NAMES}) or all"),
        (["study", "--list", "--out", "here"], f"--out needs the NAME of a study ({NAMES}) or all"),
        (["study", "digits", "--out", ""], "--out must be a folder to write to, got ''; write . for this one"),
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


def command_of(arguments, cwd=None, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(nc.__file__).parents[1]), **options}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, timeout=patience(120)
    )


BROKEN_NUMBA = """
import sys
sys.modules["numba"] = None
from normcore.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", [["bench"], ["study", "digits"], ["study", "digits", "--out", "new"]])
@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("foo", "NORMCORE_BACKEND must be one of cython, numba, reference, got 'foo'"),
        ("CYTHON", "NORMCORE_BACKEND must be one of cython, numba, reference, got 'CYTHON'"),
        ("numba", "NORMCORE_BACKEND must be a backend that can be loaded here: the numba backend needs Numba"),
    ],
)
def test_a_wrong_backend_is_said_before_anything_is_made(command, backend, message, tmp_path):
    result = command_of(["-c", BROKEN_NUMBA, *command], NORMCORE_BACKEND=backend, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"normcore: error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("foo", "foo, which does not work: NORMCORE_BACKEND must be one of cython, numba, reference, got 'foo'"),
        ("numba", "numba, which does not work: the numba backend needs Numba, which is not installed"),
    ],
)
def test_info_shows_everything_with_a_wrong_backend_too(backend, message):
    result = command_of(["-c", BROKEN_NUMBA, "info"], NORMCORE_BACKEND=backend)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == list(nc.show_config())
    (line,) = [line for line in lines if line.startswith("asked for")]
    assert line.split(maxsplit=2)[2].startswith(message)


@needs_full_disk
def test_a_full_disk_behind_the_output_costs_no_results(tmp_path):
    with open("/dev/full", "w") as full:
        for arguments in (["info"], ["study", "digits", "--epochs", "1", "--out", str(tmp_path)]):
            result = subprocess.run(
                [sys.executable, "-m", "normcore", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
            )
            assert result.returncode == 1
            assert result.stderr.splitlines()[-1] == "normcore: error: standard output: No space left on device"
            assert "Traceback" not in result.stderr
    assert json.loads((tmp_path / "result.json").read_text())["config"]["epochs"] == 1


@pytest.mark.parametrize("streams", [["stdout"], ["stdout", "stderr"]])
def test_closed_streams_are_no_traceback_and_cost_no_results(streams, tmp_path):
    code = "import sys\n" + "".join(f"sys.{name} = None\n" for name in streams)
    code += "from normcore.cli import main\nsys.exit(main(sys.argv[1:]))"
    said = "" if "stderr" in streams else "normcore: error: standard output: it is closed\n"
    result = command_of(["-c", code, "info"])
    assert (result.returncode, result.stdout, result.stderr) == (1, "", said)
    result = command_of(["-c", code, "study", "digits", "--epochs", "1", "--out", str(tmp_path)])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith(said)
    assert (tmp_path / "result.json").is_file()


def test_when_the_numbers_cannot_be_written_the_table_still_comes(tmp_path, capsys):
    (tmp_path / "result.json").mkdir()
    assert main(["study", "digits", "--epochs", "1", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "training loss" in printed.out
    assert f"--out: cannot write {tmp_path / 'result.json'}: " in printed.err


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
