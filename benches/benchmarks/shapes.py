"""The shapes of the benchmarks. ``NORMCORE_BENCH_TINY=1`` replaces them by tiny ones, to see that everything runs."""

from __future__ import annotations

import os

TINY = os.environ.get("NORMCORE_BENCH_TINY", "") not in ("", "0")

NCHW: list[tuple[int, ...]] = [(32, 64, 56, 56), (32, 256, 14, 14), (32, 512, 7, 7), (8, 3, 224, 224)]
NC: list[tuple[int, ...]] = [(128, 128), (4096, 1024), (1_000_000, 10)]
ROWS: list[tuple[int, ...]] = [(8192, 300), (8192, 768), (1024, 5120)]  # layer and RMS norm
IMAGES: list[tuple[int, ...]] = [(8, 64, 56, 56), (32, 256, 14, 14)]  # group and instance norm
NUM_GROUPS = 32
SMALL = (64, 10)  # nothing but the cost of a call

if TINY:
    NCHW, NC = [(4, 3, 8, 8)], [(16, 8)]
    ROWS, IMAGES, NUM_GROUPS = [(4, 10)], [(2, 6, 4, 4)], 3

# Name -> sizes, activation, batch size: a narrow deep network, a usual small one, a wide one.
NETWORKS: dict[str, tuple[list[int], str, int]] = {
    "eight of ten": ([10] * 10, "tanh", 64),
    "784-128-64-10": ([784, 128, 64, 10], "relu", 32),
    "784-512-256-128-64-10": ([784, 512, 256, 128, 64, 10], "sigmoid", 128),
}
if TINY:
    NETWORKS = {"tiny": ([6, 5, 3], "relu", 8)}
