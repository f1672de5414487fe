"""The pool that large results take their memory from: it hands memory on, and nobody can tell otherwise."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from processes import python

import normcore as nc
from normcore import _pool

compiled = pytest.importorskip("normcore._compiled_pool", reason="the pool is compiled, and this installation is not")

LARGE = (64, 40, 256)  # 2.5 MB in float32


@pytest.fixture(autouse=True)
def empty_pool():
    """Every test begins and ends with nothing kept."""
    limit = nc.get_pool_limit()
    nc.set_pool_limit(0)
    nc.set_pool_limit(limit)
    yield
    nc.set_pool_limit(0)
    nc.set_pool_limit(limit)


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("layout", ["learned", "transposed"])
def test_a_freed_result_serves_the_next(rng, layout):
    x = rng.standard_normal(LARGE).astype("float32")
    if layout == "transposed":  # goes through the planner every time
        x = x.transpose(1, 0, 2)
    first = nc.batch_norm(x, training=True)
    at, expected = address(first), first.copy()
    del first
    assert compiled.held() >= expected.nbytes
    second = nc.batch_norm(x, training=True)
    assert address(second) == at
    assert at % 64 == 0
    np.testing.assert_array_equal(second, expected)
    assert compiled.held() < expected.nbytes


def test_small_results_are_numpys_own(rng):
    x = rng.standard_normal((64, 10))
    for _ in range(3):
        nc.batch_norm(x, training=True)
    assert compiled.held() == 0


def test_a_result_that_is_still_held_is_left_alone(rng):
    x = rng.standard_normal(LARGE).astype("float32")
    kept = [nc.layer_norm(x + i, 256) for i in range(4)]
    copies = [y.copy() for y in kept]
    view = kept[0][3]
    del kept[0]
    nc.layer_norm(x * 5, 256)
    np.testing.assert_array_equal(view, copies[0][3])  # a view keeps the memory from being handed on
    for y, copy in zip(kept, copies[1:], strict=True):
        np.testing.assert_array_equal(y, copy)


def test_results_own_their_data(rng):
    y = nc.batch_norm(rng.standard_normal(LARGE), training=True)
    assert y.flags.owndata
    assert y.base is None
    values = y.ravel()[:1000].copy()
    y.resize(1000, refcheck=False)
    np.testing.assert_array_equal(y, values)
    y.resize(10**6, refcheck=False)  # grows by moving
    np.testing.assert_array_equal(y[:1000], values)
    assert not y[1000:].any()


def test_the_limit_holds(rng):
    nc.set_pool_limit(6_000_000)
    x = rng.standard_normal(LARGE).astype("float32")
    for _ in range(3):
        results = [nc.batch_norm(x, training=True) for _ in range(5)]
        del results
        assert 0 < compiled.held() <= 6_000_000
    nc.set_pool_limit(0)
    assert compiled.held() == 0
    nc.batch_norm(x, training=True)
    assert compiled.held() == 0
    nc.set_pool_limit(1000)  # less than a result
    nc.batch_norm(x, training=True)
    assert compiled.held() == 0


def test_no_more_than_a_few_blocks_of_little_waste(rng):
    for rows in range(64, 104, 2):
        nc.batch_norm(rng.standard_normal((rows, 40, 256)), training=True)
    assert compiled.held() <= 8 * 104 * 40 * 256 * 8
    nc.set_pool_limit(0)
    nc.set_pool_limit(2**28)
    large, small = rng.standard_normal((64, 40, 256)), rng.standard_normal((32, 40, 256))
    nc.batch_norm(large, training=True)
    y = nc.batch_norm(small, training=True)
    assert compiled.held() >= large.nbytes, "half of a block would have been wasted"
    del y


@pytest.mark.parametrize(
    ("nbytes", "error"),
    [(-1, ValueError), (2**70, ValueError), (1.5, TypeError), ("1", TypeError), (None, TypeError)],
    ids=str,
)
def test_limits_that_are_none(nbytes, error):
    before = nc.get_pool_limit()
    with pytest.raises(error, match=r"^nbytes must be"):
        nc.set_pool_limit(nbytes)
    assert nc.get_pool_limit() == before


def test_the_default_limit_is_small_beside_the_memory():
    assert 0 < _pool._default_limit() <= 256 * 2**20


def test_threads_share_it(rng):
    x = rng.standard_normal(LARGE).astype("float32")
    expected = nc.batch_norm(x, training=True)
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(nc.batch_norm(x, training=True), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


OUTLIVING = """
import sys, numpy as np, normcore as nc
y = nc.batch_norm(np.arange(655_360.0).reshape(64, 40, 256), training=True)
for name in [n for n in sys.modules if n.startswith("normcore")]:
    del sys.modules[name]
del nc
print(0.9 < float(y.std()) < 1.1)
"""


def test_results_outlive_the_package():
    assert python(OUTLIVING) == "True"


@pytest.mark.parametrize("more", [1, 64, 1000, 4096])
def test_a_block_is_never_shorter_than_what_it_is_for(more):
    first = _pool.empty((300_000,), np.dtype(np.uint8))
    at = address(first)
    del first
    assert compiled.held() == 300_000
    longer = _pool.empty((300_000 + more,), np.dtype(np.uint8))
    assert address(longer) != at
    assert compiled.held() == 300_000
    same = _pool.empty((300_000,), np.dtype(np.uint8))
    assert address(same) == at
    assert compiled.held() == 0
