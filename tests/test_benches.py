"""Every benchmark runs, and the comparison with peers computes what it says. Nothing here looks at how long it took."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import normcore as nc
from normcore import _bench

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "benches").is_dir(), reason="benches/ is only in a checkout")
MODULES = ("bench_batch_norm", "bench_norms", "bench_overhead", "bench_training")


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
    members = inspect.getmembers(loaded, inspect.isclass)
    classes = [c for name, c in members if c.__module__ == loaded.__name__ and not name.startswith("_")]
    ran = missing = 0
    for kind in classes:
        methods = [name for name in dir(kind) if name.startswith(("time_", "timeraw_"))]
        assert methods, f"{kind.__name__} times nothing"
        for arguments in combinations(kind):
            benchmark = kind()
            try:
                getattr(benchmark, "setup", lambda *_: None)(*arguments)
            except NotImplementedError:  # asv skips it: normcore has no such norm
                missing += 1
                continue
            for name in methods:
                code = getattr(benchmark, name)(*arguments)
                if name.startswith("timeraw_"):
                    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
                ran += 1
    assert ran or missing
    assert not missing or not hasattr(nc, "layer_norm_forward")


def test_every_asv_module_is_run_above():
    assert sorted(path.stem for path in (ROOT / "benches/benchmarks").glob("bench_*.py")) == sorted(MODULES)
    config = json.loads((ROOT / "benches/asv.conf.json").read_text())
    assert (ROOT / "benches" / config["benchmark_dir"]).is_dir()


# --- timing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    from benches import timing

    monkeypatch.setattr(timing, "SETTLE", 0)
    return timing


def test_contenders_take_turns(impatient, monkeypatch):
    monkeypatch.setattr(impatient, "SAMPLE", 0)  # one call a sample
    order = []
    calls = {name: {"way": lambda name=name: order.append(name)} for name in "ab"}
    monkeypatch.setattr(impatient, "_still", lambda live, *_: live)
    times = impatient.interleaved(calls, seconds=0.0, rounds=4)
    # a and b twice to see how long a call takes; then rounds, with an untimed call before each timed one
    assert "".join(order) == "abab" + "aabb" + "bbaa" + "aabb" + "bbaa"
    assert {len(values) for own in times.samples.values() for values in own.values()} == {4}


def test_normcore_bench_takes_turns():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    times = _bench.interleaved(calls, seconds=0.0, rounds=4)
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns == ["a", "b", "a", "b", "a", "b", "a"]  # once to see how long a call takes; a-b, b-a, a-b, b-a
    assert {len(samples) for samples in times.samples.values()} == {4}


def test_ratios_are_medians_within_rounds():
    times = _bench.Times({"a": [1.0, 10.0, 3.0], "b": [2.0, 40.0, 3.0]})
    assert (times.median("a"), times.ratio("b", "a"), times.fastest(["a", "b"])) == (3.0, 2.0, "a")


def test_only_the_ways_that_stayed_count(impatient):
    times = impatient.Times({"a": {"left early": [1.0], "stayed": [3.0, 2.0, 4.0]}})
    assert times.best("a") == ("stayed", 3.0)
    assert times.medians() == {"a": 3.0}


def test_who_has_another_turn(impatient):
    samples = {"normcore": {"out=": [1.0] * 5, "slow": [1.4] * 5}, "near": {"x": [2.0] * 5}, "far": {"x": [9.0] * 5}}
    live = [(name, way) for name, own in samples.items() for way in own]
    assert impatient._still(live, samples, "normcore", True) == [("normcore", "out="), ("near", "x")]
    assert ("far", "x") in impatient._still(live, samples, "normcore", False)


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


@pytest.fixture
def peers(impatient):
    from benches import peers

    assert impatient.SETTLE == 0
    return peers


def quick(peers, *arguments):
    return peers.main(["--quick", "--threads", "1", *arguments])


def absent(monkeypatch, *names):
    """Make contenders absent."""
    from benches import contenders

    def away(c):
        return replace(c, absent=lambda: f"{c.name} is away") if c.name in names else c

    monkeypatch.setattr(contenders, "CONTENDERS", tuple(away(c) for c in contenders.CONTENDERS))


def test_quick_prints_a_line_for_everything_and_writes_markdown(peers, capsys, tmp_path):
    from benches.grid import QUICK, cases

    numbers, tables = tmp_path / "peers.json", tmp_path / "RESULTS.md"
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(bytes(1_500_000))
    files = ("--json", str(numbers), "--write-results", str(tables), "--wheel", str(wheel))
    assert quick(peers, *files, "--no-compile") == 0  # seconds for each; .ci/run has it
    printed, content = capsys.readouterr().out, json.loads(numbers.read_text())
    lines = {line["name"]: line for line in content["results"]}
    assert {str(case) for case in cases(QUICK)} < set(lines)
    assert {name.split()[0] for name in lines} >= {"batch_norm", "layer_norm", "training", "import", "wheel"}
    for name, line in lines.items():
        assert name in printed
        assert name in tables.read_text()
        assert "failed" not in str(line["missing"])
        if name.startswith("batch_norm"):
            assert line["copies"] > 0
            assert {"normcore", "copy", "fresh", "NumPy"} <= set(line["seconds"])
    assert "compile is absent: left out by an option" in printed
    assert lines["wheel x.whl"]["amount"] == 1.5
    assert len(content["targets"]) > 25


def test_no_contender_differs_from_the_formula(peers, capsys, monkeypatch):
    # In place of norms that this version may not have; in float64.
    for op in ("layer_norm", "rms_norm", "group_norm", "instance_norm"):
        forward, backward = formula(op)
        monkeypatch.setattr(nc, f"{op}_forward", forward, raising=False)
        monkeypatch.setattr(nc, f"{op}_backward", backward, raising=False)
    absent(monkeypatch, "compile", "JAX")
    assert quick(peers, "--only", "norm float32") == 0
    printed = capsys.readouterr().out
    assert "failed" not in printed
    assert "none yet" not in printed


def formula(op):
    from benches.cases import EPS, Case, view

    centred = op != "rms_norm"

    def forward(x, *arguments, out=None, **_):
        groups = arguments[0] if op == "group_norm" else 0
        seen = view(Case(op, "forward", x.shape, x.dtype.name, groups))
        vectors = [v.astype(np.float64).reshape(seen.parameters) for v in arguments if isinstance(v, np.ndarray)]
        values = x.astype(np.float64).reshape(seen.shape)
        values -= values.mean(seen.axes, keepdims=True) if centred else 0
        rstd = 1 / np.sqrt((values**2).mean(seen.axes, keepdims=True) + EPS)
        y = values * rstd * vectors[0] + (vectors[1] if centred else 0)
        return stored(y, x, out), (values * rstd, rstd, vectors[0], seen)

    def backward(dy, ctx, *, out=None):
        xhat, rstd, weight, seen = ctx
        g = dy.astype(np.float64).reshape(seen.shape) * weight
        dx = g - xhat * (g * xhat).mean(seen.axes, keepdims=True)
        dx -= g.mean(seen.axes, keepdims=True) if centred else 0
        return stored(dx * rstd, dy, out), None, None

    def stored(values, like, out):
        out = np.empty_like(like) if out is None else out
        out[...] = values.reshape(like.shape)
        return out

    return forward, backward


def test_an_operation_that_this_version_lacks_is_listed(peers, capsys, monkeypatch):
    monkeypatch.delattr(nc, "layer_norm_forward", raising=False)
    assert quick(peers, "--only", "layer_norm forward") == 0
    printed = capsys.readouterr().out
    assert "none yet" in printed
    assert "not in this version: normcore has no layer_norm_forward" in printed


def test_an_absent_peer_has_a_column_that_says_so(peers, capsys, monkeypatch):
    absent(monkeypatch, "PyTorch", "compile", "JAX")
    assert quick(peers, "--only", "inference NC") == 0
    printed = capsys.readouterr().out
    assert "PyTorch is absent: PyTorch is away" in printed
    assert "JAX: absent: JAX is away (1: batch_norm inference NC float32 64x10)" in printed
    (line,) = [x for x in printed.splitlines() if x.startswith("batch_norm") and "64x10" in x]
    assert line.split()[-3:] == ["absent"] * 3


@pytest.mark.parametrize(("name", "code"), [("NumPy", 1), ("normcore", 1), ("broken", 0)])
def test_a_wrong_result_is_found_out(peers, capsys, monkeypatch, name, code):
    from benches import contenders

    absent(monkeypatch, "PyTorch", "compile", "JAX")
    ours, *others = contenders.CONTENDERS
    wrong = {"NumPy": lambda p: {"wrong": lambda: p.x * 2}}.get(name, lambda _: 1 / 0)
    changed = [replace(c, ways=wrong) if c.name == name else c for c in (ours, *others)]
    if name == "broken":  # a peer that cannot do it is listed
        changed.append(contenders.Contender("broken", wrong, peer=True))
    monkeypatch.setattr(contenders, "CONTENDERS", tuple(changed))
    assert quick(peers, "--only", "inference") == code
    printed = capsys.readouterr().out
    assert ("wrong differs from normcore" if name == "NumPy" else "failed: ZeroDivisionError") in printed


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--only", "nothing"], ["--wheel", "no.whl"]])
def test_peers_refuses_with_a_reason(peers, arguments, capsys):
    assert peers.main(["--quick", *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_layout_is_a_whole_word():
    from benches.cases import matches

    assert matches("batch_norm forward NCHW float32 4x3x8x8", "batch 4x3 NCHW")
    assert not matches("batch_norm forward NCHW float32 4x3x8x8", "batch NC")


def test_the_grid_has_what_the_issue_asks_for():
    from benches.grid import GRID, cases

    every = list(cases(GRID))
    assert len(set(every)) == len(every)
    shapes = {op: {case.shape for case in every if case.op == op} for op in GRID}
    assert {(64, 10), (200_000, 64), (8192, 4096), (32, 2048, 7, 7)} <= shapes["batch_norm"]
    assert {1, 3} <= {shape[1] for shape in shapes["batch_norm"]}
    assert any(shape[2:] == (33, 47) for shape in shapes["batch_norm"])
    assert {300, 5120} <= {shape[-1] for shape in shapes["layer_norm"]}
    assert {case.dtype for case in every} == {"float32", "float64", "float16", "bfloat16"}


# --- targets ----------------------------------------------------------------------------------------------------------


def result(case, **seconds):
    from benches.cases import Case
    from benches.results import Result

    case = Case(*case)
    names = {"pytorch": "PyTorch", "numpy": "NumPy", "one": "1 thread"}
    return Result(str(case), case, {names.get(name, name): value for name, value in seconds.items()})


FORWARD = ("batch_norm", "forward", (32, 64, 56, 56))
SMALLER = ("batch_norm", "forward", (32, 256, 14, 14))


def outcomes(*results):
    from benches import targets

    return {outcome.target.name: outcome for outcome in targets.judge_all(results)}


def test_a_geometric_mean_and_its_worst_shape():
    name = "batch norm, training, forward NCHW, copies"
    found = outcomes(result(FORWARD, normcore=1.0, copy=1.0), result(SMALLER, normcore=2.0, copy=1.0))[name]
    assert (found.holds, found.value, found.beyond, found.cases) == (True, pytest.approx(2**0.5), 1, 2)
    assert found.where.endswith("32x256x14x14")
    found = outcomes(result(FORWARD, normcore=1.0, copy=1.0), result(SMALLER, normcore=3.0, copy=1.0))
    assert found[name].holds is False
    assert found[name + ", no shape over"].value == 3.0
    assert found[name + ", no shape over"].holds is False


def test_every_one_has_to_keep_a_bound_that_is_no_mean():
    fine = result(FORWARD, normcore=1.0, copy=1.0, pytorch=7.0, numpy=9.0, fresh=1.2, one=1.9)
    slow = result(SMALLER, normcore=1.0, copy=1.0, pytorch=7.0, numpy=0.9, fresh=1.3, one=1.6)
    for results, holds in (([fine], True), ([fine, slow], False)):
        found = outcomes(*results)
        assert found["batch norm, training, forward NCHW, PyTorch"].holds
        assert found["nothing slower than PyTorch, torch.compile, JAX or NumPy"].holds is holds
        assert found["a fresh output over out="].holds is holds
        assert found["2 threads against 1, over 1 MB"].holds is holds


def test_tiny_half_training_import_and_wheel():
    from benches.results import Result

    tiny = result(("batch_norm", "forward", (64, 10)), normcore=1e-6, fresh=1.1e-6, copy=1e-6, pytorch=5e-6)
    half = result((*FORWARD, "float16"), normcore=2.2, copy=1.0)
    step = Result("training 784-128-64-10 relu batch 32 Adam", None, {"normcore": 1.0, "PyTorch": 3.0})
    found = outcomes(tiny, half, step, Result("import normcore", amount=14.0), Result("wheel x", amount=2.5))
    assert found["(64, 10), training forward with ctx"].value == pytest.approx(1.1)
    assert found["(64, 10), training forward with ctx, PyTorch"].holds
    assert found["float16 and bfloat16, copies, as a part of float32's bound"].value == pytest.approx(2.2 / 1.5)
    assert found["training step, 784-128-64-10"].holds is False
    assert found["import normcore over import numpy"].holds
    assert found["wheel"].holds is False
    assert found["training step, eight layers of ten"].holds is None


def test_a_miss_gives_exit_code_1(peers, capsys):
    results = [result(FORWARD, normcore=1.0, copy=1.0, pytorch=7.0)]
    options = SimpleNamespace(quick=False, json=None, write_results=None)
    assert peers.conclude(options, results, ["PyTorch"], {}) == 0
    assert "MISSES" not in capsys.readouterr().out
    results.append(result(SMALLER, normcore=2.6, copy=1.0, pytorch=20.0))
    assert peers.conclude(options, results, ["PyTorch"], {}) == 1
    assert "MISSES" in capsys.readouterr().out


def test_every_target_is_about_something_on_the_grid():
    from benches import epochs, networks, perceptrons, scalers, targets
    from benches.grid import GRID, cases
    from benches.results import Result

    seconds = dict.fromkeys(("normcore", "copy", "fresh", "1 thread", "Numba", "PyTorch"), 1.0)
    every = [Result(str(case), case, seconds) for case in cases(GRID)]
    every += [Result(network.name, None, seconds) for network in networks.NETWORKS]
    every += [Result("import normcore over import numpy", amount=1.0), Result("wheel", amount=1.0)]
    every.append(Result(f"epoch of MNIST, {epochs.EPOCH.network}", None, {"normcore": 1.0, epochs.SCIKIT: 1.0}))
    perceptron = {"normcore": 1.0, perceptrons.NORMED: 1.0, epochs.SCIKIT: 1.0}
    every += [Result(f"perceptron {what}", None, perceptron) for what in ("fit, digits", "predict_proba, one row")]
    every += [Result(scalers.TABLE.name(way), None, {"normcore": 1.0, epochs.SCIKIT: 1.0}) for way in scalers.WAYS]
    every.append(Result(f"scaler, memory of fit {scalers.TABLE.shape}", amount=40.0))
    every.append(Result(f"fit, {epochs.LOOP.network}", None, {"normcore": 1.0, epochs.BARE: 1.0}))
    assert [o.target.name for o in targets.judge_all(every) if o.holds is None] == []


def test_scalers():
    from benches import scalers

    fit = scalers.measure(scalers.QUICK, "fit", 1, 0.0, 1)
    assert set(fit.seconds) == {"normcore", "scikit-learn"}
    used = scalers.memory(scalers.Table(20_000))
    assert used.name == "scaler, memory of fit 20000x10"
    found = outcomes(replace(fit, seconds={"normcore": 1.0, "scikit-learn": 3.9}), used)
    assert found["StandardScaler, fit, scikit-learn"].holds is False
    assert found["StandardScaler, fit_transform, scikit-learn"].holds is None
    assert found["StandardScaler, memory of fit, arrays"].value == pytest.approx(used.amount / 0.8)
    assert found["StandardScaler, memory of fit, arrays"].holds


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_replaces_its_own_part_of_a_file(tmp_path):
    from benches import report

    file = tmp_path / "RESULTS.md"
    about = {"cpu": "a CPU", "cpus": 2, "threads": 2, "numpy": "2"}
    for command in ("first", "second"):
        report.write(file, command, about, [result(FORWARD, normcore=1.0, copy=0.5)], [], ["PyTorch"])
        file.write_text(file.read_text() + "by hand\n")
    text = file.read_text()
    assert ("first" in text, "second" in text, text.count("by hand")) == (False, True, 2)
    assert "| batch_norm forward NCHW float32 32x64x56x56 | 1 s | 2.00 | - |" in text
    file.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        report.write(file, "third", about, [], [], [])
