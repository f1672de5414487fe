"""What the dispatcher hands to the kernels, keeps for backward, and says: number for number and word for word."""

from __future__ import annotations

import re

import numpy as np
import pytest

import normcore as nc
from normcore import _dispatch, _threads, backends
from normcore._planners import PLANNERS
from normcore.functional._own_threads import own_threads

X = np.arange(12, dtype=np.float32).reshape(4, 3)
CACHES = (
    _dispatch.process_backend, _dispatch._declines, _dispatch._first, _dispatch._warn_if_not_compiled,
    _dispatch._kernels,
)  # fmt: skip


@pytest.fixture
def fresh():
    """Nothing has been asked yet, and nothing of this is remembered."""
    for cached in CACHES:
        cached.cache_clear()
    yield
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def without_cython(fresh, monkeypatch):  # noqa: ARG001 - fresh for what it does
    """The compiled kernels cannot be loaded."""
    load = backends.load

    def missing(name):
        if name == "cython":
            raise ImportError("no kernels today")
        return load(name)

    monkeypatch.setattr(backends, "load", missing)


@pytest.fixture
def handed(monkeypatch):
    """(backend, loop, arguments) of each call of a kernel; the reference does the work."""
    seen = []

    class Recorder:
        def __init__(self, backend, dtype):
            self.backend, self.kernels = backend, backends.load("reference").kernels(dtype)

        def __getattr__(self, loop):
            def call(*arguments):
                copied = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
                seen.append((self.backend, loop, copied))
                getattr(self.kernels, loop)(*arguments)

            return call

    monkeypatch.setattr(_dispatch, "_kernels", Recorder)
    return seen


def forward(name, *arguments, **options):
    return _dispatch.forward(*PLANNERS[name](*arguments, **options))


# --- what the kernels are handed --------------------------------------------------------------------------------------


def test_a_channels_walk_is_handed_over(handed):
    x, weight, bias = np.arange(24.0).reshape(2, 3, 4), np.array([1.0, 2.0, 4.0]), np.array([8.0, 16.0, 32.0])
    _, ctx = forward("batch_norm_forward", x, weight, bias, eps=0.5, activation="leaky_relu")
    forward("batch_norm", x, np.full(3, 7.0), np.full(3, 9.0), weight, eps=0.25)
    (first, loop, (x_, w, b, _, _, _, y, *rest)), (_, again, (_, _, b2, mean, var, _, _, *others)) = handed
    assert (first, loop, again, rest) == ("cython", "channels_forward", "channels_forward", [0.5, True, 2, 1])
    np.testing.assert_array_equal(x_, x)
    assert (w.tolist(), b.tolist(), y.shape, b2.tolist()) == ([1, 2, 4], [8, 16, 32], (2, 3, 4), [0, 0, 0])
    assert (mean.tolist(), var.tolist(), others) == ([7, 7, 7], [9, 9, 9], [0.25, False, 0, 1])
    handed.clear()
    dy = np.cos(x)
    _dispatch.backward(*PLANNERS["batch_norm_backward"](dy, ctx), ctx)
    ((_, loop, (dy_, x_, w, b, mean, rstd, dx, dweight, dbias, *rest)),) = handed
    assert (loop, rest, dx.shape) == ("channels_backward", [True, 2, 1], (2, 3, 4))
    np.testing.assert_array_equal((dy_, x_), (dy, x))
    assert (w.tolist(), b.tolist(), dweight.tolist(), dbias.tolist()) == ([1, 2, 4], [8, 16, 32], [0] * 3, [0] * 3)
    np.testing.assert_allclose(mean, x.mean((0, 2)), rtol=1e-14)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(x.var((0, 2)) + 0.5), rtol=1e-14)


