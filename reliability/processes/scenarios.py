"""What is tried: each function in a process of its own, `python -m reliability.processes.scenarios NAME COUNT`.

It prints what it has tried, as numbers by name, and fails by an assertion, by a crash, or by not ending in time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import numpy as np

import normcore as nc
from reliability.patience import patience

from .work import digest, everything, norms

SECONDS = patience(120)  # a child that takes longer hangs
Counts = dict[str, int]


def _ended(child: int) -> int:
    """The exit code of a forked child; one that hangs is killed."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("a forked child hangs")


def _forked(work: Callable[[], bool]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = 0 if work() else 1
    finally:
        os._exit(code)


def forks(count: int) -> Counts:
    """Fork while three threads are in the middle of calls; the child computes, on threads too, and forks again."""
    expected = everything()
    done = threading.Event()
    trainer = nc.Trainer(nc.MLP([8, 64, 3], norm="batch", seed=1), loss="cross_entropy")
    rows = np.random.default_rng(5).standard_normal((500, 8)).astype("float32")
    predicted = trainer.predict(rows).tobytes()

    def call() -> None:
        while not done.is_set():
            with nc.threads(3):
                digest(norms())

    def predict() -> None:
        while not done.is_set():
            trainer.predict(rows)

    def in_child() -> bool:
        if not trainer.model.training or trainer.predict(rows).tobytes() != predicted or everything() != expected:
            return False
        with ThreadPoolExecutor(3) as pool:
            if set(pool.map(everything, range(3))) != {expected}:
                return False
        return _ended(_forked(lambda: everything() == expected)) == 0

    callers = [threading.Thread(target=target, daemon=True) for target in (call, call, predict)]
    for caller in callers:
        caller.start()
    rng = random.Random(0)
    try:
        for _ in range(count):
            time.sleep(rng.uniform(0, 0.01))
            assert _ended(_forked(in_child)) == 0, "a child computed something else"
    finally:
        done.set()
    for caller in callers:
        caller.join(SECONDS)
        assert not caller.is_alive(), "a thread of the parent hangs"
    assert everything() == expected
    return {"forks during calls": count, "forks of forks": count, "threads in children": 3 * count}


def _pools(method: str, count: int) -> Counts:
    expected = everything()
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        results = pool.map_async(everything, range(2 * count), chunksize=1)
        with nc.threads(2):  # beside them
            assert everything() == expected
        assert set(results.get(SECONDS)) == {expected}
    return {f"calls in a pool by {method}": 2 * count}


def fork_pool(count: int) -> Counts:
    """A pool of processes that are forked after threads were used."""
    return _pools("fork", count)


def spawn_pool(count: int) -> Counts:
    """A pool of processes that begin anew."""
    return _pools("spawn", count)


def forkserver_pool(count: int) -> Counts:
    """A pool of processes that are forked by a server, which has imported normcore."""
    multiprocessing.set_forkserver_preload(["reliability.processes.work"])
    return _pools("forkserver", count)


def threads(count: int) -> Counts:
    """Sixteen threads at once, each with its own number of threads and backend, while others change what is shared."""
    expected = {}
    for name in ("cython", "reference"):
        with nc.use_backend(name):
            expected[name] = everything()
    assert everything() == expected["cython"]
    before, limit, done = nc.get_num_threads(), nc.get_pool_limit(), threading.Event()

    def change() -> None:
        rng = random.Random(1)
        while not done.is_set():
            nc.set_num_threads(rng.randint(1, 5))
            nc.set_pool_limit(rng.choice((0, 10**6, limit)))
            nc.show_config()
            # Shapes that were seldom seen: their plans are learned, and old ones go.
            nc.group_norm(np.ones((rng.randint(1, 50), 4, rng.randint(1, 50))), 2)
            time.sleep(0.0005)

    def call(i: int) -> int:
        rng = random.Random(i)
        for _ in range(count):
            name = "reference" if rng.random() < 0.1 else "cython"
            with nc.use_backend(name), nc.threads(rng.randint(1, 4)):
                assert everything() == expected[name]
            assert digest(norms()) == digest(norms())
        return count

    changer = threading.Thread(target=change, daemon=True)
    changer.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            rounds = sum(pool.map(call, range(16)))
    finally:
        done.set()
        changer.join()
        nc.set_num_threads(before)
        nc.set_pool_limit(limit)
    return {"rounds in sixteen threads": rounds}


def _run(code: str) -> str:
    """What another interpreter says of itself at its end: nothing, or what was wrong."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return f"{done.stderr[-500:]} (exit code {done.returncode})" if done.returncode or done.stderr else ""


_ENDING = """
import threading, time
import numpy as np, normcore as nc
x = np.ones((64, 32, 40, 40), np.float32)
def call():
    while True:
        with nc.threads(3):
            y, ctx = nc.batch_norm_forward(x)
            nc.batch_norm_backward(x, ctx)
for _ in range(4):
    threading.Thread(target=call, daemon=True).start()
time.sleep({seconds})
"""


def ends(count: int) -> Counts:
    """Processes that end while daemon threads are in the middle of calls."""
    rng = random.Random(2)
    for _ in range(count):
        wrong = _run(_ENDING.format(seconds=rng.uniform(0, 0.1)))
        assert not wrong, wrong
    return {"processes that ended during calls": count}


def short_lives(count: int) -> Counts:
    """Processes that come, compute on threads and go at once."""
    code = "import normcore as nc, numpy as np\nwith nc.threads(3): nc.batch_norm(np.ones((64, 32, 90)), training=True)"
    for _ in range(count):
        wrong = _run(code)
        assert not wrong, wrong
    return {"short-lived processes": count}


def alarms(count: int) -> Counts:
    """A handler that runs every millisecond changes nothing."""
    expected, rung = everything(), 0

    def ring(_number: int, _frame: FrameType | None) -> None:
        nonlocal rung
        rung += 1

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(count):
            with nc.threads(3):
                assert everything() == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"rounds under alarms": count, "alarms": rung}


def interrupts(count: int) -> Counts:
    """Ctrl-C at any moment: what it leaves is whole, and the next call is right."""
    expected, settings, stopped = everything(), nc.show_config()["threads"], 0
    rng = random.Random(3)
    X, y = np.random.default_rng(0).standard_normal((400, 60)).astype("float32"), np.arange(400) % 3
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # raises KeyboardInterrupt
    for kind in (everything, None):
        for _ in range(count):
            model = nc.MLP([60, 200, 3], norm="batch", seed=1)
            trainer = nc.Trainer(model, nc.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), "cross_entropy")
            if kind is None and rng.random() < 0.5:
                trainer.optimizer = nc.optim.Adam(model.parameters())
            model.eval()
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.03))
                with nc.threads(3):
                    if kind is not None:
                        kind()
                    else:
                        trainer.fit(X, y, epochs=1000, batch_size=32, validation_data=(X, y))
            except KeyboardInterrupt:
                stopped += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert nc.show_config()["threads"] == settings, "a setting was left behind"
            assert not any(module.training for module in model.modules()), "a mode was left behind"
            assert all(np.isfinite(value).all() for value in model.state_dict().values())
            steps = {state["step"] for state in trainer.optimizer.state.values() if "step" in state}
            assert len(steps) <= 1, f"a step was counted for some parameters alone: {steps}"
            lengths = {len(values) for values in trainer.history.history.values()}
            assert len(lengths) <= 1, f"columns of the history have {lengths} epochs"
        assert everything() == expected
    return {"interrupts": stopped, "runs to interrupt": 2 * count}


SCENARIOS: dict[str, Callable[[int], Counts]] = {
    scenario.__name__: scenario
    for scenario in (
        forks, fork_pool, spawn_pool, forkserver_pool, threads, ends, short_lives, alarms, interrupts,
    )
}  # fmt: skip


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # Python's own about forks beside threads
    print(json.dumps(SCENARIOS[sys.argv[1]](int(sys.argv[2]))))
