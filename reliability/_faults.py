"""Faults that are put into a copy of the sources, to see that each kind of build reports them."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A text of the sources that is replaced, a program that then goes wrong, and what the report must say."""

    name: str
    file: str
    old: str
    new: str
    program: str
    says: str

    @property
    def edit(self) -> tuple[str, str, str]:
        """As `prepare` takes it."""
        return self.file, self.old, self.new


_HEAD = "import numpy as np, normcore as nc\n"
_INFERENCE = """
n = 33
x = np.ones((2, 3, n), np.float32)
mean, var = np.zeros(3), np.ones(3)
y, ctx = nc.batch_norm_forward(x, running_mean=mean, running_var=var, training=False)
nc.batch_norm_backward(y, ctx)
"""
_WIDE = "y = nc.batch_norm(np.ones((64, 3000), np.float32), training=True)\n"  # scratch memory is not on the stack
_STEPS = """
from normcore.nn import Parameter
param = Parameter(np.zeros(300_000))
param.grad = np.ones(300_000)
with nc.threads(4):
    for _ in range(50):
        nc.optim.SGD([param], lr=1.0).step()
"""
_POOLED = _INFERENCE.replace("33", "50_001")
_PAST_THE_END = (
    "normcore/backends/loops/runs.h",
    "for (ptrdiff_t i = 0; i < n; i++) NAME(put)(dx + i, (double)NAME(get)(dy + i) * a[k]);",
    "for (ptrdiff_t i = 0; i <= n; i++) NAME(put)(dx + i, (double)NAME(get)(dy + i) * a[k]);",
)

_UNDEFINED = [
    Fault(
        "a vector is loaded from where it is not aligned", "normcore/backends/loops/storage.h",
        "    doubles v;\n    memcpy(&v, p, sizeof v);", "    doubles v;\n    v = *(const doubles *)p;",
        _HEAD + "nc.layer_norm(np.ones((9, 37)), 37)", "misaligned address"),
    Fault(
        "NaN is cast to an integer", "normcore/backends/loops/activation.h",
        "float_of_bits((bits_of_float(shifted) + 127) << 23)",
        "float_of_bits((uint32_t)((int32_t)k + 127) << 23)",
        _HEAD + "nc.layer_norm_forward(np.full((3, 5), np.nan, np.float32), 5, activation='silu')",
        "outside the range of representable values"),
]  # fmt: skip

FAULTS = {
    "address": [
        Fault("a kernel goes one past the end", *_PAST_THE_END, _HEAD + _INFERENCE, "heap-buffer-overflow"),
        Fault("the same, in memory of the pool", *_PAST_THE_END, _HEAD + _POOLED, "use-after-poison"),
        Fault(
            "memory of a step is not freed", "normcore/optim/_fused.pyx", "        free(self.parts[1])\n", "",
            _HEAD + _STEPS, "leak of"),
        *_UNDEFINED,  # the build has both sanitizers
    ],
    "undefined": _UNDEFINED,
    "bounds": [
        Fault(
            "a walk begins one further", "normcore/backends/loops/channels.pxi",
            "o.f.scale(at(o.dy, first, runs * size), runs,", "o.f.scale(at(o.dy, first + 1, runs * size), runs,",
            _HEAD + _INFERENCE, "a kernel left its array"),
    ],
    "thread": [
        Fault(
            "portions are counted without a lock", "normcore/workers.c",
            "__atomic_fetch_sub(&crew.left, 1, __ATOMIC_SEQ_CST);", "crew.left -= 1;",
            _HEAD + _STEPS, "data race"),
    ],
    "memcheck": [
        Fault(
            "sums begin with what was there", "normcore/backends/loops/columns.pxi",
            "    memset(folded, 0, 2 * w.width * sizeof(double))\n", "",
            _HEAD + _WIDE + "print(np.isfinite(y).all())",
            "uninitialised value"),
    ],
}  # fmt: skip
