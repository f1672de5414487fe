"""The same threads for everybody, and what was measured where.

Libraries read their number of threads when they start, so the program starts itself again with the environment that
they read, and on as many CPUs: XLA takes one thread for each CPU it may use, and has no other setting that it obeys.
How long threads spin before they sleep is everybody's own default; `timing.SETTLE` waits for that.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import normcore as nc

_MARK = "NORMCORE_BENCHES_PREPARED"
_LOOK = 0.3  # seconds over which the machine's business is judged
_LIBRARIES = ("numpy", "numba", "torch", "jax", "jaxlib", "ml_dtypes", "scikit-learn")


def variables(threads: int) -> dict[str, str]:
    """What the libraries read: OpenMP (PyTorch, normcore), MKL, OpenBLAS (NumPy), XLA."""
    found = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")}
    found["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        found["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    return found


def restart(threads: int, argv: Sequence[str]) -> None:
    """Replace this process by one with the environment for `threads`; return in the one that has it."""
    if os.environ.get(_MARK) == str(threads):
        return
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:threads])
    os.environ.update(variables(threads), **{_MARK: str(threads)})
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "benches.peers", *argv])


def describe(threads: int) -> dict[str, Any]:
    """The machine and the versions."""
    versions = {name: _version(name) for name in _LIBRARIES}
    return {
        "cpu": cpu(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "normcore": nc.__version__,
        **versions,
    }


class Busy:
    """How much of the CPUs other processes take, from its making on."""

    def __init__(self) -> None:
        self._before = _cpu_seconds()
        self._started = time.perf_counter()

    def share(self) -> float | None:
        """A part of 1; None where the system does not tell (outside Linux)."""
        now = _cpu_seconds()
        if now is None or self._before is None:
            return None
        everybody, ours = (b - a for a, b in zip(self._before, now, strict=True))
        capacity = (time.perf_counter() - self._started) * (os.cpu_count() or 1)
        return max(0.0, everybody - ours) / capacity


def wait(patience: float, share: float) -> None:
    """Wait until other processes take less than `share` of the CPUs, at most `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        busy = Busy()
        time.sleep(_LOOK)
        if (busy.share() or 0.0) < share:
            return


def _cpu_seconds() -> tuple[float, float] | None:
    """Seconds that all CPUs have worked, or were taken away by a hypervisor; and for this process and its children."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy, sum(os.times()[:4])


def cpu() -> str:
    """The processor's model."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(
        line.split("\t: ", 1) for line in (x.replace("\t\t", "\t") for x in text.splitlines()) if "\t: " in line
    )
    model = facts.get("model name", platform.machine())
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{model} ({', '.join(numbers)})" if numbers else model


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
