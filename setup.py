"""What pyproject.toml cannot say: the compiled kernels, and whether this compiler has OpenMP, which counts the threads.

Environment variables:

NORMCORE_NO_OPENMP=1  build kernels that run on one thread
NORMCORE_DEBUG=1      check every index of the kernels (slow; for developers)
NORMCORE_FLAGS="..."  further flags, after all others, for the compiler and the linker: python -m reliability.sanitize
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("NORMCORE_DEBUG", "") not in ("", "0")
NO_OPENMP = os.environ.get("NORMCORE_NO_OPENMP", "") not in ("", "0")
FLAGS = shlex.split(os.environ.get("NORMCORE_FLAGS", ""))  # CFLAGS come before ours: no -O of theirs would win

LOOPS = "normcore/backends/loops"
STEPS = "normcore/optim/loops"
PRODUCTS = "normcore/nn/loops"
EXTENSIONS = {
    "normcore.backends.cython_kernels": [
        "normcore/backends/cython_kernels.pyx",
        *(f"{LOOPS}/{vectors}.c" for vectors in ("baseline", "avx2", "avx512")),
    ],
    "normcore._context": ["normcore/_context.py"],  # plain Python that is compiled: the lane makes contexts in C
    "normcore._setting": ["normcore/_setting.py"],  # likewise: no signal comes between entering a block and noting it
    "normcore._compiled_pool": ["normcore/_compiled_pool.pyx"],
    "normcore._compiled_lane": ["normcore/_compiled_lane.pyx"],
    "normcore._workers": ["normcore/_workers.pyx", "normcore/workers.c"],
    "normcore.nn._products": [
        "normcore/nn/_products.pyx",
        *(f"{PRODUCTS}/{vectors}.c" for vectors in ("avx2", "avx512")),
    ],
    "normcore.nn._softmax": ["normcore/nn/_softmax.pyx"],
    "normcore.optim._fused": [
        "normcore/optim/_fused.pyx",
        *(f"{STEPS}/{vectors}.c" for vectors in ("baseline", "avx2", "avx512")),
    ],
}

# -ffp-contract=off: a fused multiply-add rounds once where the formula rounds twice: results would depend on the CPU.
# Not here: -ffast-math (breaks NaN, Inf and the order of sums), -march=native (breaks on another machine).
# -fno-math-errno: nobody reads errno here, and sqrt becomes an instruction.
# -g0: Python's own flags ask for symbols, which would treble the wheel.
COMPILE_FLAGS = (
    []
    if platform.system() == "Windows"
    else ["-O3", "-ffp-contract=off", "-fno-math-errno", *([] if DEBUG else ["-g0"])]
)

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,  # docs/reliability.md says what was looked at and how it was tried
}

OPENMP_FLAGS = {
    "Windows": (["/openmp"], []),
    "Darwin": (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),
}.get(platform.system(), (["-fopenmp"], ["-fopenmp"]))

OPENMP_PROGRAM = """
#include <omp.h>
#include <stdio.h>
int main(void) {
    int threads = 0;
    #pragma omp parallel reduction(+:threads)
    threads += 1;
    printf("%d threads\\n", threads);
    return threads < 1;
}
"""


def openmp_works(compiler) -> str:
    """Compile, link and run a parallel program; return why that failed, or an empty string."""
    compile_flags, link_flags = OPENMP_FLAGS
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "openmp_probe.c")
        source.write_text(OPENMP_PROGRAM)
        try:
            objects = compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_flags)
            compiler.link_executable(objects, str(Path(folder, "openmp_probe")), extra_postargs=link_flags)
            program = next(p for p in Path(folder).iterdir() if p.stem == "openmp_probe" and p.suffix in ("", ".exe"))
            subprocess.run([str(program)], check=True, capture_output=True, timeout=60)
        except Exception as error:  # whatever the compiler does, the answer is a serial build
            return f"{type(error).__name__}: {error}"
    return ""


class BuildExt(build_ext):
    """Adds OpenMP's flags where the probe works; says loudly where it does not."""

    def build_extensions(self) -> None:
        reason = "NORMCORE_NO_OPENMP is set" if NO_OPENMP else openmp_works(self.compiler)
        if reason:
            line = "*" * 100
            print(
                f"{line}\nnormcore is being built WITHOUT THREADS: {reason}.\nEverything works, on one core. To use "
                "them all, install a compiler with OpenMP (GCC; on macOS: brew install libomp) and build again.\n"
                f"{line}",
                file=sys.stderr,
                flush=True,
            )
        else:
            for extension in self.extensions:
                extension.extra_compile_args = [*extension.extra_compile_args, *OPENMP_FLAGS[0]]
                extension.extra_link_args = [*extension.extra_link_args, *OPENMP_FLAGS[1]]
        for extension in self.extensions:
            extension.extra_compile_args = [*extension.extra_compile_args, *FLAGS]
            extension.extra_link_args = [*extension.extra_link_args, *FLAGS]
        super().build_extensions()


setup(
    ext_modules=cythonize(
        [
            Extension(
                name,
                sources,
                include_dirs=[str(Path(sources[0]).parent), "normcore", "normcore/backends", numpy.get_include()],
                depends=[
                    "normcore/pool.h",
                    "normcore/workers.h",
                    *glob(f"{PRODUCTS}/*.h"),
                    *glob(f"{LOOPS}/*.h"),
                    *glob("normcore/*.pxi"),
                    *glob(f"{LOOPS}/*.pxi"),
                    *glob(f"{STEPS}/*.h"),
                ],
                extra_compile_args=COMPILE_FLAGS,
                extra_link_args=[] if platform.system() == "Windows" else ["-pthread"],
                define_macros=[
                    ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
                    ("NPY_TARGET_VERSION", "NPY_1_22_API_VERSION"),  # handlers of memory came with 1.22
                    *([("NORMCORE_DEBUG", "1")] if DEBUG else []),
                ],
            )
            for name, sources in EXTENSIONS.items()
        ],
        compiler_directives=DIRECTIVES,
        force=DEBUG,
    ),
    cmdclass={"build_ext": BuildExt},
)
