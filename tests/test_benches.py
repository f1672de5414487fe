"""Every benchmark runs, and the comparison with peers computes what it says. Nothing here looks at how long it took."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from normcore import _bench

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "benches").is_dir(), reason="benches/ is only in a checkout")
MODULES = ("bench_batch_norm", "bench_overhead", "bench_training")


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("NORMCORE_BENCH_TINY", "1")


# --- asv --------------------------------------------------------------------------------------------------------------


def combinations(benchmark: type) -> Iterator[tuple]:
    return itertools.product(*getattr(benchmark, "params", ()))


@pytest.mark.parametrize("module", MODULES)
def test_every_asv_benchmark_runs(module):
    loaded = importlib.import_module(f"benches.benchmarks.{module}")
    classes = [c for _, c in inspect.getmembers(loaded, inspect.isclass) if c.__module__ == loaded.__name__]
    ran = 0
    for kind in classes:
        methods = [name for name in dir(kind) if name.startswith(("time_", "timeraw_"))]
        assert methods, f"{kind.__name__} times nothing"
        for arguments in combinations(kind):
            benchmark = kind()
            if hasattr(benchmark, "setup"):
                benchmark.setup(*arguments)
            for name in methods:
                code = getattr(benchmark, name)(*arguments)
                if name.startswith("timeraw_"):
                    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
                ran += 1
    assert ran


def test_every_asv_module_is_run_above():
    assert sorted(path.stem for path in (ROOT / "benches/benchmarks").glob("bench_*.py")) == sorted(MODULES)
    config = json.loads((ROOT / "benches/asv.conf.json").read_text())
    assert (ROOT / "benches" / config["benchmark_dir"]).is_dir()


# --- timing -----------------------------------------------------------------------------------------------------------


def test_contenders_take_turns():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    times = _bench.interleaved(calls, seconds=0.0, rounds=4)
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns == ["a", "b", "a", "b", "a", "b", "a"]  # once to see how long a call takes; a-b, b-a, a-b, b-a
    assert {len(samples) for samples in times.samples.values()} == {4}


def test_ratios_are_medians_within_rounds():
    times = _bench.Times({"a": [1.0, 10.0, 3.0], "b": [2.0, 40.0, 3.0]})
    assert (times.median("a"), times.ratio("b", "a"), times.fastest(["a", "b"])) == (3.0, 2.0, "a")


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 1000])
def test_the_threaded_copy_copies_everything(num_threads, size):
    copy = _bench.ThreadedCopy(num_threads)
    source = np.arange(size, dtype=np.float32)
    target = np.full_like(source, -1)
    assert copy(target, source) is target
    copy.close()
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 5, 5)])
def test_the_numpy_contender_is_batch_norm(shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    weight, bias, given, var = rng.uniform(0.5, 1.5, (4, 3))
    axes, view = _bench.channel_axes(x), _bench.channel_shape(x)
    xhat = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    y, mean, rstd = _bench.numpy_forward(x, weight, bias, np.empty_like(x))
    np.testing.assert_allclose(y, xhat * weight.reshape(view) + bias.reshape(view), rtol=1e-6, atol=1e-8)
    dx, dweight, dbias = _bench.numpy_backward(dy, x, weight, mean, rstd, np.empty_like(x))
    np.testing.assert_allclose(dbias, dy.sum(axes))
    np.testing.assert_allclose(dweight, (dy * xhat).sum(axes), rtol=1e-6)
    inner = dy - dy.mean(axes, keepdims=True) - xhat * (dy * xhat).mean(axes, keepdims=True)
    np.testing.assert_allclose(dx, weight.reshape(view) * rstd * inner, rtol=1e-6, atol=1e-8)
    y = _bench.numpy_inference(x, given, var, weight, bias, np.empty_like(x))
    expected = (x - given.reshape(view)) / np.sqrt(var.reshape(view) + 1e-5) * weight.reshape(view) + bias.reshape(view)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-8)


# --- peers ------------------------------------------------------------------------------------------------------------


def test_peers_quick_prints_every_case_and_writes_json(capsys, tmp_path):
    from benches import peers
    from benches.cases import QUICK, cases

    assert peers.main(["--quick", "--threads", "1", "--json", str(tmp_path / "peers.json")]) == 0
    printed = capsys.readouterr().out
    lines = json.loads((tmp_path / "peers.json").read_text())["lines"]
    assert len(lines) == len(list(cases(QUICK))) == 6
    for line in lines:
        assert f"{line['op']} {line['direction']:<9} {'x'.join(map(str, line['shape']))}" in printed
        assert line["copies"] > 0
        assert line["peers"]["NumPy"] > 0
    assert "NumPy" in printed
    assert "PyTorch" in printed


def test_an_absent_peer_has_a_column_that_says_so(capsys, monkeypatch):
    from benches import peers
    from benches.contenders import torch_

    monkeypatch.setattr(torch_, "absent", lambda: "torch is not installed")
    assert peers.main(["--quick", "--threads", "1", "--only", "inference NC"]) == 0
    printed = capsys.readouterr().out
    assert "PyTorch is absent: torch is not installed" in printed
    assert [line.split()[-1] for line in printed.splitlines() if line.startswith("batch_norm")] == [
        "absent"
    ] * 2  # the case and its mean


def test_a_peer_that_computes_something_else_is_found_out(monkeypatch):
    from benches import peers
    from benches.contenders import numpy_

    wrong = {("batch_norm", "inference"): lambda p: {"wrong": lambda: p.x * 2}}
    monkeypatch.setattr(numpy_, "WAYS", wrong)
    with pytest.raises(ArithmeticError, match="NumPy's wrong differs from normcore"):
        peers.main(["--quick", "--threads", "1", "--only", "inference"])


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--threads", "0"], "--threads"), (["--only", "nothing"], "--only")]
)
def test_peers_refuses_with_a_reason(arguments, message, capsys):
    from benches import peers

    assert peers.main(["--quick", *arguments]) == 2
    assert message in capsys.readouterr().err
