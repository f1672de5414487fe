"""Running code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def python(code, *options, **environment):
    """Run code in a new interpreter, warnings as errors; return what it printed, or the last line of its error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
