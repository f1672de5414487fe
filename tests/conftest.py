"""What all tests share: the backends they run on, and how long hypothesis searches."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import normcore as nc

sys.path.insert(0, str(Path(__file__).parent))  # oracle, tolerances and strategies are imported by name

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


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Run the test once on each backend, asked for by name: a silent fallback would fail."""
    with nc.use_backend(request.param):
        yield request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20150211)  # the day of the batch norm paper


@pytest.fixture(autouse=True)
def _control_state_is_left_alone():
    """No test, and so no call in it, leaves another number of threads behind."""
    before = nc.get_num_threads()
    yield
    assert nc.get_num_threads() == before
