"""``python -m benches.accuracy``: every call keeps the contract, and the program would say so if one did not."""

from __future__ import annotations

import importlib.util
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from norms import BFLOAT16, Norm

pytestmark = [
    pytest.mark.skipif(
        not (Path(__file__).resolve().parents[1] / "benches").is_dir(), reason="benches/ is only in a checkout"
    ),
    pytest.mark.skipif(BFLOAT16 is None, reason="ml_dtypes, whose bfloat16 is one of the dtypes, is not installed"),
]
NORMS = (
    Norm("batch", (5, 4, 3, 7)),
    Norm("batch", (70, 4)),
    Norm("layer", (6, 50), (50,)),
    Norm("rms", (6, 50), (50,)),
    Norm("group", (4, 6, 3, 7), (3,)),
    Norm("instance", (2, 3, 5, 7)),
)


def problem(norm, dtype="float64"):
    from benches.cases import Case
    from benches.cases import problem as drawn

    return drawn(Case(f"{norm.name}_norm", "forward", norm.shape, dtype, norm.told[0] if norm.name == "group" else 0))


def exact(p):
    """Outputs without an error but that of rounding to the dtype, and the truth they are from."""
    from benches.accuracy.contenders import Outputs
    from benches.accuracy.truth import Truth

    truth = Truth(p)
    y, dx = (np.empty(truth.seen.shape, np.longdouble) for _ in range(2))
    for block in truth.blocks():
        y[block.at], dx[block.at] = block.y, block.dx
    stored = [v.astype(p.x.dtype) for v in (y.reshape(p.x.shape), dx.reshape(p.x.shape), truth.dweight, truth.dbias)]
    return truth, Outputs(truth.mean.astype(np.float64), truth.var.astype(np.float64), *stored)


# --- the contract -----------------------------------------------------------------------------------------------------


def test_every_call_keeps_the_contract_and_the_page_has_all_of_them(tmp_path, capsys):
    from benches.accuracy.__main__ import main
    from benches.accuracy.data import DATA
    from benches.accuracy.grid import DTYPES, QUICK

    page = tmp_path / "accuracy.md"
    assert main(["--quick", "--write", str(page)]) == 0, capsys.readouterr().out
    printed, text = capsys.readouterr().out, page.read_text()
    assert "every one does" in printed
    assert "every one does" in text
    assert "FAILS" not in text
    assert len(text.splitlines()) < 300
    assert {case.op for case in QUICK} == {f"{norm.name}_norm" for norm in NORMS}
    for data in DATA:
        assert f"| {data.name} | {data.reason} |" in text
    for backend in ("cython", "reference"):
        for dtype in DTYPES:
            assert text.count(f"| {dtype} | {backend} |") == len(NORMS)
    numba = importlib.util.find_spec("numba") is not None
    assert text.count("| float64 | numba |") == len(NORMS) * numba
    assert ("numba is absent" in printed) is not numba


def test_a_call_that_breaks_the_contract_fails(tmp_path, capsys, monkeypatch):
    from benches.accuracy import __main__ as program
    from benches.accuracy.contenders import contenders

    right = contenders()["reference"]

    def wrong(p):
        outputs = right(p)
        outputs.y.flat[3] *= 1 + 32 * np.finfo(np.float32).eps
        return outputs

    page = tmp_path / "accuracy.md"
    monkeypatch.setattr(program, "contenders", lambda: {"reference": wrong})
    assert program.main(["--quick", "--only", "layer_norm float32", "--write", str(page)]) == 1
    assert "FAILS: layer_norm float32 6x50, offset 0, reference: output" in capsys.readouterr().out
    assert "- **FAILS**: layer_norm float32 6x50, offset 0, reference: output" in page.read_text()
    assert "PyTorch is not installed" in page.read_text()


def test_what_peers_break_is_no_failure(capsys, monkeypatch):
    from benches.accuracy import __main__ as program
    from benches.accuracy.contenders import TORCH, contenders

    right = contenders()["reference"]

    def wrong(p):
        outputs = right(p)
        return replace(outputs, var=outputs.var * 1.5)

    monkeypatch.setattr(program, "contenders", lambda: {"reference": right, TORCH: wrong})
    monkeypatch.setattr(program.torch_, "threads", nullcontext)  # it need not be installed
    assert program.main(["--quick", "--only", "rms_norm float32"]) == 0
    assert "PyTorch on the same data: 23 of 23 calls are beyond" in capsys.readouterr().out


