"""Which cases: the shapes and dtypes of each operation. Another shape is another row here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benches.cases import DIRECTIONS, Case, Shape, matches

Sizes = Mapping[str, tuple[tuple[Shape, str], ...]]  # operation -> (shape, dtypes in words)

ALL = "float32 float16 bfloat16 float64"
HALVES = "float32 float16 bfloat16"
ONE = "float32"

IMAGES: tuple[tuple[Shape, str], ...] = (
    # ResNet-50, from the stem to the last stage, batches of 32
    ((32, 64, 112, 112), ONE),
    ((32, 64, 56, 56), ALL),
    ((32, 256, 56, 56), ONE),
    ((32, 128, 28, 28), ONE),
    ((32, 512, 28, 28), ONE),
    ((32, 256, 14, 14), ALL),
    ((32, 1024, 14, 14), ONE),
    ((32, 512, 7, 7), HALVES),
    ((32, 2048, 7, 7), ONE),
    # batches of 1 and 8
    ((1, 64, 112, 112), ONE),
    ((1, 256, 14, 14), ONE),
    ((1, 2048, 7, 7), ONE),
    ((8, 128, 28, 28), ONE),
    ((8, 3, 224, 224), ONE),
    # ResNet-20 on CIFAR-10, MobileNetV2
    ((128, 16, 32, 32), ONE),
    ((128, 64, 8, 8), ONE),
    ((32, 24, 56, 56), ONE),
    # nothing divides: odd images, one channel, three channels
    ((16, 24, 33, 47), ONE),
    ((16, 3, 33, 47), ONE),
    ((64, 1, 28, 28), ONE),
    ((32, 1, 33, 47), ONE),
)
TABLES: tuple[tuple[Shape, str], ...] = (
    ((64, 10), ONE),
    ((32, 64), ONE),
    ((128, 128), ONE),
    ((256, 1024), ONE),
    ((1024, 256), ONE),
    ((10_000, 64), ONE),
    ((4096, 1024), ALL),
    ((8192, 4096), ONE),
    ((100_000, 32), HALVES),
    ((200_000, 64), ONE),
    ((1_000_000, 10), ONE),
)
ROWS: tuple[tuple[Shape, str], ...] = (
    ((64, 768), ONE),
    ((8192, 300), ONE),
    ((32, 128, 512), ONE),
    ((512, 768), ONE),
    ((8, 1024, 768), ALL),
    ((2048, 1000), ONE),
    ((4096, 2048), ONE),
    ((2048, 4096), ONE),
    ((1024, 5120), HALVES),
)
GROUPS: tuple[tuple[Shape, str], ...] = (
    ((8, 64, 56, 56), ALL),
    ((32, 256, 28, 28), ONE),
    ((2, 320, 64, 64), ONE),  # Stable Diffusion's UNet
    ((32, 512, 7, 7), ONE),
    ((16, 32, 33, 47), ONE),
)
INSTANCES: tuple[tuple[Shape, str], ...] = (
    ((4, 3, 256, 256), ONE),
    ((4, 64, 128, 128), ALL),
    ((16, 128, 28, 28), ONE),
    ((32, 256, 14, 14), ONE),
    ((16, 24, 33, 47), ONE),
)
GRID: Sizes = {
    "batch_norm": IMAGES + TABLES,
    "layer_norm": ROWS,
    "rms_norm": ROWS,
    "group_norm": GROUPS,
    "instance_norm": INSTANCES,
}
QUICK: Sizes = {
    "batch_norm": (((4, 3, 8, 8), ONE), ((64, 10), ONE)),
    "layer_norm": (((8, 300), ONE),),
    "rms_norm": (((8, 300), ONE),),
    "group_norm": (((2, 64, 4, 4), ONE),),
    "instance_norm": (((2, 3, 4, 5), ONE),),
}
NUM_GROUPS = 32
# torch.compile takes seconds for every shape, so it competes on these, in float32.
COMPILED: frozenset[Shape] = frozenset(
    {
        *((32, 64, 56, 56), (32, 256, 14, 14), (32, 2048, 7, 7), (8, 3, 224, 224)),
        *((64, 10), (1024, 256), (4096, 1024), (200_000, 64)),
        *((8192, 300), (8, 1024, 768), (1024, 5120)),
        *((8, 64, 56, 56), (2, 320, 64, 64), (4, 64, 128, 128), (16, 128, 28, 28)),
    }
)


def cases(grid: Sizes, only: str = "") -> Iterator[Case]:
    """The cases of a grid whose name, like "batch_norm forward NCHW float32 4x3x8x8", has all words of `only`."""
    for op, sizes in grid.items():
        for direction in DIRECTIONS[op]:
            for shape, dtypes in sizes:
                for dtype in dtypes.split():
                    case = Case(op, direction, shape, dtype, NUM_GROUPS if op == "group_norm" else 0)
                    if matches(str(case), only):
                        yield case
