"""The programs that watch the compiled code: nothing leaks, and each of them reports a fault that is put in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "reliability").is_dir(), reason="reliability/ is only in a checkout")

ADDRESS = """=================================================================
==6==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60e0 at pc 0x7f bp 0x7f sp 0x7f
READ of size 4 at 0x60e0 thread T0
    #0 0x7f17 in scale_float32 normcore/backends/loops/runs.h:334
    #1 0x7f18 in write_piece normcore/backends/cython_kernels.c:2000
"""
UNDEFINED = """loops/activation.h:20:44: runtime error: nan is outside the range of representable values
    #0 0x7f17 in exp_float normcore/backends/loops/activation.h:20
"""
RACE = """WARNING: ThreadSanitizer: data race (pid=7)
  Write of size 8 at 0x7f by main thread:
    #0 work normcore/workers.c:84 (_workers.so+0x1)
"""
LEAKS = """==6==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 64 byte(s) in 1 object(s) allocated from:
    #0 0x7f58 in __interceptor_malloc asan_malloc_linux.cpp:69
    #1 0x7f57 in _PyObject_New Objects/object.c:176

Direct leak of 4096 byte(s) in 1 object(s) allocated from:
    #0 0x7f58 in __interceptor_realloc asan_malloc_linux.cpp:85
    #1 0x7f57 in __pyx_f_8normcore_5optim_6_fused_5Parts_add normcore/optim/_fused.c:4000

SUMMARY: AddressSanitizer: 4160 byte(s) leaked in 2 allocation(s).
"""
STOPPED = """==6==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 64 byte(s) in 2 object(s) allocated from:
    #0 0x7fa5 in __interceptor_malloc asan_malloc_linux.cpp:69
    #1 0x7fa4 in thread_PyThread_start_new_thread Modules/_threadmodule.c:1184

Direct leak of 4096 byte(s) in 1 object(s) allocated from:
    #0 0x7f58 in __interceptor_realloc asan_malloc_linux.cpp:85
    #1 0x7f57 in __pyx_f_8normcore_5optim_6_fused_5Parts_add normcore/optim/_fused.c:4000

Indirect leak of 26214656 byte(s) in 2 object(s) allocated from:
    #0 0x7fa5 in __interceptor_malloc asan_malloc_linux.cpp:69
    #1 0x7fa3 in pool_new_block normcore/pool.h:51
"""
VALGRIND = """==9== Memcheck, a memory error detector
==9== Command: python -m reliability.surface
==9== 
==9== Conditional jump or move depends on uninitialised value(s)
==9==    at 0x4F: count (bytes.c:1)
==9==  Uninitialised value was created by a heap allocation
==9==    at 0x48: malloc (vg_replace_malloc.c:1)
==9==    by 0x5B: sum_strip (normcore/backends/cython_kernels.c:900)
==9== 
==9== Conditional jump or move depends on uninitialised value(s)
==9==    at 0x4F: strlen (libc.c:1)
==9== 
"""  # noqa: W291 - as valgrind writes it


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def test_no_call_leaves_anything_behind(capsys):
    """The program for a million calls, with twenty thousand."""
    from reliability.leaks import main

    assert main(["--calls", "20000"]) == 0, capsys.readouterr().out
    assert ": 0 leak" in capsys.readouterr().out


def test_every_kind_of_leak_is_told(capsys):
    from reliability.leaks import main, seeded

    assert main(["--calls", "300", "--seeded"]) == 0
    out = capsys.readouterr().out
    assert [line.split(":")[1].strip() for line in out.splitlines() if line.startswith("LEAKS")] == [
        call.name for call in seeded()
    ]
    assert main(["--calls", "5"]) == 2
    assert "--calls must be at least" in capsys.readouterr().err


def test_the_surface_reaches_what_is_compiled():
    """Every kind of storage and walk, on every kind of vectors; two surfaces give the same bits."""
    from reliability.surface import main, surface

    kernels = pytest.importorskip("normcore.backends.cython_kernels", reason="the compiled kernels are not built here")
    before = kernels.vectors()
    try:
        assert main() == 0
    finally:
        kernels.use_vectors(before)
    first, second = ([a.tobytes() for call in surface() for a in call.run()] for _ in range(2))
    assert first == second


def test_callers_at_once_get_the_bits_of_one(monkeypatch):
    from reliability import races

    def few(large):  # noqa: ARG001 - the large one is for the sanitizer
        return [call for call in races_surface() if "float32" in call.name]

    races_surface = races.surface
    monkeypatch.setattr(races, "surface", few)
    expected = races.results(1, 1)
    assert expected
    assert races.wrong(3, 1, expected) == 0
    assert races.wrong(2, 1, [*expected[:-1], b""]) == 2


def test_each_fault_replaces_a_text_that_is_there():
    from reliability._builds import KINDS
    from reliability._faults import FAULTS

    assert set(FAULTS) == set(KINDS)
    for fault in (fault for faults in FAULTS.values() for fault in faults):
        assert (ROOT / fault.file).read_text().count(fault.old) == 1, fault.name
        compile(fault.program, fault.name, "exec")


@pytest.mark.parametrize(
    ("report", "found"),
    [
        (
            ADDRESS,
            "ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60e0 at pc 0x7f bp 0x7f sp 0x7f "
            "(scale_float32 normcore/backends/loops/runs.h:334)",
        ),
        (
            UNDEFINED,
            "runtime error: nan is outside the range of representable values "
            "(exp_float normcore/backends/loops/activation.h:20)",
        ),
        (RACE, "WARNING: ThreadSanitizer: data race (work normcore/workers.c:84 (_workers.so+0x1))"),
        (
            LEAKS,
            "Direct leak of 4096 byte(s) in 1 object(s) allocated from "
            "(__pyx_f_8normcore_5optim_6_fused_5Parts_add normcore/optim/_fused.c:4000)",
        ),
        (
            VALGRIND,
            "Conditional jump or move depends on uninitialised value(s) "
            "(sum_strip (normcore/backends/cython_kernels.c:900))",
        ),
        ("all is well\n", None),
    ],
    ids=["address", "undefined", "race", "leaks", "valgrind", "nothing"],
)
def test_reports_are_read(report, found):
    """Each finding is one line; what CPython leaks or valgrind has against libc is none of ours."""
    from reliability._builds import findings

    assert findings(report) == ([] if found is None else [found])


def test_what_threads_had_in_hand_that_the_end_stopped_is_no_leak():
    """A result that such a thread never returned; scratch memory is ours to free, and so is a result without one."""
    from reliability._builds import findings

    place = "(__pyx_f_8normcore_5optim_6_fused_5Parts_add normcore/optim/_fused.c:4000)"
    direct = f"Direct leak of 4096 byte(s) in 1 object(s) allocated from {place}"
    assert findings(STOPPED) == [direct]
    result = "Indirect leak of 26214656 byte(s) in 2 object(s) allocated from (pool_new_block normcore/pool.h:51)"
    assert findings(STOPPED.replace("thread_PyThread_start_new_thread", "gc_alloc")) == [direct, result]


def test_limits_wait_longer_where_builds_are_slower(monkeypatch):
    from reliability.patience import patience

    monkeypatch.delenv("RELIABILITY_PATIENCE", raising=False)
    assert patience(100) == 100
    monkeypatch.setenv("RELIABILITY_PATIENCE", "2.5")
    assert (patience(100), patience(1)) == (250, 3)


@pytest.mark.skipif(sys.platform.startswith("linux"), reason="where the builds work, they take minutes")
def test_other_systems_are_told():
    from reliability.sanitize import main

    assert main(["address"]) == 2
