"""Which kernel runs: use_backend, NORMCORE_BACKEND, explain, and what happens where a backend is missing."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import sys
import threading

import numpy as np
import pytest
from processes import python

import normcore as nc
from normcore import _dispatch, backends

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def kernel(x=X, **options):
    return nc.explain(nc.batch_norm, x, training=True, **options).kernel


# --- use_backend ------------------------------------------------------------------------------------------------------


def test_the_default_is_cython():
    assert kernel() == "cython: channels"


def test_the_named_backend_runs(backend):
    assert kernel() == f"{backend}: channels"


def test_blocks_nest_and_end():
    with nc.use_backend("reference"):
        with nc.use_backend("cython"):
            assert kernel() == "cython: channels"
        assert kernel() == "reference: channels"
    assert kernel() == "cython: channels"
    with pytest.raises(ZeroDivisionError), nc.use_backend("reference"):
        raise ZeroDivisionError
    assert kernel() == "cython: channels"


def test_a_block_object_may_be_used_again_and_nested():
    reference = nc.use_backend("reference")
    for _ in range(2):
        with reference, reference:
            assert kernel() == "reference: channels"
        assert kernel() == "cython: channels"


def test_the_choice_stays_in_its_thread():
    seen = []
    with nc.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(kernel()))
        thread.start()
        thread.join()
    # Free-threaded Python 3.14 hands the context of `start` to the new thread.
    assert seen == [
        "reference: channels" if getattr(sys.flags, "thread_inherit_context", False) else "cython: channels"
    ]


def test_one_block_object_serves_several_threads_at_once():
    reference = nc.use_backend("reference")
    both_inside, seen = threading.Barrier(2), []

    def work():
        with reference:
            both_inside.wait(10)
            seen.append(kernel())
        seen.append(kernel())

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(seen) == ["cython: channels"] * 2 + ["reference: channels"] * 2


def test_the_choice_stays_in_its_task():
    async def task(name):
        with nc.use_backend(name):
            await asyncio.sleep(0)
            return kernel()

    async def both():
        return await asyncio.gather(task("reference"), task("cython"))

    assert asyncio.run(both()) == ["reference: channels", "cython: channels"]


def test_an_unknown_backend_is_an_error_when_it_is_asked_for():
    with pytest.raises(ValueError, match=r"use_backend\(name\) must be one of cython, numba, reference, got 'cuda'"):
        nc.use_backend("cuda")
    with pytest.raises(ValueError, match=r"must be one of cython, numba, reference, got None"):
        nc.use_backend(None)
    for name in (np.array("cython"), np.array(["cython", "numba"])):  # equal to a name, and none
        with pytest.raises(
            ValueError, match=r"^use_backend\(name\) must be one of cython, numba, reference, got .*array"
        ):
            nc.use_backend(name)


def test_a_missing_backend_is_an_error_when_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in [name for name in sys.modules if name.startswith("normcore.backends.numba")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ImportError, match=r'needs Numba, which is not installed; run pip install "normcore-cpu\[numba\]"'
    ):
        nc.use_backend("numba")


def test_a_backend_asked_for_by_name_declines_with_its_reason():
    half = X.astype(np.float16)
    pytest.importorskip("numba", reason="Numba, the backend that declines, is not installed")
    sentence = "the numba backend, asked for by name, cannot run batch_norm on x of float16: cannot load float16"
    with nc.use_backend("numba"), pytest.raises(TypeError, match=sentence):
        nc.batch_norm(half, training=True)
    assert nc.batch_norm(half, training=True).dtype == np.float16  # left to itself, normcore finds a way


# --- NORMCORE_BACKEND -------------------------------------------------------------------------------------------------

SHOW = "import numpy, normcore as nc; print(nc.explain(nc.batch_stats, numpy.ones((2, 2))).kernel)"


@pytest.mark.parametrize("name, expected", [("reference", "reference"), ("cython", "cython"), ("", "cython")])
def test_the_environment_chooses_for_a_process(name, expected):
    assert python(SHOW, NORMCORE_BACKEND=name) == f"{expected}: channels"


def test_a_block_goes_before_the_environment():
    code = "import normcore as nc\nwith nc.use_backend('cython'):\n    " + SHOW
    assert python(code, NORMCORE_BACKEND="reference") == "cython: channels"


def test_a_wrong_name_in_the_environment_is_an_error():
    assert python(SHOW, NORMCORE_BACKEND="gpu") == (
        "ValueError: NORMCORE_BACKEND must be one of cython, numba, reference, got 'gpu'"
    )


# --- where nothing is compiled ----------------------------------------------------------------------------------------

BROKEN = "import sys; sys.modules['normcore.backends.cython_kernels'] = None\n"


def test_a_backend_that_cannot_be_imported_says_why(monkeypatch):
    """Only what is missing is told to be missing: any other error of an import is told as it is."""

    def broken(missing):
        def import_module(name):
            raise ImportError(f"no {missing} for {name}", name=missing)

        monkeypatch.setattr(importlib, "import_module", import_module)

    needs = r'^the numba backend needs Numba, which is not installed; run pip install "normcore-cpu\[numba\]"$'
    broken("numba")
    with pytest.raises(ImportError, match=needs):
        backends.load("numba")
    with pytest.raises(ImportError, match=r"^no numba for normcore\.backends\.reference$"):
        backends.load("reference")
    broken("llvmlite")
    with pytest.raises(ImportError, match=r"^no llvmlite for normcore\.backends\.numba_kernels$"):
        backends.load("numba")
    with pytest.raises(
        ImportError, match=r"^the cython backend is not built here \(no llvmlite for .*cython_kernels\); "
    ):
        backends.load("cython")


@pytest.mark.parametrize("in_tree", [True, False])
def test_the_remedy_for_missing_kernels(monkeypatch, in_tree):
    asked = []
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(path) or in_tree)
    remedy = backends._remedy()
    monkeypatch.undo()
    assert asked == [os.path.join(os.path.dirname(backends.__file__), "cython_kernels.pyx")]
    assert remedy == (
        "Python has found the source tree before any installed copy: run elsewhere, or install the tree itself "
        "with pip install -e ."
        if in_tree
        else "install normcore-cpu with a C compiler at hand"
    )


def test_whether_the_optional_backend_is_there(monkeypatch):
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", asked.append)
    missing = 'the numba backend needs Numba, which is not installed; run pip install "normcore-cpu[numba]"'
    assert backends.numba_status() == missing
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2.3 of {name}")
    assert backends.numba_status() == "available (Numba 1.2.3 of numba), runs only when asked for by name"
    assert asked == ["numba"]


def test_without_compiled_kernels_the_reference_runs_and_says_so_once():
    code = f"""{BROKEN}
