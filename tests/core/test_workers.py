"""Threads of our own: every task once, whoever calls at the same time, after a fork, and in many short jobs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import python

workers = pytest.importorskip("normcore._workers", reason="nothing is compiled here")

from normcore.nn import Parameter  # noqa: E402 - after the question whether there is anything to test
from normcore.optim import SGD, _compiled  # noqa: E402 - as above


def steps(seed, threads, count=20, size=50_001):
    """Parameters after some steps of plain SGD, whose values are known: p - lr * grad, step by step."""
    rng = np.random.default_rng(seed)
    param = Parameter(rng.normal(size=size))
    want = param.data.copy()
    fused = _compiled.fused()
    for _ in range(count):
        param.grad = rng.normal(size=size)
        rest = fused.sgd([param], {}, 0.5, 0.0, 0.0, 0.0, False, False, lambda _: threads)
        assert not rest
        want -= param.grad * 0.5
    return param.data, want


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 200])
def test_every_task_is_done_once(threads):
    got, want = steps(0, threads)
    np.testing.assert_array_equal(got, want)


def test_many_short_jobs():
    """Threads that come late to one job must not touch the next: thousands of jobs of a few microseconds."""
    got, want = steps(0, 4, count=3000, size=9_000)
    np.testing.assert_array_equal(got, want)


def test_callers_at_the_same_time():
    with ThreadPoolExecutor(6) as pool:
        for got, want in pool.map(lambda seed: steps(seed, 3, count=60), range(24)):
            np.testing.assert_array_equal(got, want)


def test_there_are_never_more_than_were_asked_for():
    code = """
import numpy as np, normcore as nc
from normcore import _workers
from normcore.optim import SGD
p = nc.nn.Parameter(np.zeros(400_000)); p.grad = np.ones(400_000)
optimizer = SGD([p], lr=1.0)
assert _workers.started() == 0, "started by an import"
with nc.threads(1):
    optimizer.step()
assert _workers.started() == 0, "started for one thread"
with nc.threads(3):
    for _ in range(5):
        optimizer.step()
print(_workers.started(), p.data.min(), p.data.max())
"""
    assert python(code) == "2 -6.0 -6.0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_its_own():
    code = """
import os, numpy as np
from normcore import _workers
from normcore.nn import Parameter
from normcore.optim import _compiled
def step(param):
    _compiled.fused().sgd([param], {}, 1.0, 0.0, 0.0, 0.0, False, False, lambda _: 3)
param = Parameter(np.zeros(300_000)); param.grad = np.ones(300_000)
step(param)
child = os.fork()
if child == 0:
    for _ in range(50):
        step(param)
    os._exit(0 if (param.data == -51).all() and _workers.started() == 2 else 1)
step(param)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), param.data.min(), param.data.max())
"""
    assert python(code, "-W", "ignore:This process:DeprecationWarning") == "0 -2.0 -2.0"


def test_a_process_ends_while_threads_sleep_or_spin():
    code = """
import numpy as np, time, normcore as nc
p = nc.nn.Parameter(np.zeros(400_000)); p.grad = np.ones(400_000)
with nc.threads(4):
    nc.optim.SGD([p], lr=1.0).step()
time.sleep({})
print("done")
"""
    assert python(code.format(0)) == "done"
    assert python(code.format(0.05)) == "done"


def test_a_model_is_stepped_the_same_way_by_the_class():
    param = Parameter(np.arange(100_000.0))
    param.grad = np.ones(100_000)
    SGD([param], lr=2.0).step()
    np.testing.assert_array_equal(param.data, np.arange(100_000.0) - 2.0)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the threads' masks are read in Linux's /proc")
def test_signals_are_for_the_threads_of_the_program():
    code = """
import os, signal
import numpy as np, normcore as nc
before = set(os.listdir("/proc/self/task"))
x = np.ones((64, 64, 1000), np.float32)
with nc.threads(3):
    nc.batch_norm(x, training=True)
masks = []
for task in sorted(set(os.listdir("/proc/self/task")) - before):
    with open(f"/proc/self/task/{task}/status") as status:
        (blocked,) = (line.split()[1] for line in status if line.startswith("SigBlk"))
    masks.append(all(int(blocked, 16) >> number - 1 & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)))
print(masks)
"""
    assert python(code) == "[True, True]"
