"""What a study ran on."""

from __future__ import annotations

import platform
from pathlib import Path

from normcore._config import show_config


def environment(blas: str) -> dict[str, str]:
    """Return what `show_config` says, the processor, and what was done about BLAS's threads."""
    return {**show_config(), "processor": _processor(), "BLAS": blas}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
