"""Forks, pools of processes, sixteen threads, signals, ends: each in a process of its own, where a hang is a failure.

What is tried is in ``reliability/processes/scenarios.py``; ``python -m reliability.processes`` tries it for minutes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import python

from reliability.processes.__main__ import TESTED, tried
from reliability.processes.scenarios import SCENARIOS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and alarms are POSIX's")


@pytest.fixture(autouse=True)
def _children_find_normcore(monkeypatch):
    """The one that is tested, installed or not, and `reliability` beside the tests."""
    import normcore

    roots = [str(Path(normcore.__file__).parents[1]), str(Path(__file__).parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_hang_no_abort_and_the_same_bits(name):
    counts = tried(name, TESTED.get(name, 1))
    assert counts
    assert all(count > 0 for count in counts.values()), counts


def test_a_scenario_that_hangs_or_fails_is_seen(monkeypatch):
    monkeypatch.setattr("reliability.processes.__main__.SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="threads hangs"):
        tried("threads", 1)
    monkeypatch.setattr("reliability.processes.__main__.SECONDS", 60)
    with pytest.raises(RuntimeError, match=r"ended with 1:[\s\S]*KeyError"):
        tried("nothing", 1)


SUB_INTERPRETER = """
import sys
try:
    import _interpreters as interpreters  # Python 3.13
except ImportError:
    import _xxsubinterpreters as interpreters
import numpy as np, normcore as nc
x = np.arange(12.0).reshape(4, 3)
before = nc.batch_norm(x, training=True)
other = interpreters.create()
code = "try:\\n    import normcore\\nexcept ImportError as error:\\n    print(type(error).__name__, flush=True)"
run = interpreters.run_string if hasattr(interpreters, "run_string") else interpreters.exec
run(other, code)
interpreters.destroy(other)
print((nc.batch_norm(x, training=True) == before).all())
"""


def test_a_sub_interpreter_is_refused_and_harms_nothing():
    """NumPy refuses them, with a sentence of its own: it can be loaded once in a process."""
    assert python(SUB_INTERPRETER) == "ImportError\nTrue"
