"""The compiled steps and NumPy's: the same bits, for every kind of vectors, number of threads and order of memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore.nn import Parameter
from normcore.optim import SGD, Adam, AdamW, _compiled, clip_grad_norm_
from normcore.optim._compiled import fused

pytestmark = pytest.mark.skipif(fused() is None, reason="the optimisers' loops are not compiled here")

SHAPES = [(4, 3), (), (0, 3), (17,), (5, 2), (128, 257), (33,)]  # pieces and vectors with and without a remainder
CASES = {
    "sgd": (SGD, {"lr": 0.1}),
    "sgd decay": (SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9}),
    "dampening": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "nesterov decay": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": (Adam, {"lr": 0.01}),
    "adam decay": (Adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.01}),
    "adamw": (AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw undecayed": (AdamW, {"lr": 0.01, "weight_decay": 0.0}),
    "amsgrad": (Adam, {"lr": 0.01, "betas": (0.8, 0.5), "amsgrad": True}),
    "amsgrad decay": (Adam, {"lr": 0.01, "betas": (0.8, 0.5), "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    "amsgrad adamw": (AdamW, {"lr": 0.01, "betas": (0.8, 0.5), "amsgrad": True, "weight_decay": 0.1}),
    "maximize adam": (Adam, {"lr": 0.01, "maximize": True}),
    "maximize adamw": (AdamW, {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    "maximize sgd": (SGD, {"lr": 0.1, "maximize": True}),
    "maximize sgd decay": (SGD, {"lr": 0.1, "maximize": True, "weight_decay": 0.01}),
    "maximize nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    "maximize momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01, "maximize": True}),
}
cases = pytest.mark.parametrize(("kind", "options"), CASES.values(), ids=CASES)


def start(dtype, order="C"):
    rng = np.random.default_rng(3)
    return [Parameter(np.array(rng.normal(size=shape), dtype, order=order)) for shape in SHAPES]


def train(params, kind, options, steps=5, grad_order="K"):
    """A few steps; gradients have the memory order of their parameters, or one of their own."""
    optimizer = kind(params, **options)
    for step in range(steps):
        for i, p in enumerate(params):
            rng = np.random.default_rng([step, i])
            p.grad = np.empty_like(p.data) if grad_order == "K" else np.empty(p.shape, p.dtype, order=grad_order)
            p.grad[...] = rng.normal(size=p.shape)
            if step == 3 and i in (0, 3):
                p.grad = None
        optimizer.step()
    return optimizer


def assert_same(a, b):
    for p, q in zip(a.params, b.params, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        one, other = a.state.get(p, {}), b.state.get(q, {})
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_same_bits_as_numpy(kind, options, dtype, order):
    compiled = train(start(dtype, order), kind, options)
    with nc.use_backend("reference"):
        plain = train(start(dtype, order), kind, options)
    assert_same(compiled, plain)
    for p in compiled.params:
        assert p.data.flags["F_CONTIGUOUS" if order == "F" else "C_CONTIGUOUS"]


@cases
@pytest.mark.parametrize("vectors", ["baseline", "avx2", "avx512"])
def test_every_kind_of_vectors_gives_the_same_bits(kind, options, vectors):
    want = train(start(np.float32), kind, options)
    try:
        before = fused().use_vectors(vectors)
    except ValueError as error:
        pytest.skip(str(error))
    try:
        assert_same(train(start(np.float32), kind, options), want)
    finally:
        fused().use_vectors(before)


@cases
def test_threads_change_no_bits(kind, options, monkeypatch):
    monkeypatch.setattr(_compiled, "_PARALLEL_BYTES", 0)
    results = []
    for n in (1, 2, 3):
        with nc.threads(n):
            params = [*start(np.float32), Parameter(np.linspace(-1, 1, 100_001, dtype=np.float32))]
            results.append(train(params, kind, options))
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


@cases
@pytest.mark.parametrize("what", ["strided", "readable gradient", "swapped gradient", "other order", "other dtype"])
def test_what_the_loops_cannot_walk_through_numpy_steps(kind, options, what):
    def made(awkward):
        rng = np.random.default_rng(1)
        values, steps = rng.normal(size=(6, 4)), rng.normal(size=(4, 6, 4))
        if awkward and what == "strided":
            p = Parameter(np.zeros((12, 8))[::2, ::2])
            p.data[...] = values
        else:
            p = Parameter(values)
        other = Parameter(np.ones(3))
        optimizer = kind([p, other], **options)
        for grad in steps:
            if awkward and what == "swapped gradient":
                grad = grad.astype(grad.dtype.newbyteorder())
            elif awkward and what == "other order":
                grad = np.asfortranarray(grad)
            elif what == "other dtype":
                grad = grad.astype(np.float32).astype(np.float32 if awkward else np.float64)
            elif awkward and what == "readable gradient":
                grad.flags.writeable = False
            p.grad, other.grad = grad, np.ones(3)
            optimizer.step()
        return optimizer

    assert_same(made(True), made(False))


@cases
def test_a_parameter_that_cannot_be_written_is_an_error(kind, options):
    p = Parameter(np.ones(3))
    p.data.flags.writeable = False
    p.grad = np.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        kind([p], **options).step()
    np.testing.assert_array_equal(p.data, 1)


@cases
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_with_its_value(kind, options, bad):
    results = []
    for backend in ("cython", "reference"):
        params = start(np.float32)
        with nc.use_backend(backend), np.errstate(all="ignore"):
            optimizer = kind(params, **options)
            for _ in range(2):
                for p in params:
                    p.grad = np.ones_like(p.data)
                params[0].grad[1, 2] = bad
                optimizer.step()
        finite = np.isfinite(params[0].data)
        assert not finite[1, 2]
        assert finite.sum() == params[0].data.size - 1
        results.append(optimizer)
    assert_same(*results)


@given(
    kind=st.sampled_from(list(CASES.values())),
    shapes=st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), min_size=1, max_size=5),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 1000),
)
def test_any_shapes(kind, shapes, dtype, seed):
    kind, options = kind
    results = []
    for backend in ("cython", "reference"):
        rng = np.random.default_rng(seed)
        params = [Parameter(np.asarray(rng.normal(size=shape), dtype)) for shape in shapes]
        with nc.use_backend(backend):
            optimizer = kind(params, **options)
            for _ in range(3):
                for p in params:
                    p.grad = np.asarray(rng.normal(size=p.shape), dtype) if rng.random() < 0.8 else None
                optimizer.step()
        results.append(optimizer)
    for p, q in zip(*(o.params for o in results), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_norm_of_gradients(dtype, order):
    params = start(dtype, order)
    for p in params:
        p.grad = p.data.copy(order="K")
    want = np.sqrt(sum(np.sum(p.data.astype(np.longdouble) ** 2) for p in params))
    norms = []
    for backend in ("cython", "reference"):
        with nc.use_backend(backend):
            norms.append(clip_grad_norm_(params, 1e9))
    # sums of 33 thousand float64 products, in either order
    np.testing.assert_allclose(norms, float(want), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_largest_v_that_is_nan_stays(dtype):
    """As NumPy's maximum has it: neither side's NaN is passed over."""
    results = []
    for backend in ("cython", "reference"):
        p = Parameter(np.ones(40, dtype))
        optimizer = Adam([p], amsgrad=True)
        with nc.use_backend(backend):
            for step in range(3):
                p.grad = np.ones(40, dtype)
                optimizer.step()
                if step == 0:
                    optimizer.state[p]["max_exp_avg_sq"][[0, 17]] = np.nan
                    optimizer.state[p]["exp_avg_sq"][[1, 18]] = np.nan
        for name in ("max_exp_avg_sq", "exp_avg"):
            assert np.isnan(optimizer.state[p][name]).any() == (name == "max_exp_avg_sq")
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(p.data)), [0, 1, 17, 18])
        results.append(optimizer)
    assert_same(*results)


@cases
@pytest.mark.parametrize("steps", [0, 2])
def test_a_step_that_does_not_happen_leaves_no_trace(kind, options, steps, monkeypatch):
    """Ctrl-C arrives in Python, where the step asks for its number of threads; the next step is as if it never had."""

    def interrupted(_):
        raise KeyboardInterrupt

    found = []
    for interrupt in (False, True):
        params = start(np.float64)
        optimizer = train(params, kind, options, steps)
        if interrupt:
            before = [p.data.copy() for p in params], repr(optimizer.state_dict())
            for p in params:
                p.grad = np.ones_like(p.data)
            with monkeypatch.context() as patch:
                patch.setattr(_compiled, "threads", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    optimizer.step()
            for p, data in zip(params, before[0], strict=True):
                np.testing.assert_array_equal(p.data, data)
            assert repr(optimizer.state_dict()) == before[1]
        for p in params:
            p.grad = np.asarray(np.cos(p.data))
        optimizer.step()
        found.append([p.data for p in params])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
