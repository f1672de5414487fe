"""`reliability.memory`: every allocation of a call fails once, and what calls take beside their results."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import normcore as nc

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.skipif(not (ROOT / "reliability").is_dir(), reason="reliability/ is only in a checkout"),
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="stands before the malloc of glibc"),
    pytest.mark.skipif(
        not (os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")), reason="no C compiler is installed"
    ),
    pytest.mark.skipif(nc.show_config()["cython backend"] != "available", reason="the kernels are not compiled"),
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    from reliability.memory.watch import library

    with library() as path:
        environment = {**os.environ, "LD_PRELOAD": str(path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        return subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip


def test_a_failed_allocation_is_a_memory_error_and_changes_nothing():
    done = run("-m", "reliability.memory", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 times something else" in done.stdout


def test_what_a_failure_leaves_behind_is_told():
    script = """
        import numpy as np
        from reliability.memory.__main__ import failures
        from reliability.memory.cases import Attempt, Case

        def ready():
            state = np.zeros(3)
            def run():
                state[0] += 1
                return [np.ones(5000)]
            return Attempt(run, lambda: [state])

        def wrong():
            def run():
                try:
                    return [np.ones(5000)]
                except MemoryError:
                    raise ValueError("no")
            return Attempt(run, list)

        for case in Case("half done", ready), Case("other error", wrong):
            print(*failures(case)[1], sep="\\n")
    """
    done = run("-c", textwrap.dedent(script))
    assert done.stdout.splitlines() == [
        "half done: with allocation 1 refused, arrays were changed before the MemoryError",
        "half done: the call after a refused allocation 1 returned other numbers",
        "other error: with allocation 1 refused it raised ValueError: no",
    ], done.stderr


def test_beside_its_results_a_call_takes_what_channels_and_groups_need():
    script = """
        import normcore as nc
        from reliability.memory.peaks import peaks
        nc.set_num_threads(2)
        nc.set_pool_limit(0)
        for name, title, layout, one, more in peaks():
            print(name.split()[0], title, layout.replace(" ", "-"), one.x, one.beside, more.beside)
    """
    done = run("-c", textwrap.dedent(script))
    assert not done.returncode, done.stderr
    seen = [line.split() for line in done.stdout.splitlines()]
    assert len(seen) == 30
    for name, title, layout, x, one, more in seen:
        copies = title == "backward" and (
            layout == "every-other-row" or (layout == "channels-last" and name != "batch")
        )  # of x, where no walk reads it in place: dy's copy is in the result
        x, one, more = int(x), int(one), int(more)
        assert one - copies * x < 1_000_000, (name, title, layout, one)
        # With four times the samples: the same, but for what there is of every sample.
        assert more - one < 3 * copies * x + 500_000, (name, title, layout, one, more)
