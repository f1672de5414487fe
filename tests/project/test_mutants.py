"""The mutation testing of ``reliability/mutants``: which faults it makes, how it puts them in, and what it keeps."""

from __future__ import annotations

import sys
from types import FunctionType

import pytest
from processes import python

pytest.importorskip("resource", reason="the faults run in forks, with a limit of memory: not on Windows")
pytest.importorskip("reliability", reason="the sources are not beside the tests")
from reliability.mutants import compiled, operators, record, session
from reliability.mutants.compiled_faults import FAULTS
from reliability.mutants.targets import GROUPS, ROOT

SOURCE = '''
"""A module."""

import os

LIMIT = 3


def clipped(values, low=0.0, *, strict=False):
    """Values between low and LIMIT."""
    found = []
    for value in values[1:]:
        if value is None or not value > low:
            continue
        found.append(min(value, LIMIT))
    if strict and len(found) < 3:
        raise ValueError("some are missing")
    return found
'''


def faults():
    return {m.key: m for m in operators.mutants(SOURCE)}


def test_every_kind_of_fault_is_made():
    assert sorted(faults()) == sorted(
        [
            "<module>: deleted statement: LIMIT = 3 -> nothing",
            "<module>: constant: 3 -> 4",
            "<module>: constant: 3 -> 2",
            "clipped: constant: 0.0 -> 1.0",
            "clipped: constant: False -> True",
            "clipped: deleted statement: found = [] -> nothing",
            "clipped: slice: 1: -> :",
            "clipped: constant: 1 -> 2",
            "clipped: constant: 1 -> 0",
            "clipped: negated: if value is None or not value > low: -> if not (value is None or not value > low):",
            "clipped: boolean: value is None or not value > low -> value is None and (not value > low)",
            "clipped: condition: value is None or not value > low -> not value > low",
            "clipped: condition: value is None or not value > low -> value is None",
            "clipped: comparison: value is None -> value is not None",
            "clipped: not: not value > low -> value > low",
            "clipped: comparison: value > low -> value >= low",
            "clipped: comparison: value > low -> value <= low",
            "clipped: jump: continue -> break",
            "clipped: deleted statement: found.append(min(value, LIMIT)) -> nothing",
            "clipped: function: min(value, LIMIT) -> max(value, LIMIT)",
            "clipped: negated: if strict and len(found) < 3: -> if not (strict and len(found) < 3):",
            "clipped: boolean: strict and len(found) < 3 -> strict or len(found) < 3",
            "clipped: condition: strict and len(found) < 3 -> len(found) < 3",
            "clipped: condition: strict and len(found) < 3 -> strict",
            "clipped: comparison: len(found) < 3 -> len(found) <= 3",
            "clipped: comparison: len(found) < 3 -> len(found) >= 3",
            "clipped: constant: 3 -> 4",
            "clipped: constant: 3 -> 2",
            "clipped: deleted statement: raise ValueError('some are missing') -> nothing",
            "clipped: exception: raise ValueError('some are missing') -> raise TypeError('some are missing')",
            "clipped: deleted statement: return found -> nothing",
            "clipped: return: return found -> return None",
        ]
    )


def test_a_fault_is_put_into_functions_that_exist_already():
    namespace: dict[str, object] = {}
    exec(compile(SOURCE, "here.py", "exec"), namespace)
    clipped = namespace["clipped"]
    assert isinstance(clipped, FunctionType)
    assert clipped([9, 5, None, -1, 2]) == [3, 2]
    original = clipped.__code__
    for key, want in (
        ("clipped: function: min(value, LIMIT) -> max(value, LIMIT)", [5, 3]),
        ("clipped: jump: continue -> break", [3]),
        ("clipped: slice: 1: -> :", [3, 3, 2]),
        ("clipped: return: return found -> return None", None),
    ):
        fault = faults()[key]
        assert not fault.on_import
        assert session.replace([clipped], fault.compile("here.py"))
        assert clipped([9, 5, None, -1, 2]) == want
        clipped.__code__ = original
    assert faults()["clipped: constant: 0.0 -> 1.0"].on_import  # a default
    assert faults()["<module>: constant: 3 -> 4"].on_import


def test_the_tree_is_as_before_after_every_fault():
    every = operators.mutants(SOURCE)
    plain = compile(SOURCE, "here.py", "exec").co_consts
    for fault in every:
        fault.compile("here.py")
    last = next(m for m in every if m.key.startswith("<module>: deleted"))
    functions = [c.co_code for c in last.compile("here.py").co_consts if hasattr(c, "co_code")]
    assert functions == [c.co_code for c in plain if hasattr(c, "co_code")]