def test_a_rows_walk_is_handed_over(handed):
    x, weight, bias = np.arange(24.0).reshape(2, 3, 4), np.arange(1.0, 5.0), np.arange(5.0, 9.0)
    _, ctx = forward("layer_norm_forward", x, 4, weight, bias, eps=0.5, activation="relu")
    _, of_rms = forward("rms_norm_forward", x, 4, eps=0.25)
    (_, loop, (x_, w, b, _, _, _, y, *rest)), (_, _, (_, w2, b2, mean, _, _, _, *others)) = handed
    assert (loop, rest, others) == ("rows_forward", [0.5, True, 1, 1], [0.25, False, 0, 1])
    assert x_.shape == y.shape == (6, 4, 1)
    assert (w.tolist(), b.tolist(), w2.tolist(), b2.tolist()) == ([1, 2, 3, 4], [5, 6, 7, 8], [1] * 4, [0] * 4)
    assert mean.tolist() == [0] * 6  # without a mean it stays what it was
    handed.clear()
    for name, kept in (("layer_norm_backward", ctx), ("rms_norm_backward", of_rms)):
        _dispatch.backward(*PLANNERS[name](x, kept), kept)
    (_, loop, (*_, dweight, dbias, centred, code, threads)), (_, again, (_, _, w2, b2, *others)) = handed
    assert (loop, centred, code, threads, again, others[-3:]) == ("rows_backward", True, 1, 1, loop, [False, 0, 1])
    assert (dweight.tolist(), dbias.tolist(), w2.tolist(), b2.tolist()) == ([0] * 4, [0] * 4, [1] * 4, [0] * 4)


def test_threads_are_for_arrays_that_are_worth_it(handed, monkeypatch):
    """By their bytes; whoever uses them is noted before, for a fork to know. The reference has one."""
    used = []
    monkeypatch.setattr(_threads, "about_to_use", lambda n: used.append(n) or n)
    x = np.arange(24.0).reshape(2, 3, 4)
    for limit, n in ((192, 3), (193, 1)):  # 24 values of 8 bytes
        monkeypatch.setattr(_threads, "PARALLEL_BYTES", limit)
        with nc.threads(3):
            for name, told in (("batch_norm_forward", ()), ("layer_norm_forward", (4,))):
                _, ctx = forward(name, x, *told)
                _dispatch.backward(*PLANNERS[name.replace("forward", "backward")](x, ctx), ctx)
            _dispatch.stats(*PLANNERS["batch_stats"](x))
            assert nc.explain("batch_stats", x).num_threads == n
            with nc.use_backend("reference"):
                assert nc.explain("batch_stats", x).num_threads == 1
        loops = ["channels_forward", "channels_backward", "rows_forward", "rows_backward", "channels_stats"]
        assert [(loop, arguments[-1]) for _, loop, arguments in handed] == [(loop, n) for loop in loops]
        assert used == [n] * 5
        handed.clear()
        used.clear()


def test_statistics_are_taken_over_what_there_is(handed):
    mean, var = _dispatch.stats(*PLANNERS["batch_stats"](np.array([[1.0, 2.0], [3.0, 8.0]])))
    assert (mean.tolist(), var.tolist()) == ([2.0, 5.0], [1.0, 9.0])
    ((_, loop, (x, *_)),) = handed
    assert (loop, x.shape) == ("channels_stats", (2, 2, 1))
    handed.clear()
    mean, var = _dispatch.stats(*PLANNERS["batch_stats"](np.empty((5, 0))))
    assert (mean.shape, var.shape, handed) == ((0,), (0,), [])


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_without_values_the_given_statistics_are_kept_and_no_kernel_runs(handed):
    mean, var = np.array([1.0, 2.0, 3.0], np.float32), np.array([3.0, 0.0, -2.0], np.float32)
    with np.errstate(all="raise"):
        y, ctx = forward(
            "batch_norm_forward", np.empty((0, 3)), running_mean=mean, running_var=var, training=False, eps=1.0
        )
    assert (y.shape, ctx.mean.tolist(), ctx.mean.dtype) == ((0, 3), [1.0, 2.0, 3.0], np.float64)
    np.testing.assert_array_equal(ctx.rstd, [0.5, 1.0, np.nan])
    dx, dweight, dbias = _dispatch.backward(*PLANNERS["batch_norm_backward"](np.empty((0, 3)), ctx), ctx)
    assert (dx.shape, dweight, dbias, handed) == ((0, 3), None, None, [])
    y, ctx = forward("layer_norm_forward", np.empty((0, 3)), 3, np.ones(3), np.ones(3))
    dx, dweight, dbias = _dispatch.backward(*PLANNERS["layer_norm_backward"](np.empty((0, 3)), ctx), ctx)
    assert (dx.shape, dweight.tolist(), dbias.tolist(), handed) == ((0, 3), [0.0] * 3, [0.0] * 3, [])


