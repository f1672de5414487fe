"""What calls take of memory beside the arrays that they return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import normcore as nc
from reliability.memory.cases import LAYOUTS, Attempt, Norm, ready_backward, ready_forward
from reliability.memory.watch import watched

# Each with a few times as many samples: what grows with them shows.
SHAPES = (
    (Norm("batch", (16, 64, 28, 28), (), 64), 4),
    (Norm("batch", (5_000, 256), (), 256), 4),
    (Norm("layer", (2_000, 768), (768,), 768), 4),
    (Norm("rms", (2_000, 768), (768,), 768), 4),
    (Norm("group", (16, 64, 28, 28), (8,), 64), 4),
    (Norm("instance", (16, 64, 28, 28), (), 64), 4),
)


class Peak(NamedTuple):
    """Bytes: of x, of what a call returned, and in use at a time beyond them."""

    x: int
    returned: int
    beside: int


def peak_of(attempt: Attempt, again: Attempt, x: int) -> Peak:
    """Of a second call, when what is kept from call to call is there."""
    attempt.run()
    result, error, seen = watched(again.run)
    if error is not None:
        raise error
    returned = sum(array.nbytes for array in result)
    return Peak(x, returned, seen.peak - returned)


def peaks() -> Iterator[tuple[str, str, str, Peak, Peak]]:
    """Norm, pass, layout, and the peaks of a number of samples and of some times as many."""
    for norm, times in SHAPES:
        more = norm._replace(shape=(times * norm.shape[0], *norm.shape[1:]))
        for title, ready in (("forward", ready_forward), ("backward", ready_backward)):
            for layout in ("C order", "channels last", "every other row"):
                if layout == "channels last" and len(norm.shape) < 3:
                    continue
                found = [
                    peak_of(ready(n, layout, "float32"), ready(n, layout, "float32"), int(np.prod(n.shape)) * 4)
                    for n in (norm, more)
                ]
                yield f"{norm.name} {'x'.join(map(str, norm.shape))}", title, layout, found[0], found[1]


def print_peaks() -> None:
    """A table in Markdown: in bytes for what is small, as multiples of x for what is not."""
    assert set(LAYOUTS) >= {"C order", "channels last", "every other row"}
    nc.set_num_threads(2)
    print("| norm | | layout | x | beside the results | with 4 times the samples |")
    print("|---|---|---|--:|--:|--:|")
    for name, title, layout, one, more in peaks():
        cells = [f"{p.beside / 1024:.0f} KiB" if p.beside < p.x / 2 else f"{p.beside / p.x:.2f} x" for p in (one, more)]
        print(f"| {name} | {title} | {layout} | {one.x / 2**20:.1f} MiB | {cells[0]} | {cells[1]} |")
