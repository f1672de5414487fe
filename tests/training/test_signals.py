"""Real signals: Ctrl-C in a long fit and in a large call, SIGTERM, and which threads are asked to handle them."""

from __future__ import annotations

import os
import signal

import pytest
from processes import python, running

from reliability.patience import patience

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to a process of its own on Windows")

FIT = """
import signal, numpy as np, normcore as nc
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
X = np.random.default_rng(0).standard_normal((500, 20)).astype("float32")
y = X[:, :3].argmax(1)
model = nc.MLP([20, 256, 3], seed=0).eval()
t = nc.Trainer(model, nc.optim.Adam(model.parameters()), "cross_entropy")
class Say(nc.training.Callback):
    def on_epoch_end(self, trainer, epoch, logs):
        print("epoch", epoch, flush=True)
try:
    with nc.threads(2):
        t.fit(X, y, epochs=10**6, seed=0, callbacks=[Say()])
except KeyboardInterrupt:
    done = len(t.history)
    again = nc.MLP([20, 256, 3], seed=0)
    other = nc.Trainer(again, nc.optim.Adam(again.parameters()), "cross_entropy")
    other.fit(X, y, epochs=done, seed=0)
    print("as if never interrupted", other.history.history == t.history.history)
    print("whole", all(np.isfinite(v).all() for v in model.state_dict().values()), not model.training)
    t.fit(X, y, epochs=done + 1, resume=True)
    print("goes on", len(t.history) - done)
"""


def test_ctrl_c_in_a_long_fit():
    """A process that would train for days gets SIGINT after its third epoch."""
    lines = []
    with running(FIT) as program:
        for line in program.stdout:
            lines.append(line.strip())
            if line == "epoch 2\n":
                program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0, (lines[-5:], program.stderr.read())
    assert lines[-3:] == ["as if never interrupted True", "whole True True", "goes on 1"]


CALL = """
import signal, numpy as np, normcore as nc
x = np.random.default_rng(0).standard_normal((64, 64, 56, 56)).astype("float32")
expected, _ = nc.batch_norm_forward(x)
mean, var = np.zeros(64, np.float32), np.ones(64, np.float32)
nc.batch_norm(x, mean, var, training=True)  # what one call does
once = mean.copy(), var.copy()
out, finished, untouched = np.empty_like(x), 0, 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
for i in range(12):
    out.fill(np.nan)
    mean.fill(0), var.fill(1)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002 * (i + 1))
        with nc.threads(2):
            nc.batch_norm(x, mean, var, training=True, out=out)
            signal.pause()
    except KeyboardInterrupt:
        pass
    if np.isnan(out).all():
        assert not mean.any() and (var == 1).all()
        untouched += 1
    else:
        assert np.array_equal(out, expected), "half-written"
        assert np.array_equal(mean, once[0]) and np.array_equal(var, once[1]), "half-updated"
        finished += 1
print(finished + untouched, finished > 0)
"""


def test_ctrl_c_in_a_large_call_comes_after_it():
    """`out` and the running statistics are all written or not at all, and the next call is right."""
    assert python(CALL) == "12 True"


TERM = """
import numpy as np, normcore as nc
x = np.zeros((64, 64, 56, 56), np.float32)
with nc.threads(3):
    print("begins", flush=True)
    while True:
        nc.batch_norm(x, training=True, out=x)
"""


def test_sigterm_ends_a_process_in_the_middle_of_calls():
    with running(TERM) as program:
        assert program.stdout.readline() == "begins\n"
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == -signal.SIGTERM
        assert program.stderr.read() == ""


BLOCKED = """
import os, numpy as np, normcore as nc
from normcore import _workers
with nc.threads(4):
    nc.batch_norm(np.zeros((64, 64, 20, 20)), training=True)
def blocks(task):
    with open(f"/proc/self/task/{task}/status") as file:
        (mask,) = (line.split()[1] for line in file if line.startswith("SigBlk"))
    return all(int(mask, 16) >> (number - 1) & 1 for number in (2, 10, 14, 15))  # INT, USR1, ALRM, TERM
print(_workers.started(), sum(blocks(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="only Linux says which signals a thread blocks")
def test_signals_are_for_the_threads_of_the_program():
    pytest.importorskip("normcore._workers", reason="nothing is compiled here, so there are no threads of our own")
    assert python(BLOCKED, OPENBLAS_NUM_THREADS="1") == "3 3"


def test_a_program_that_takes_too_long_is_no_fault_of_its_own():
    said = f"was killed after {patience(1)} s"
    with pytest.raises(AssertionError, match=said), running("while True: pass", 1) as program:
        assert program.wait(patience(60)) == 0