def test_a_context_keeps_what_backward_needs():
    x, weight, bias = np.arange(12.0).reshape(4, 3), np.ones(3, np.float32), np.ones(3, np.float16)
    _, ctx = forward("batch_norm_forward", x, weight, bias)
    assert (ctx.x is x, ctx.weight is weight, ctx.bias, ctx.bias_dtype) == (True, True, None, np.float16)
    assert (ctx.overwritten, ctx.mean.tolist()) == (False, [4.5, 5.5, 6.5])
    _, dweight, dbias = _dispatch.backward(*PLANNERS["batch_norm_backward"](x, ctx), ctx)
    assert (dweight.dtype, dbias.dtype, dbias.tolist()) == (np.float32, np.float16, [18.0, 22.0, 26.0])
    _, ctx = forward("batch_norm_forward", x, weight, bias, activation="relu")
    assert ctx.bias is bias
    _, ctx = forward("batch_norm_forward", x)
    assert (ctx.weight, ctx.bias, ctx.bias_dtype) == (None, None, None)
    _, ctx = forward("batch_norm_forward", x, out=np.empty_like(x))
    assert not ctx.overwritten
    _, ctx = forward("batch_norm_forward", x, out=x[:])
    assert ctx.overwritten is True
    with pytest.raises(ValueError, match=r"^ctx has lost its x: batch_norm_forward wrote its result over it \(out=x\)"):
        PLANNERS["batch_norm_backward"](x, ctx)
    nothing = np.empty((0, 3))
    _, ctx = forward("layer_norm_forward", nothing, 3, out=nothing)
    assert ctx.overwritten is False  # there was nothing to lose


def test_statistics_are_kept_in_the_order_of_x_not_of_memory(rng):
    x = rng.standard_normal((3, 2, 4)).transpose(1, 0, 2)
    dy = rng.standard_normal(x.shape)
    _, ctx = forward("layer_norm_forward", x, 4, eps=0.5)
    assert not ctx.plan.in_c_order
    np.testing.assert_allclose(ctx.mean, x.mean(-1).ravel(), rtol=1e-14)
    np.testing.assert_allclose(ctx.rstd, 1 / np.sqrt(x.var(-1).ravel() + 0.5), rtol=1e-14)
    dx = _dispatch.backward(*PLANNERS["layer_norm_backward"](dy, ctx), ctx)[0]
    _, ordered = forward("layer_norm_forward", x.copy(), 4, eps=0.5)
    want = _dispatch.backward(*PLANNERS["layer_norm_backward"](dy, ordered), ordered)[0]
    np.testing.assert_allclose(dx, want, rtol=1e-13, atol=1e-15)
    mean, var = np.zeros(3), np.ones(3)
    x = rng.standard_normal((2, 3, 4, 5)).transpose(0, 1, 3, 2)
    forward("instance_norm", x, mean, var, momentum=1.0)
    np.testing.assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, x.var((2, 3), ddof=1).mean(0), rtol=1e-12)


# --- which kernel runs ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh")
def test_the_environment_is_read_at_the_first_call(monkeypatch):
    monkeypatch.setenv("NORMCORE_BACKEND", "reference")
    assert _dispatch.asked_for() == "reference"
    monkeypatch.setenv("NORMCORE_BACKEND", "cython")
    assert _dispatch.asked_for() == "reference"
    with nc.use_backend("cython"):
        assert _dispatch.asked_for() == "cython"
    _dispatch.process_backend.cache_clear()
    monkeypatch.setenv("NORMCORE_BACKEND", "")
    assert _dispatch.asked_for() is None
    _dispatch.process_backend.cache_clear()
    monkeypatch.delenv("NORMCORE_BACKEND")
    assert _dispatch.asked_for() is None
    for name in ("gpu", "Cython"):
        _dispatch.process_backend.cache_clear()
        monkeypatch.setenv("NORMCORE_BACKEND", name)
        with pytest.raises(
            ValueError, match=f"^NORMCORE_BACKEND must be one of cython, numba, reference, got '{name}'$"
        ):
            _dispatch.asked_for()


@pytest.mark.usefixtures("without_cython")
def test_where_nothing_is_compiled_it_is_said_once():

    def thrice():
        for _ in range(3):
            forward("batch_norm", X, training=True)

    with pytest.warns(RuntimeWarning, match=r"^normcore runs on its slow reference backend: no kernels today$") as told:
        thrice()
    assert len(told) == 1
    explanation = nc.explain("layer_norm", X, 3)
    assert explanation.kernel == "reference: rows"
    assert explanation.declined == {
        "cython: rows": "no kernels today", "numba: rows": "runs only when asked for by name",
    }  # fmt: skip
    with pytest.raises(ImportError, match=r"^no kernels today$"):
        nc.use_backend("cython")