def test_without_ml_dtypes_bfloat16_is_left_out(capsys, monkeypatch):
    from benches.accuracy import __main__ as program

    def without(name):
        return None if name == "ml_dtypes" else importlib.util.find_spec(name)

    monkeypatch.setattr(program, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=without)))
    monkeypatch.setattr(program, "contenders", dict)
    assert program.main(["--quick"]) == 0
    said = capsys.readouterr()
    assert "bfloat16 is left out: ml_dtypes" in said.out
    assert "float16" in said.err
    assert "bfloat16" not in said.err


def test_words_that_leave_nothing_are_refused(capsys):
    from benches.accuracy.__main__ import main

    assert main(["--quick", "--only", "float8"]) == 2
    assert "--only 'float8' leaves nothing" in capsys.readouterr().err


# --- what is right ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_the_truth_is_the_oracle_in_more_digits(norm, extended, monkeypatch):
    from benches.accuracy import truth

    monkeypatch.setattr(truth, "EXTENDED", extended)
    monkeypatch.setattr(truth, "BLOCK", 37)  # several blocks, and a last one that is short
    p = problem(norm)
    found, outputs = exact(p)
    bias = p.bias if norm.has_bias else None
    want = oracle.norm(p.x, norm.groups, norm.parameters, p.weight, bias, eps=p.eps, centred=norm.centred)
    gradients = oracle.norm_backward(
        p.dy, p.x, norm.groups, norm.parameters, p.weight, bias, eps=p.eps, centred=norm.centred
    )
    for got, right in (
        (found.mean, want.mean), (found.var, want.var), (outputs.y, want.y),
        *zip((outputs.dx, outputs.dweight, outputs.dbias), gradients, strict=True),
    ):  # fmt: skip
        np.testing.assert_allclose(np.ravel(got).astype(np.float64), np.ravel(right), rtol=1e-12, atol=1e-13)


def test_the_truth_keeps_digits_that_float64_has_not():
    from benches.accuracy.truth import EXTENDED, Truth

    if not EXTENDED:
        pytest.skip("np.longdouble is no wider than float64 here")
    p = problem(Norm("batch", (4, 1)))
    x = 1 + np.array([[0.0], [1.0], [1.0], [0.0]]) * 2.0**-52  # mean 1 + 2^-53, which float64 does not have
    truth = Truth(replace(p, x=x))
    assert truth.mean.item() == 1 + np.longdouble(2) ** -53
    assert truth.var.item() == 2.0**-106


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_rounding_to_the_dtype_is_half_a_unit_at_most(norm, dtype):
    from benches.accuracy.errors import measure

    truth, outputs = exact(problem(norm, dtype))
    errors = measure(truth, {"exact": outputs}, dtype)["exact"]
    assert 0.1 < errors["output"] <= 0.5
    assert 0 < errors["dx"] <= 0.5
    assert 0 < errors["dweight"] <= 0.5
    assert errors["mean"] <= 2**-53
    assert errors["variance"] <= 2**-53
    assert "constant" not in errors


def test_errors_are_counted_in_their_units():
    from benches.accuracy.errors import measure

    p = problem(Norm("batch", (2, 1)), "float32")
    ones = np.ones(1, np.float32)
    p = replace(p, x=np.array([[7.0], [9.0]], np.float32), weight=2 * ones, bias=ones, eps=3.0)
    p = replace(p, dy=np.array([[1.0], [-1.0]], np.float32))
    truth, right = exact(p)  # mean 8, var 1, rstd 1/2; y = 1 -+ 1; dweight = -1/2 - 1/2
    np.testing.assert_array_equal(right.y.ravel(), [0.0, 2.0])
    eps = np.float32(2.0**-23)
    y = right.y + np.array([[0.0], [6 * eps]], np.float32)  # magnitude 1 + 1: an ulp is 2 eps
    wrong = replace(
        right, y=y, mean=right.mean + 9e-6, var=right.var * 1.25, dweight=right.dweight + 4 * eps,
        dbias=right.dbias + 4 * eps,
    )  # fmt: skip
    errors = measure(truth, {"wrong": wrong}, "float32")["wrong"]
    assert errors == {
        "mean": pytest.approx(1e-6),  # of the largest, 9
        "variance": 0.25,
        "output": pytest.approx(3.0),
        "dx": pytest.approx(0.0, abs=1e-6),
        "dweight": pytest.approx(4.0, rel=1e-6),  # of 1/2 + 1/2
        "dbias": pytest.approx(2.0),  # of 1 + 1
    }


