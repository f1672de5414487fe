"""What normcore costs before it computes anything: the time of its import, the size of its wheel."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benches.results import OURS, Result

ROOT = Path(__file__).resolve().parents[1]
_CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
_MB = 1_000_000


def importing(pairs: int) -> Result:
    """How many milliseconds `import normcore` takes over `import numpy`, in fresh interpreters that take turns."""
    times: dict[str, list[float]] = {"numpy": [], "normcore": []}
    for _ in range(pairs + 1):
        for name, values in times.items():
            done = subprocess.run(
                [sys.executable, "-c", _CODE.format(name)], cwd=ROOT, check=True, capture_output=True, text=True
            )
            values.append(float(done.stdout))
    # The first pair finds the files not yet in memory, and compiles to bytecode.
    seconds = {name: statistics.median(values[1:]) for name, values in times.items()}
    extra = statistics.median(
        ours - theirs for ours, theirs in zip(times["normcore"][1:], times["numpy"][1:], strict=True)
    )
    return Result(
        "import normcore over import numpy",
        None,
        {OURS: seconds["normcore"], "NumPy": seconds["numpy"]},
        amount=extra * 1e3,
    )


def wheel(file: Path | None, build: bool) -> Result:
    """The size of a wheel: of the one given, or of one built here."""
    if file is not None:
        return Result(f"wheel {file.name}", None, amount=file.stat().st_size / _MB)
    if not build:
        return Result("wheel", None, missing={OURS: "no wheel was given: --wheel FILE or --build-wheel"})
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)], check=True, cwd=folder
        )
        (built,) = Path(folder).glob("*.whl")
        return wheel(built, build=False)
