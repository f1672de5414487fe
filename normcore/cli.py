"""The command ``normcore``: study, bench, info."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from normcore._config import show_config
from normcore._threads import threads
from normcore._version import __version__

_USAGE_ERROR, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141
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
        0; 2 for a mistake in the arguments; 130 after Ctrl-C; 141 when whoever read the output has gone.
    """
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        if options.command is None:
            parser.print_help(sys.stderr)
            return _USAGE_ERROR
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except _UserError as error:
        print(f"normcore: error: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except SystemExit as ended:  # argparse: 0 after --help and --version, 2 after a mistake
        return ended.code if isinstance(ended.code, int) else _USAGE_ERROR
    except KeyboardInterrupt:
        print("\nnormcore: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # normcore study digits | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit does not fail too
        return _BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
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
    study.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: normcore-study-NAME)")
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
    print(show_config())
    return 0


def _bench(options: argparse.Namespace) -> int:
    from normcore import _bench

    if options.threads is not None:
        try:
            threads(options.threads)
        except ValueError as error:
            raise _UserError(f"--threads: {error}") from None
    if not 0 < options.seconds < float("inf"):
        raise _UserError(f"--seconds must be a positive number, got {options.seconds:g}")
    _bench.run(options.threads, options.seconds)
    return 0


def _study(options: argparse.Namespace) -> int:
    from normcore.studies import STUDIES

    if options.list or options.name is None:
        for study in STUDIES.values():
            print(f"{study.name}\n    {study.sentence}")
        print("\nRun one with: normcore study NAME")
        return 0
    if options.name not in STUDIES:
        raise _UserError(f"NAME must be one of the studies ({', '.join(STUDIES)}), got {options.name!r}")
    study = STUDIES[options.name]
    given = {name: getattr(options, name) for name in ("data", "epochs", "seed")}
    try:
        config = study.config(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise _UserError(f"--{error}") from None  # the message begins with the option's name
    # What can fail for reasons outside the study is tried before the training, not after it.
    folder = _writable_folder(options.out if options.out is not None else Path(f"normcore-study-{study.name}"))
    picture = importlib.util.find_spec("matplotlib") is not None
    if not picture:
        print(f"matplotlib is missing, so there will be no picture; {_HOW_TO_GET_THE_PICTURE}", file=sys.stderr)

    started = time.perf_counter()
    result = study.run(config, progress=True)
    print(result.table())
    written = [folder / "result.json"]
    try:
        written[0].write_text(result.to_json(), encoding="utf-8")
        if picture:
            from normcore.studies._plot import curves

            written.append(folder / "curves.png")
            curves(result).savefig(written[-1])
    except OSError as error:
        raise _UserError(f"--out: cannot write {written[-1]}: {error.strerror or error}") from None
    print(f"\nWritten after {time.perf_counter() - started:.1f} s:")
    for path in written:
        print(f"  {path}")
    return 0


def _writable_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _UserError(
            f"--out must be a folder to write to, and {folder} cannot be made: {error.strerror or error}"
        ) from None
    if not os.access(folder, os.W_OK):
        raise _UserError(f"--out must be a folder to write to, and {folder} is read-only; choose another")
    return folder
