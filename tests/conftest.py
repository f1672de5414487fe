"""What all tests share: the backends they run on, and how long hypothesis searches."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Last: where normcore is installed, that is what is tested, not the sources beside the tests.
sys.path.append(str(Path(__file__).parents[1]))  # for benches

import normcore as nc
from normcore import backends
from normcore._activation import ACTIVATIONS

# pytest --hypothesis-profile=long searches fifty times as long (CONTRIBUTING.md)
settings.register_profile(
    "default", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

numba_missing = importlib.util.find_spec("numba") is None
BACKENDS = [
    "cython",
    pytest.param(
        "numba",
        marks=pytest.mark.skipif(numba_missing, reason="Numba, the optional backend's compiler, is not installed"),
    ),
    "reference",
]


def pytest_configure(config):
    config.addinivalue_line("markers", "walk(name): the walk over memory that the test's calls need")
    # A shell starts what it puts into the background with Ctrl-C ignored, and so would be what the tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def declined(name, item):
    """Why a backend does not carry a test's calls, told from the test's parameters and its mark `walk`."""
    given = item.callspec.params
    mark = item.get_closest_marker("walk")
    walk = given["norm"].walk if "norm" in given else mark.args[0] if mark else "channels"
    return backends.load(name).declines(
        walk, np.dtype(given.get("dtype", "float64")), ACTIVATIONS.index(given.get("activation"))
    )


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Run the test once on each backend, asked for by name: a silent fallback would fail."""
    reason = declined(request.param, request.node)
    if reason:
        pytest.skip(f"{request.param} {reason}")
    with nc.use_backend(request.param):
        yield request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20150211)  # the day of the batch norm paper


@pytest.fixture(autouse=True)
def _number_of_threads_is_left_alone():
    """No test, and so no call in it, leaves another number of threads behind."""
    before = nc.get_num_threads()
    yield
    assert nc.get_num_threads() == before