import warnings, numpy as np, normcore as nc
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        y = nc.batch_norm(np.array([[1.0], [3.0]]), training=True, eps=1e-12)
print(y.ravel().round(6).tolist(), len(caught), caught[0].category.__name__, caught[0].message)
"""
    shown = python(code)
    assert shown.startswith(
        "[-1.0, 1.0] 1 RuntimeWarning normcore runs on its slow reference backend: the cython backend"
    )
    remedies = ("install normcore-cpu with a C compiler at hand", "the source tree before any installed copy")
    assert any(remedy in shown for remedy in remedies)


def test_without_compiled_kernels_asking_for_them_is_an_error():
    shown = python(f"{BROKEN}import normcore as nc; nc.use_backend('cython')")
    assert shown.startswith("ImportError: the cython backend is not built here")
    assert "the cython backend is not built here" in python(f"{BROKEN}import normcore as nc; print(nc.show_config())")


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_says_what_runs_and_why():
    explanation = nc.explain(nc.batch_norm, X, training=True)
    assert (explanation.kernel, explanation.declined) == ("cython: channels", {})
    text = str(explanation)
    assert text.splitlines()[0] == "batch_norm, forward, x (4, 3) float32: runs on cython: channels"
    assert "outer 4 x channels 3 x inner 1" in text
    with nc.use_backend("reference"):
        explanation = nc.explain(nc.batch_norm, X, training=True)
    assert explanation.kernel == "reference: channels"
    assert list(explanation.declined) == ["cython: channels", "numba: channels"]


def test_explain_knows_of_layout_threads_and_choice():
    big = np.ones((64, 64, 32, 32), np.float32)
    with nc.threads(2):
        assert nc.explain("batch_norm", big, training=True).num_threads == 2
        assert nc.explain("batch_norm", X, training=True).num_threads == 1
    assert "walked as a contiguous copy" in str(nc.explain("batch_norm", big[:, ::2], training=True))
    with nc.use_backend("reference"):
        assert set(nc.explain("batch_stats", X).declined.values()) == {"the reference backend was asked for by name"}


def test_explain_knows_both_walks():
    with nc.use_backend("reference"):
        text = str(nc.explain(nc.group_norm, np.ones((2, 6, 3, 5)), 3))
    assert text.splitlines()[0] == "group_norm, forward, x (2, 6, 3, 5) float64: runs on reference: rows"
    assert "rows 6 x segments 2 x length 15" in text
    ops = {
        "layer_norm": (6, 3), "rms_norm_forward": (6, 3), "instance_norm": (), "group_norm_forward": (2,),
    }  # fmt: skip
    for name, told in ops.items():
        plan = nc.explain(name, np.ones((2, 6, 3)), *([told] if "layer" in name or "rms" in name else told)).plan
        assert (plan.walk, plan.op) == ("rows", name.removesuffix("_forward"))
    running = np.zeros(6), np.ones(6)
    plan = nc.explain(nc.instance_norm, np.ones((2, 6, 3)), *running, use_input_stats=False).plan
    assert (plan.walk, plan.training, plan.sizes) == ("channels", False, (2, 6, 3))


def test_no_half_type_and_no_activation_is_beyond_the_reference():
    reference = backends.load("reference")
    for walk in ("channels", "rows"):
        for code in range(8):
            assert reference.declines(walk, np.dtype(np.float16), code) is None


def test_explain_of_a_backward_computes_nothing():
    _, ctx = nc.batch_norm_forward(X)
    explanation = nc.explain(nc.batch_norm_backward, X, ctx)
    assert (explanation.plan.direction, explanation.kernel) == ("backward", "cython: channels")
    running_mean, running_var = np.zeros(3), np.ones(3)
    nc.explain("batch_norm", X, running_mean, running_var, training=True)
    assert running_mean.tolist() == [0, 0, 0]


def test_explain_refuses_what_the_call_would_refuse():
    with pytest.raises(ValueError, match=r"function must be one of batch_norm, batch_norm_forward, .* got 'softmax'"):
        nc.explain("softmax", X)
    with pytest.raises(ValueError, match=r"x must have 2 to 5 dimensions"):
        nc.explain(nc.batch_norm, X[0])
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        nc.explain(nc.batch_norm, X, colour="red")


def test_the_planner_has_the_signature_of_its_function():
    """explain() calls the planner with what the user would have given the function."""
    import inspect

    from normcore import _planners, functional

    for name, planner in _planners.PLANNERS.items():
        function = inspect.signature(getattr(functional, name))
        assert [(p.name, p.kind, p.default) for p in function.parameters.values()] == [
            (p.name, p.kind, p.default) for p in inspect.signature(planner).parameters.values()
        ]


def test_every_backend_answers_to_the_table():
    assert {entry.backend for entry in _dispatch.KERNELS} == set(backends.BACKENDS)
    assert _dispatch.KERNELS[-1].backend == "reference"
    assert backends.load("reference").declines("channels", np.dtype(np.float16), 0) is None


# --- show_config ------------------------------------------------------------------------------------------------------


def test_show_config():
    config = nc.show_config()
    assert config["normcore"] == nc.__version__
    assert config["numpy"] == np.__version__
    assert config["cython backend"] == "available"
    assert config["openmp"].split(":")[0] in ("yes", "no")
    assert config["bounds checks"].split()[0] in ("on", "off")
    assert config["asked for"].startswith("none")
    with nc.use_backend("reference"):
        assert nc.show_config()["asked for"] == "reference"
    lines = str(config).splitlines()
    assert len(lines) == len(config)
    assert lines[0].split() == ["normcore", nc.__version__]


def test_show_config_does_not_import_numba():
    code = "import sys, normcore as nc; print(nc.show_config()['numba backend'][:9], 'numba' in sys.modules)"
    assert python(code) in ("available False", "the numba False")
