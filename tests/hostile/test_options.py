"""Every option of the public surface, with values that nobody meant: taken, or refused in one sentence."""

from __future__ import annotations

import pytest
from hostile.options import HOSTILE, LATER, OPTIONS
from hostile.outcomes import Refusal, outcome
from hostile.surface import CALLS, NO_ARRAYS

import normcore as nc

NOTHING_TO_SET = (
    *("Loss", "Module", "Optimizer", "Schedule", "Callback", "PooledMetric"),  # bases
    *("HookHandle", "LoadResult", "Dataset", "Part", "Split", "History", "Parameter"),  # holders
    *("DivergenceError", "DataError", "DataNotFoundError"),
    *("Sigmoid", "Tanh", "Identity", "get_num_threads", "get_pool_limit", "show_config"),
    *("CSVLogger", "cache_dir", "read_cifar10", "read_idx"),  # names of files: tests of files
    *("load", "load_cifar10", "load_digits", "load_fashion_mnist", "load_mnist"),
    "SequentialLR",  # takes schedules, which test_schedules.py walks
    *(f"{norm}_norm_backward" for norm in ("batch", "layer", "rms", "group", "instance")),  # arrays and a context
)


def test_every_public_name_has_its_options_or_none():
    names = CALLS.keys() | NO_ARRAYS.keys()
    known = {name.split(".")[0] for name in OPTIONS} | set(NOTHING_TO_SET) | LATER
    assert names - known == set(), "give them a line in options.py"


@pytest.fixture(autouse=True)
def settings():
    """The settings of the process, which some of these calls change."""
    threads, limit = nc.get_num_threads(), nc.get_pool_limit()
    yield
    nc.set_num_threads(threads)
    nc.set_pool_limit(limit)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_options_with_hostile_values(name):
    call = OPTIONS[name]
    for option in call.options:
        for what, value in HOSTILE.items():
            try:
                got = outcome(call.run, **{**call.plain(), option: value})
                if isinstance(got, Refusal):
                    assert got.names(option), f"the sentence does not name it: {got.sentence}"
            except BaseException as error:
                error.args = (f"{option}={what}: {error}",)
                raise