def test_tests_are_chosen_by_the_lines_they_run_the_shortest_first():
    ran = {
        "slow": session.Ran(2.0, {"m.py": frozenset({3, 4})}),
        "quick": session.Ran(0.5, {"m.py": frozenset({4})}),
        "other": session.Ran(0.1, {"m.py": frozenset({9}), "n.py": frozenset({4})}),
    }
    assert session.chosen(ran, "m.py", [[4]], 60) == ["quick", "slow"]
    assert session.chosen(ran, "m.py", [[4]], 1) == ["quick"]
    assert session.chosen(ran, "m.py", [[7], range(8, 10)], 60) == ["other"]
    assert session.chosen(ran, "m.py", [[7]], 60) == []
    assert session.chosen(ran, "m.py", [], 60) == ["other", "quick", "slow"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_what_becomes_of_a_process():
    code = """
import os, time
from reliability.mutants import session
ends = {}
works = [("fails", lambda: "a test", 60), ("passes", lambda: "", 60), ("hangs", lambda: time.sleep(99), 0.2),
         ("dies", lambda: os.kill(os.getpid(), 9), 60), ("raises", lambda: 1 / 0, 60)]
session.in_turn(works, 2, lambda name, died: ends.update({name: died.said}))
print(sorted(ends.items()))
"""
    assert python(code, PYTHONPATH=str(ROOT)) == str(
        [
            ("dies", "signal 9"),
            ("fails", "a test"),
            ("hangs", "timeout"),
            ("passes", ""),
            ("raises", "ZeroDivisionError outside a test"),
        ]
    )


def test_results_are_kept_and_counted(tmp_path):
    path = tmp_path / "results"
    first = record.Result("a.py", "f: constant: 1 -> 2", 3, 77, "survived", "", 0.5)
    for result in (
        first,
        first._replace(key="g"),
        first._replace(outcome="killed", by="test"),
        first._replace(module="b"),
    ):
        record.write(path, result)
    kept = record.read(path)
    assert [(r.module, r.key, r.outcome) for r in kept] == [
        ("a.py", "f: constant: 1 -> 2", "killed"), ("a.py", "g", "survived"), ("b", "f: constant: 1 -> 2", "survived"),
    ]  # fmt: skip
    assert list(record.table(kept))[2:] == [
        "| a.py | 2 | 1 | 0 | 1 |",
        "| b | 1 | 0 | 0 | 1 |",
        "| all | 3 | 1 | 0 | 2 |",
    ]


def test_results_are_judged_by_what_is_known_today():
    outcomes = {"caught": "killed", "explained": "survived", "taken back": "equivalent", "gone": "survived"}
    results = [record.Result("a.py", key, 3, 77, outcome, "", 0.5) for key, outcome in outcomes.items()]
    exist = {("a.py", key) for key in ("caught", "explained", "taken back")}
    today = record.judged(results, exist, {("a.py", "caught"), ("a.py", "explained"), ("b.py", "taken back")})
    assert {r.key: r.outcome for r in today} == {
        "caught": "killed", "explained": "equivalent", "taken back": "survived",
    }  # fmt: skip


def test_a_fault_is_not_tried_again_in_the_same_text():
    keys = ["killed", "equivalent", "survived"]
    known = [record.Result("a.py", key, 3, 77, key, "", 0.5) for key in keys]
    faults = [("a.py", key, 77) for key in (*keys, "new")] + [("a.py", "killed", 78), ("b.py", "survived", 77)]
    wanted = record.to_try(known, left=False)
    assert [fault for fault in faults if not wanted(*fault)] == [("a.py", "killed", 77)]
    wanted = record.to_try(known, left=True)
    assert [fault for fault in faults if wanted(*fault)] == [("a.py", "survived", 77)]
    assert wanted("a.py", "survived", 78)


def test_the_faults_that_change_nothing_are_read():
    text = "a word\n# a.py\nf: x -> y\nf: x -> z\n    one reason\n    for both\ng: u -> v\n    another\n"
    text += "\n# b.py\nh: 1 -> 2\n    it\n"
    assert record.equivalents(text) == {
        ("a.py", "f: x -> y"): "one reason for both",
        ("a.py", "f: x -> z"): "one reason for both",
        ("a.py", "g: u -> v"): "another",
        ("b.py", "h: 1 -> 2"): "it",
    }


def test_every_fault_that_changes_nothing_exists_and_has_a_reason():
    # Elsewhere ast.unparse puts quotes and parentheses in other places: function and operator must exist there.
    named = str if sys.version_info[:2] == (3, 11) else (lambda key: key.split(": ")[:2])
    known = record.equivalents(record.EQUIVALENT.read_text())
    for module in sorted({module for module, _ in known}):
        assert any(ROOT / module in group.paths for group in GROUPS.values()), module
        keys = [named(fault.key) for fault in operators.mutants((ROOT / module).read_text())]
        for (where, key), reason in known.items():
            assert where != module or named(key) in keys, f"{module} has no such fault any more: {key}"
            assert reason, key


def test_every_fault_of_the_compiled_sources_has_its_place():
    texts = compiled.all_seeded()  # which stops where one does not stand there once
    assert {fault.file for fault in FAULTS} == set(texts)
    for number, fault in enumerate(FAULTS, 1):
        assert texts[fault.file].count(f"normcore_fault({number})") == fault.after.count("FAULT") > 0
