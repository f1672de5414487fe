"""What is mutated, and which tests are to notice."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Group(NamedTuple):
    """Modules, and the tests that stand for them. What they import from others is tested elsewhere."""

    modules: tuple[str, ...]  # patterns below normcore/
    tests: tuple[str, ...]  # below tests/
    deselected: str = "not numba"  # compiling anew for each fault would take hours, and the loops are not mutated

    @property
    def paths(self) -> list[Path]:
        found = [path for pattern in self.modules for path in sorted((ROOT / "normcore").glob(pattern))]
        return [path for path in found if path.name != "__init__.py" or path.parent.name == "backends"]


GROUPS = {
    "plan": Group(
        (
            *("_plan.py", "_planners.py", "_checks.py", "_memory.py", "_buffers.py", "_running.py"),
            *("_dispatch.py", "functional/*.py"),
        ),
        ("core", "test_flags.py"),
    ),
    "reference": Group(
        ("backends/reference*.py", "backends/__init__.py"), ("core",), "(reference or test_dispatch) and not numba"
    ),
    "moments": Group(
        ("moments.py", "covariance.py", "_streaming.py"),
        tuple(
            f"core/test_{name}.py"
            for name in ("moments", "moments_edges", "streaming", "streaming_edges", "covariance", "covariance_edges")
        ),
    ),
    "optim": Group(("optim/*.py",), ("optim",)),
    "nn": Group(("nn/*.py",), ("nn",)),
    "training": Group(("training/*.py",), ("training",)),
}
