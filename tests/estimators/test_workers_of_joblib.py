"""Inside joblib's workers: the same bits, no hang, and no more threads than there are cores for."""

from __future__ import annotations

import json

import pytest
from processes import python

import normcore as nc
from reliability.patience import patience

pytestmark = pytest.mark.skipif(
    not nc.show_config()["openmp"].startswith("yes"), reason="built without OpenMP: everything is on one thread"
)

# What a worker sees: how many threads a call may use, how many were started for large ones, and what came out.
WORK = """
import json, os, sys
from joblib import Parallel, delayed, parallel_config
import numpy as np, normcore as nc
def work(seed):
    from normcore import _workers
    x = np.random.default_rng(seed).standard_normal((32, 16, 30, 30)).astype("float32")
    y, ctx = nc.batch_norm_forward(x)
    dx = nc.batch_norm_backward(x, ctx)[0]
    return nc.get_num_threads(), _workers.started(), float(y.sum(dtype=float)), float(np.abs(dx).sum(dtype=float))
"""

RUN = """
expected = [work(seed)[2:] for seed in range(6)]
with parallel_config(backend={backend!r}, n_jobs=2{more}):
    found = Parallel(timeout={seconds})(delayed(work)(seed) for seed in range(6))
print(json.dumps([max(a for a, *_ in found), max(b for _, b, *_ in found), [tuple(f[2:]) for f in found] == expected]))
"""


def inside(backend, more=""):
    program = WORK + RUN.format(backend=backend, more=more, seconds=patience(100))
    said = python(program, "-W", "ignore:This process:DeprecationWarning")
    return json.loads(said.splitlines()[-1])


@pytest.fixture(scope="module")
def cores():
    """The threads of a process of its own."""
    return int(python("import normcore as nc; print(nc.get_num_threads())"))


def test_processes_share_the_cores(cores):
    """loky, the default, tells its workers by OMP_NUM_THREADS how many threads each may use."""
    allowed, started, equal = inside("loky")
    assert equal
    assert allowed <= max(1, cores // 2)
    assert started <= allowed - 1


def test_the_number_for_a_worker_can_be_set():
    allowed, started, equal = inside("loky", ", inner_max_num_threads=3")
    assert equal
    assert allowed == 3
    assert started <= 2


def test_forked_workers_are_serial():
    allowed, started, equal = inside("multiprocessing")
    assert equal
    assert (allowed, started) == (1, 0)


def test_threads_share_one_crew(cores):
    """However many threads call, they start no more than one of them would: the others run on their own."""
    allowed, started, equal = inside("threading")
    assert equal
    assert allowed == cores
    assert started <= cores - 1


SEARCH = """
import json, warnings
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from normcore.data import load_digits
from normcore.estimators import MLPClassifier
digits = load_digits()
X, y = digits.X[:300].astype(float), digits.y[:300]
warnings.simplefilter("ignore", ConvergenceWarning)
import os
os.environ["PYTHONWARNINGS"] = "ignore"  # for the workers: a few epochs do not converge
scores = []
for n_jobs in (1, 2):
    search = GridSearchCV(
        MLPClassifier((40,), max_iter=4, random_state=0), {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]},
        cv=2, n_jobs=n_jobs)
    scores.append(search.fit(X, y).cv_results_["mean_test_score"].tolist())
print(json.dumps(scores))
"""


def test_a_search_in_two_processes_finds_what_one_finds():
    one, two = json.loads(python(SEARCH))
    assert one == two
    assert len(set(one)) > 1
