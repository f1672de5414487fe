"""Running code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager

from reliability.patience import patience


def python(code, *options, **environment):
    """Run code in a new interpreter, warnings as errors; return what it printed, or the last line of its error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


@contextmanager
def running(code, seconds=120):
    """A new interpreter that runs the code, whose output is read line by line; it is killed when the time is over.

    An assertion that fails then says so: what it would say of a killed program looks like a fault of the program's.
    """
    late = threading.Event()

    def end():
        late.set()
        program.kill()

    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    timer = threading.Timer(patience(seconds), end)
    timer.start()
    try:
        yield program
    except AssertionError as error:
        if late.is_set():
            raise AssertionError(f"the program was killed after {patience(seconds)} s: {error}") from error
        raise
    finally:
        timer.cancel()
        program.kill()
        program.communicate()
