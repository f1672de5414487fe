"""The build's switches: bounds checks on, OpenMP off. Each compiles the kernels once more, unoptimised, elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import normcore

ROOT = Path(__file__).parents[2]
pytest.importorskip("Cython", reason="Cython, which compiles the kernels, is not installed")
pytest.importorskip("setuptools", reason="setuptools, which drives the compiler, is not installed")
if not (ROOT / "setup.py").exists() or shutil.which(os.environ.get("CC", "cc")) is None:
    pytest.skip("the sources or a C compiler are missing", allow_module_level=True)

CODE = """
import numpy as np, normcore as nc
from normcore.backends import cython_kernels as ck
x = np.random.default_rng(0).standard_normal((64, 6, 20, 20)).astype(np.float32)
with nc.threads(2):
    y, ctx = nc.batch_norm_forward(x, np.ones(6))
    dx = nc.batch_norm_backward(y, ctx)[0]
    rows = nc.batch_norm(x[:, :, 0, 0].copy(), training=True)
print(ck.OPENMP, ck.BOUNDS_CHECKS, *(float(abs(a).sum(dtype=float)) for a in (y, dx, rows)))
"""


def build(folder, **switches):
    """Build in a copy of the sources; return the log of the build and what CODE prints with it."""
    shutil.copytree(
        ROOT / "normcore",
        folder / "normcore",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "cython_kernels.c", "_compiled_lane.c", "__pycache__"),
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    environment = os.environ | {"NORMCORE_FLAGS": "-O0"} | switches  # after setup.py's own -O3
    environment = {
        k: v for k, v in environment.items() if k not in {"NORMCORE_NO_OPENMP", "NORMCORE_DEBUG"} - set(switches)
    }
    environment["PYTHONPATH"] = str(folder)
    (folder / "normcore-study-digits").mkdir()  # what a study leaves behind
    (folder / "normcore-study-digits" / "result.json").write_text("{}")
    outputs = []
    for command in (
        ["setup.py", "build_ext", "--inplace", "build_py", "--build-lib", "wheel", "egg_info"],
        ["-W", "error", "-c", CODE],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        outputs.append(done)
    built, ran = outputs
    return built.stdout + built.stderr, ran.stdout.split()


def files(folder):
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


def test_switches_of_the_build(tmp_path):
    import numpy as np

    (tmp_path / "debug").mkdir()
    log, (openmp, bounds, *sums) = build(tmp_path / "debug", NORMCORE_DEBUG="1", NORMCORE_NO_OPENMP="1")
    assert (openmp, bounds) == ("False", "True")
    assert "normcore is being built WITHOUT THREADS: NORMCORE_NO_OPENMP is set" in log
    assert (tmp_path / "debug" / "normcore_cpu.egg-info" / "top_level.txt").read_text() == "normcore\n"
    built = {name for name in files(tmp_path / "debug" / "wheel") if not name.endswith((".so", ".pyd"))}
    wanted = (".py", ".pyi", ".typed", ".npz", ".txt")
    assert built == {f"normcore/{name}" for name in files(ROOT / "normcore") if name.endswith(wanted)}
    # the same numbers as the build under test, to the bit: neither threads nor checks change a result
    x = np.random.default_rng(0).standard_normal((64, 6, 20, 20)).astype(np.float32)
    y, ctx = normcore.batch_norm_forward(x, np.ones(6))
    dx = normcore.batch_norm_backward(y, ctx)[0]
    rows = normcore.batch_norm(x[:, :, 0, 0].copy(), training=True)
    assert [float(s) for s in sums] == [float(abs(a).sum(dtype=float)) for a in (y, dx, rows)]


def test_no_flag_that_breaks_ieee_or_other_machines():
    text = (ROOT / "setup.py").read_text()
    flags = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert not any("-march=native" in line or "-ffast-math" in line or "-Ofast" in line for line in flags)