def test_nan_is_infinitely_wrong_and_a_constant_group_has_to_be_exact():
    from benches.accuracy.contract import broken
    from benches.accuracy.errors import measure

    p = problem(Norm("layer", (6, 50), (50,)), "float32")
    x = p.x.copy()
    x[2] = 0.1
    truth, right = exact(replace(p, x=x))
    assert measure(truth, {"right": right}, "float32")["right"]["constant"] == 0
    y, dx, var = right.y.copy(), right.dx.copy(), right.var.copy()
    y[2, 7] = np.nextafter(y[2, 7], np.float32(9))
    dx[0, 0] = np.nan
    var[2] = 1e-300
    errors = measure(truth, {"wrong": replace(right, y=y, dx=dx, var=var)}, "float32")["wrong"]
    assert 0 < errors["constant"] <= 1
    assert errors["dx"] == errors["variance"] == math.inf
    assert set(broken(p.case, errors)) == {"constant", "dx", "variance"}
    assert broken(p.case, {"mean": math.nan}) == ("mean",)


def test_bounds():
    from benches.accuracy.contract import bound

    half, wide = (problem(Norm("layer", (6, 50), (50,)), dtype).case for dtype in ("float16", "float64"))
    assert [bound("output", case) for case in (half, wide)] == [4, 4 + 50]
    assert [bound("variance", case) for case in (half, wide)] == [1e-6, 1e-6]
    assert bound("variance", half, ours=False) == 4 * 2.0**-10
    assert bound("constant", wide) == 0


# --- data -------------------------------------------------------------------------------------------------------------


def test_data():
    from benches.accuracy.data import DATA, representable
    from benches.accuracy.grid import CASES, LONG_CASES, QUICK
    from benches.cases import view

    names = [data.name for data in DATA]
    assert len(set(names)) == len(names)
    assert {"offset 1e8", "scale 1e-30", "scale 1e30", "constant", "last digits, eps 1e-30", "outlier"} <= set(names)
    assert [representable(np.array([0.0, 1e30]), dtype) for dtype in ("float16", "bfloat16")] == [False, True]
    assert not representable(np.array([1e-6, 1e-6, 1.0]), "float16")
    assert representable(np.zeros(3), "float16")
    for case in LONG_CASES:
        seen = view(case)
        assert math.prod(seen.shape[axis] for axis in seen.axes) == 2**24
    assert {(c.op, c.dtype) for c in CASES} == {(c.op, c.dtype) for c in QUICK}


def test_constant_groups_are_constant_and_outliers_one_a_group():
    from benches.accuracy.data import DATA, problem_of
    from benches.accuracy.grid import QUICK
    from benches.cases import view

    kinds = {data.name: data for data in DATA}
    for case in QUICK:
        seen = view(case)
        x = problem_of(case, kinds["constant"]).x.reshape(seen.shape).astype(np.float64)
        assert (x.max(seen.axes) == x.min(seen.axes)).all()
        x = problem_of(case, kinds["outlier"]).x.reshape(seen.shape).astype(np.float64)
        assert ((x > 1000).sum(seen.axes) == 1).all()
        p = problem_of(case, kinds["one last digit, eps 1e-30"])
        values = np.unique(p.x.astype(np.float64))
        assert len(values) == 2
        assert np.nextafter(p.x.dtype.type(values[0]), p.x.dtype.type(np.inf)) == values[1]
