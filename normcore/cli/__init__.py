"""The command ``normcore``: study, bench, info."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from . import _study
from ._errors import UserError, check_backend, complain

# Imports of what a command needs are in its function: --help and --version answer at once.

_OUTPUT_FAILED, _USAGE_ERROR, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process when not given.

    Returns
    -------
    int
        0; 1 when the output cannot be written, or one of all studies failed; 2 for a mistake in the arguments; 130
        after Ctrl-C; 141 when whoever read the output has gone.
    """
    try:
        code = _run(argv)
        if sys.stdout is None:
            raise OSError("it is closed")
        sys.stdout.flush()
        return code
    except UserError as error:
        complain(f"normcore: error: {error}")
        return _USAGE_ERROR
    except KeyboardInterrupt:
        complain("\nnormcore: interrupted")
        return _INTERRUPTED
    except BrokenPipeError:  # normcore study digits | head
        _drop_output()
        return _BROKEN_PIPE
    except OSError as error:  # normcore info >/dev/full
        _drop_output()
        complain(f"normcore: error: {error.filename or 'standard output'}: {error.strerror or error}")
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

    _study.add_parser(commands)

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


def _bench(options: argparse.Namespace) -> int:
    from normcore import _bench
    from normcore._threads import threads

    if options.threads is not None:
        try:
            threads(options.threads)
        except ValueError as error:
            raise UserError(f"--threads: {error}") from None
    if not 0 < options.seconds < float("inf"):
        raise UserError(f"--seconds must be a positive number, got {options.seconds:g}")
    check_backend()
    _bench.run(options.threads, options.seconds)
    return 0