@pytest.mark.usefixtures("fresh")
def test_whose_threads_a_norm_runs_on(monkeypatch):
    monkeypatch.delenv("NORMCORE_BACKEND", raising=False)
    assert own_threads() is True
    with nc.use_backend("cython"):
        assert own_threads() is True
    with nc.use_backend("reference"):
        assert own_threads() is False


@pytest.mark.usefixtures("without_cython")
def test_who_asks_for_the_reference_is_not_warned():
    with nc.use_backend("reference"):
        forward("batch_norm", X, training=True)


@pytest.mark.usefixtures("fresh")
def test_a_backend_that_declines_is_named_with_all_its_reasons(monkeypatch):
    """Whoever declines, the next that runs by itself is taken; a backend asked for by name is not replaced."""
    monkeypatch.setattr(backends.load("cython"), "declines", lambda walk, dtype, code: f"not {walk}, {dtype}, {code}")
    plan = PLANNERS["batch_norm_forward"](X, activation="relu")[0]
    assert _dispatch.choose(plan) == _dispatch.Entry("reference", "channels", True)
    declined = _dispatch.explanation(plan).declined
    assert declined["cython: channels"] == "not channels, float32, 1"
    sentence = (
        "^the cython backend, asked for by name, cannot run batch_norm on x of float32: not channels, float32, 1; "
        "choose another with use_backend or leave the choice to normcore$"
    )
    with nc.use_backend("cython"), pytest.raises(TypeError, match=sentence):
        _dispatch.choose(plan)


def test_what_is_asked_is_remembered():
    plan = PLANNERS["batch_norm"](X, training=True)[0]
    _dispatch.choose(plan)
    for cached in (_dispatch._declines, _dispatch._first):
        assert cached.cache_info().maxsize == 256
    assert _dispatch._kernels("reference", X.dtype) is _dispatch._kernels("reference", X.dtype)
    before = _dispatch._first.cache_info()
    _dispatch.choose(plan)
    assert _dispatch._first.cache_info().hits == before.hits + 1


# --- what an explanation says -----------------------------------------------------------------------------------------


def test_an_explanation_word_for_word():
    with nc.use_backend("reference"):
        assert str(nc.explain("batch_norm", X, training=True)) == (
            "batch_norm, forward, x (4, 3) float32: runs on reference: channels\n"
            "  walk     outer 4 x channels 3 x inner 1\n"
            "  threads  1\n"
            "  declined cython: channels: the reference backend was asked for by name\n"
            "  declined numba: channels: the reference backend was asked for by name"
        )
    with nc.use_backend("cython"):
        explanation = nc.explain("layer_norm", np.ones((2, 6, 8), np.float16)[..., ::2], (6, 4))
    assert str(explanation) == (
        "layer_norm, forward, x (2, 6, 4) float16: runs on cython: rows\n"
        "  walk     rows 2 x segments 24 x length 1\n"
        "  layout   x is contiguous in no order that suits this walk: walked as a contiguous copy\n"
        "  threads  1"
    )
    assert explanation.declined == {}


def test_the_functions_are_known_by_themselves_and_by_name():
    x, ctx = np.ones((2, 3, 4)), None
    for name in PLANNERS:
        if name.endswith("backward"):
            plan = nc.explain(name, x, ctx).plan
            assert (plan, plan.direction) == (nc.explain(getattr(nc, name), x, ctx).plan, "backward")
            continue
        told = (4,) if "layer" in name or "rms" in name else (3,) if "group" in name else ()
        options = {"training": True} if name == "batch_norm" else {}
        plan = nc.explain(name, x, *told, **options).plan
        assert plan == nc.explain(getattr(nc, name), x, *told, **options).plan
        assert plan.op == name.removesuffix("_forward")
        if name.endswith("forward"):
            _, ctx = getattr(nc, name)(x, *told)
    for wrong, shown in ((len, "<built-in function len>"), (None, "None"), (3, "3"), ("nothing", "'nothing'")):
        sentence = f"function must be one of {', '.join(PLANNERS)}, or its name, got {shown}"
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            nc.explain(wrong, x)
