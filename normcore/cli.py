"""The command ``normcore``: study, bench, info."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normcore.studies import StudyResult

# Imports of what a command needs are in its function: --help and --version answer at once.

_OUTPUT_FAILED, _USAGE_ERROR, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141
_HOW_TO_GET_THE_PICTURE = 'install normcore-cpu[study], from a checkout with: pip install ".[study]"'


class _UserError(Exception):
    """A mistake of the user's, in one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process when not given.

    Returns
    -------
    int
        0; 1 when the output cannot be written; 2 for a mistake in the arguments; 130 after Ctrl-C; 141 when whoever
        read the output has gone.
    """
    try:
        code = _run(argv)
        if sys.stdout is None:
            raise OSError("it is closed")
        sys.stdout.flush()
        return code
    except _UserError as error:
        _complain(f"normcore: error: {error}")
        return _USAGE_ERROR
    except KeyboardInterrupt:
        _complain("\nnormcore: interrupted")
        return _INTERRUPTED
    except BrokenPipeError:  # normcore study digits | head
        _drop_output()
        return _BROKEN_PIPE
    except OSError as error:  # normcore info >/dev/full
        _drop_output()
        _complain(f"normcore: error: {error.filename or 'standard output'}: {error.strerror or error}")
        return _OUTPUT_FAILED


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:  # 0 after --help and --version, 2 after a mistake
        return ended.code if isinstance(ended.code, int) else _USAGE_ERROR
    if options.command is None:
        parser.print_help(sys.stderr)
        return _USAGE_ERROR
    code: int = options.run(options)
    return code


def _complain(line: str) -> None:
    if sys.stderr is not None:  # print would take stdout
        print(line, file=sys.stderr)


def _drop_output() -> None:
    """Send what is left of the output nowhere, so that the flush at exit does not fail too."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    from normcore._version import __version__

    parser = argparse.ArgumentParser(
        prog="normcore", description="Exact, memory-speed normalisation for NumPy on the CPU.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"normcore {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    study = commands.add_parser(
        "study",
        help="run an experiment: a table, a picture and a JSON file",
        description="Run an experiment; print its table, write its picture and its numbers. Without a NAME, list them.",
        allow_abbrev=False,
    )
    study.add_argument("name", nargs="?", metavar="NAME", help="which study, such as digits")
    study.add_argument("--list", action="store_true", help="list the studies, a sentence each")
    study.add_argument("--data", metavar="NAME", help="data set: digits (mnist and cifar10 are not in this version)")
    study.add_argument("--epochs", type=int, metavar="N", help="how long to train; the study's own choice if left out")
    study.add_argument("--seed", type=int, metavar="N", help="for split, starting weights and order (default: 0)")
    study.add_argument("--out", metavar="DIR", help="where to write (default: normcore-study-NAME)")
    study.set_defaults(run=_study)

    bench = commands.add_parser(
        "bench",
        help="time batch norm against NumPy and a plain copy on this machine (10 s)",
        description="Time batch norm against NumPy and a plain copy on this machine, in about ten seconds.",
        allow_abbrev=False,
    )
    bench.add_argument(
        "--threads", type=int, metavar="N", help="threads for both sides (default: all that normcore has)"
    )
    bench.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long, roughly (default: 10)")
    bench.set_defaults(run=_bench)

    info = commands.add_parser(
        "info",
        help="versions, backends, threads: what a bug report needs",
        description="Show versions, backends and threads: what a bug report needs.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info)
    return parser


def _info(options: argparse.Namespace) -> int:  # noqa: ARG001 - the commands' signature
    from normcore._config import show_config

    print(show_config())
    return 0


def _check_backend() -> None:
    """The backend that NORMCORE_BACKEND names must be there before anything is made."""
    from normcore._dispatch import asked_for

    try:
        asked_for()
    except ValueError as error:
        raise _UserError(str(error)) from None
    except ImportError as error:
        raise _UserError(f"NORMCORE_BACKEND must be a backend that can be loaded here: {error}") from None


def _bench(options: argparse.Namespace) -> int:
    from normcore import _bench
    from normcore._threads import threads

    if options.threads is not None:
        try:
            threads(options.threads)
        except ValueError as error:
            raise _UserError(f"--threads: {error}") from None
    if not 0 < options.seconds < float("inf"):
        raise _UserError(f"--seconds must be a positive number, got {options.seconds:g}")
    _check_backend()
    _bench.run(options.threads, options.seconds)
    return 0


def _study(options: argparse.Namespace) -> int:
    from normcore.studies import STUDIES

    given = {name: getattr(options, name) for name in ("data", "epochs", "seed", "out")}
    given = {name: value for name, value in given.items() if value is not None}
    if options.list or options.name is None:
        if options.name is not None:
            raise _UserError(f"--list takes no NAME, got {options.name!r}; leave one of them out")
        if given:
            raise _UserError(f"--{next(iter(given))} needs the NAME of a study ({', '.join(STUDIES)})")
        for study in STUDIES.values():
            print(f"{study.name}\n    {study.sentence}")
        print("\nRun one with: normcore study NAME")
        return 0
    if options.name not in STUDIES:
        raise _UserError(f"NAME must be one of the studies ({', '.join(STUDIES)}), got {options.name!r}")
    study = STUDIES[options.name]
    out = given.pop("out", f"normcore-study-{study.name}")
    try:
        config = study.config(**given)
    except ValueError as error:
        raise _UserError(f"--{error}") from None  # the message begins with the option's name
    # What can fail for reasons outside the study is tried before the training, not after it.
    _check_backend()
    folder = _writable_folder(out)
    picture = importlib.util.find_spec("matplotlib") is not None
    if not picture:
        _complain(f"matplotlib is missing, so there will be no picture; {_HOW_TO_GET_THE_PICTURE}")

    started = time.perf_counter()
    result = study.run(config, progress=sys.stderr is not None)
    # Files first: standard output may be full or closed. If it is a file that fails, the table still comes.
    written, failed = _write(folder, result, picture)
    print(result.table())
    if failed is not None:
        raise failed
    print(f"\nWritten after {time.perf_counter() - started:.1f} s:")
    for path in written:
        print(f"  {path}")
    return 0


def _write(folder: Path, result: StudyResult, picture: bool) -> tuple[list[Path], _UserError | None]:
    """The numbers and the picture; what was written, and what went wrong."""
    written = [folder / "result.json"]
    try:
        written[0].write_text(result.to_json(), encoding="utf-8")
        if picture:
            from normcore.studies._plot import curves

            written.append(folder / "curves.png")
            curves(result).savefig(written[-1])
    except OSError as error:
        return written, _UserError(f"--out: cannot write {written[-1]}: {error.strerror or error}")
    return written, None


def _writable_folder(out: str) -> Path:
    if not out:
        raise _UserError("--out must be a folder to write to, got ''; write . for this one, or leave it out")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _UserError(
            f"--out must be a folder to write to, and {folder} cannot be made: {error.strerror or error}"
        ) from None
    if not os.access(folder, os.W_OK):
        raise _UserError(f"--out must be a folder to write to, and {folder} is read-only; choose another")
    return folder
