"""`python -m reliability.processes --scale 10`: every scenario, ten times as often as the tests try it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

from reliability.patience import patience

from .scenarios import SCENARIOS

TESTED = {"ends": 2, "short_lives": 2, "interrupts": 6, "forks": 2}  # the others: 1
SECONDS = patience(240)  # for what is tried once; more is a hang


def tried(name: str, count: int, scale: int = 1) -> dict[str, int]:
    """Run a scenario in a process of its own; RuntimeError says how it failed."""
    command = [sys.executable, "-m", "reliability.processes.scenarios", name, str(count)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS * scale, check=False, env=dict(os.environ)
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name} hangs: not over after {SECONDS * scale} s") from None
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    counts: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return counts


def main() -> int:
    """Print what was tried of each scenario; return how many failed."""
    parser = argparse.ArgumentParser(prog="python -m reliability.processes", description=__doc__)
    parser.add_argument("--scale", type=int, default=10, help="times as much as in the tests (10)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)}; all when not given")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    failed = 0
    for name in arguments.names or SCENARIOS:
        started = time.perf_counter()
        try:
            counts = tried(name, TESTED.get(name, 1) * arguments.scale, arguments.scale)
            said = ", ".join(f"{count} {what}" for what, count in counts.items())
        except RuntimeError as error:
            failed += 1
            said = f"FAILED: {error}"
        print(f"{name:<16} {time.perf_counter() - started:6.1f} s  {said}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
