"""Threads: how many, the same bits for any number, safe side by side and after a fork."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import normcore as nc
from normcore import _threads
from reliability.patience import patience

SHAPES = [
    (64, 64, 33, 33),
    (200_000, 6),
    (3, 2, 150_001),
    (8, 31, 57, 57),
    (30_000, 64),
    (64, 4, 28, 28),  # few channels, whose pieces have several rows
    (100, 3, 40, 40),
]


@pytest.fixture
def process_default(monkeypatch):
    """Undo what set_num_threads does to the process."""
    monkeypatch.setattr(_threads._Process, "requested", None)


def everything(x, dy):
    channels = x.shape[1]
    running = np.zeros(channels), np.ones(channels)
    weight, bias = np.linspace(-1, 1, 2 * channels, dtype=x.dtype).reshape(2, -1)
    y, ctx = nc.batch_norm_forward(x, weight, bias, running_mean=running[0], running_var=running[1])
    return [y, ctx.mean, ctx.rstd, *running, *nc.batch_norm_backward(dy, ctx), *nc.batch_stats(x)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["cython", "numba"])
def test_the_same_bits_for_any_number_of_threads(rng, name, shape, dtype):
    if name == "numba":
        pytest.importorskip("numba", reason="Numba is not installed")
    x, dy = (rng.standard_normal(shape).astype(dtype) + np.array(5, dtype) for _ in range(2))
    with nc.use_backend(name):
        results = []
        for n in (1, 2, 3, 7):
            with nc.threads(n):
                results.append(everything(x, dy))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("backend")
def test_the_same_bits_for_any_alignment_and_on_every_run(rng):
    values = rng.standard_normal((7, 5, 31)).astype(np.float32)
    expected = nc.batch_norm(values, training=True)
    buffer = np.empty(values.size + 32, np.float32)
    for offset in range(17):
        x = buffer[offset : offset + values.size].reshape(values.shape)
        x[...] = values
        np.testing.assert_array_equal(nc.batch_norm(x, training=True), expected)


@pytest.mark.usefixtures("process_default")
def test_set_num_threads_holds_for_the_process_and_threads_for_a_block():
    nc.set_num_threads(3)
    assert nc.get_num_threads() == 3
    seen = []
    with nc.threads(5):
        assert nc.get_num_threads() == 5
        with nc.threads(1):
            assert nc.get_num_threads() == 1
        thread = threading.Thread(target=lambda: seen.append(nc.get_num_threads()))
        thread.start()
        thread.join()
        assert nc.show_config()["threads"].startswith("5 (nc.threads)")
    # Free-threaded Python 3.14 hands the context of `start` to the new thread, and with it what holds in the block.
    assert seen == [5 if getattr(sys.flags, "thread_inherit_context", False) else 3]
    assert nc.show_config()["threads"].startswith("3 (nc.set_num_threads)")


@pytest.mark.parametrize("setter", [nc.set_num_threads, nc.threads])
@pytest.mark.parametrize("n", [0, -1, 10**6, 1.5, None, "2", True])
def test_a_wrong_number_of_threads(setter, n):
    before = nc.get_num_threads()
    kind = ValueError if type(n) is int else TypeError
    with pytest.raises(kind, match=f"n must be an int from 1 to 1024, the number of threads, got {n!r}"):
        setter(n)
    assert nc.get_num_threads() == before


def test_integers_of_numpy_are_ints():
    with nc.threads(np.int64(2)):
        assert nc.get_num_threads() == 2


def test_small_calls_are_serial():
    assert _threads.threads_for(_threads.PARALLEL_BYTES - 1) == 1
    with nc.threads(2):
        assert _threads.threads_for(_threads.PARALLEL_BYTES) == 2


@pytest.mark.skipif(
    not nc.show_config()["openmp"].startswith("yes"), reason="built without OpenMP: there is no pool to limit"
)
def test_threadpoolctl_limits_the_pool():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    if nc.get_num_threads() == 1:
        pytest.skip("one CPU: nothing to limit")
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert nc.get_num_threads() == 1
    assert nc.get_num_threads() > 1


def test_omp_num_threads_and_affinity_are_obeyed():
    from processes import python

    show = "import normcore as nc; print(nc.get_num_threads())"
    if nc.show_config()["openmp"].startswith("yes"):
        assert python(show, OMP_NUM_THREADS="1") == "1"
    if hasattr(os, "sched_setaffinity"):
        assert python("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " + show) == "1"


@pytest.mark.usefixtures("process_default")
def test_a_cgroup_limits_the_default(monkeypatch):
    monkeypatch.setattr(_threads, "_cgroup_limit", 1)
    assert nc.get_num_threads() == 1


def test_calls_from_many_threads_at_once(rng, backend):
    x = rng.standard_normal((8, 30, 40, 40)).astype(np.float32)
    expected = nc.batch_norm(x, training=True)

    def call(_):
        with nc.use_backend(backend):
            return nc.batch_norm(x, training=True)

    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(call, range(12)):
            np.testing.assert_array_equal(y, expected)


def test_threads_that_learn_more_shapes_than_are_remembered():
    """The fast lane forgets the oldest plan for a new one while other threads look for theirs."""
    shapes = [(rows, columns) for rows in range(2, 12) for columns in range(1, 10)]
    arrays = [np.random.default_rng(rows).standard_normal((rows, columns)) for rows, columns in shapes]
    expected = [nc.batch_norm(x, training=True) for x in arrays]

    def call(start):
        for i in range(start, start + 3 * len(arrays)):
            x = arrays[i * (start + 1) % len(arrays)]
            y, ctx = nc.batch_norm_forward(x)
            np.testing.assert_array_equal(y, expected[i * (start + 1) % len(arrays)])
            np.testing.assert_array_equal(nc.batch_norm_backward(x, ctx)[0], nc.batch_norm_backward(x, ctx)[0])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(8)))
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.skipif(getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this Python has its GIL")
def test_no_compiled_module_brings_the_gil_back():
    import importlib
    from importlib.machinery import EXTENSION_SUFFIXES
    from pathlib import Path

    package = Path(nc.__file__).parent
    compiled = [path.relative_to(package.parent) for path in package.rglob(f"*{EXTENSION_SUFFIXES[0]}")]
    for path in compiled:
        importlib.import_module(".".join([*path.parts[:-1], path.name.split(".")[0]]))
    assert len(compiled) >= 9
    assert not sys._is_gil_enabled()


def test_the_gil_is_released(rng):
    """Another thread counts while a kernel runs."""
    x = rng.standard_normal((64, 64, 56, 56)).astype(np.float32)
    out = np.empty_like(x)
    progress = []
    running = threading.Event()

    def work():
        running.wait()
        while not done.is_set():
            progress.append(1)
            time.sleep(0)  # gives the GIL up itself, so that the kernel can have it back

    done = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)  # the other thread gets a turn only where the GIL is given up
    try:
        running.set()
        for _ in range(50):  # on a busy machine the other thread waits for a core, not for the GIL
            nc.batch_norm(x, training=True, out=out)
            counted = len(progress)
            if counted:
                break
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert counted > 0


def _in_child(queue, name, x):
    nc.set_num_threads(2)  # the parent has used its pool, so this must not bring threads back
    with nc.use_backend(name):
        before = nc.get_num_threads()
        y = nc.batch_norm(x, training=True)
        queue.put((before, y.sum(dtype=np.float64), nc.show_config()["threads"]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_works_and_does_not_hang(rng, backend):
    x = rng.standard_normal((16, 64, 40, 40)).astype(np.float32)
    with nc.threads(2):
        y = nc.batch_norm(x, training=True)  # the pool is running when the child is born
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue, backend, x))
    child.start()
    child.join(patience(60))
    assert child.exitcode == 0
    threads, total, described = queue.get()
    assert threads == 1
    assert total == y.sum(dtype=np.float64)
    assert "this process was forked" in described


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_parent_without_threads_may_have_threads():
    from processes import python

    code = """
import os, numpy as np, normcore as nc
x = np.random.default_rng(0).standard_normal((16, 64, 40, 40))
child = os.fork()
if child == 0:
    nc.set_num_threads(2)
    assert nc.get_num_threads() == 2
    nc.batch_norm(x, training=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert python(code) == "0"
