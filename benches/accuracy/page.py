"""What was measured, as text for the terminal and as the page docs/accuracy.md."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np

import normcore as nc
from benches import environment, markdown
from benches.accuracy.contenders import BACKENDS, TORCH
from benches.accuracy.contract import GRADIENTS, PROMISES, STATISTICS, bound
from benches.accuracy.data import DATA, LONG
from benches.accuracy.grid import DTYPES
from benches.accuracy.rows import Row
from benches.accuracy.truth import EXTENDED

FILE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
PROGRAM = "benches.accuracy"


def write(file: Path, command: str, rows: Sequence[Row]) -> None:
    """Put a run into the page, in place of the one before."""
    markdown.replace(file, PROGRAM, lines(command, rows), "Accuracy")


def lines(command: str, rows: Sequence[Row]) -> Iterator[str]:
    """The part of the page that is written by the program."""
    yield f"`{command}`, {datetime.now(timezone.utc):%Y-%m-%d} UTC. {about()}.\n"
    yield from (f"- {sentence}" for sentence in summary(rows))
    yield "\n### The worst of each kind\n"
    yield "Of float32, float16 and bfloat16, then of float64, over all norms, data and backends:\n"
    yield from markdown.table(("error", "unit", "bound", "worst", "where", "float64", "where"), _worst_of_kinds(rows))
    long = [row for row in rows if row.data == LONG.name]
    usual = [row for row in rows if row.data != LONG.name]
    yield "\n### By data, in float32\n"
    yield "The worst of all norms and backends, and PyTorch's worst; bold where it is beyond normcore's bound.\n"
    heads = ("data", "why", "variance", TORCH, "output", TORCH, "gradients", TORCH)
    yield from markdown.table(heads, _by_data([row for row in usual if row.case.dtype == "float32"]))
    if long:
        yield "\n### Groups of 2^24 values\n"
        yield "Error of the variance, of the output in its units, and of the worst gradient in its own.\n"
        yield from markdown.table(("norm", "dtype", *BACKENDS, TORCH), _long(long))
    for norm in dict.fromkeys(_norm(row) for row in usual):
        yield f"\n### {norm}\n"
        shapes = dict.fromkeys(row.case.size for row in usual if _norm(row) == norm)
        yield f"{', '.join(shapes)}; of all kinds of data the typical (median) and the worst error.\n"
        columns = ("dtype", "by", *PROMISES, "nearest to its bound", "calls")
        yield from markdown.table(columns, _of_norm([row for row in usual if _norm(row) == norm]))


def about() -> str:
    """The machine, the versions, and how wide the extended precision is."""
    versions = [f"{name} {_version(name)}" for name in ("numpy", "numba", "torch", "ml_dtypes")]
    bits = np.finfo(np.longdouble).nmant + 1
    wide = f"np.longdouble ({bits} bits), two passes" if EXTENDED else "float64 and math.fsum (longdouble is no wider)"
    return (
        f"{environment.cpu()}, Python {platform.python_version()}, normcore {nc.__version__}, {', '.join(versions)}; "
        f"one thread each; right results by {wide}"
    )


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Sentences computed from the rows."""
    ours = [row for row in rows if row.ours and not row.missing]
    failing = [row for row in ours if row.broken]
    counts = ", ".join(f"{name} {sum(row.contender == name for row in ours)}" for name in BACKENDS)
    verdict = f"**{len(failing)} of them do not**" if failing else "every one does"
    yield f"{len(ours)} calls of normcore ({counts}), forward and backward, have to keep the contract: {verdict}."
    yield from (f"**FAILS**: {failure(row)}." for row in failing)
    torch = [row for row in rows if not row.ours and not row.missing]
    if not torch:
        yield "PyTorch is not installed; there are no figures to put beside."
        return
    beyond = [row for row in torch if row.broken]
    yield (
        f"PyTorch on the same data: {len(beyond)} of {len(torch)} calls are beyond these bounds, which it "
        "does not promise (its statistics, kept in the dtype of x, may be off by 4 eps of that). "
        "Of each dtype, with the number of calls:"
    )
    for dtype in DTYPES:
        calls = [row for row in torch if row.case.dtype == dtype]
        beside = ((d.name, sum(bool(r.broken) for r in calls if r.data == d.name)) for d in (*DATA, LONG))
        where = ", ".join(f"{name} ({count})" for name, count in beside if count)
        if where:
            yield f"{dtype}, {sum(bool(row.broken) for row in calls)} of {len(calls)}: {where}."


def failure(row: Row) -> str:
    """What a row does not keep."""
    kinds = (f"{kind} {row.errors[kind]:.3g} (bound {bound(kind, row.case):g})" for kind in row.broken)
    return f"{row}: {', '.join(kinds)}"


def _worst_of_kinds(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    for kind, promise in PROMISES.items():
        cells = [kind, promise.unit, f"{promise.bound:g}" + (" (float64: + n)" if promise.grows else "")]
        for wide in (False, True):
            of = [r for r in rows if r.ours and kind in r.errors and (r.case.dtype == "float64") == wide]
            worst = max(of, key=lambda row: row.errors[kind], default=None)
            cells += [number(kind, worst.errors[kind]), str(worst)] if worst else ["-", "-"]
        yield cells


def _by_data(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    for data in DATA:
        of = [row for row in rows if row.data == data.name]
        cells = [data.name, data.reason]
        for kinds in (("variance",), ("output",), GRADIENTS):
            for who in (True, False):
                cells.append(_worst([row for row in of if row.ours == who], kinds))
        if of:
            yield cells


def _long(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    for case in dict.fromkeys(row.case for row in rows):
        cells = [f"{case.op} {case.layout}", case.dtype]
        for name in (*BACKENDS, TORCH):
            of = [row for row in rows if row.case == case and row.contender == name]
            cells.append(", ".join(_worst(of, kinds) for kinds in (("variance",), ("output",), GRADIENTS)))
        yield [cell if cell != "-, -, -" else "-" for cell in cells]


def _of_norm(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    for dtype in DTYPES:
        for name in (*BACKENDS, TORCH):
            of = [row for row in rows if row.case.dtype == dtype and row.contender == name and row.errors]
            if of:
                cells = [
                    _typical_and_worst([r.errors[kind] for r in of if kind in r.errors], kind) for kind in PROMISES
                ]
                yield [dtype, name, *cells, _nearest(of), str(len(of))]


def _typical_and_worst(errors: Sequence[float], kind: str) -> str:
    return f"{number(kind, median(errors))} / {number(kind, max(errors))}" if errors else "-"


def _nearest(rows: Sequence[Row]) -> str:
    """The data and the kind of error that are nearest to a bound, or farthest beyond it."""
    each = [(_share(row, kind), row, kind) for row in rows for kind in row.errors]
    _, row, kind = max(each, key=lambda found: found[0])
    return f"{row.data} ({kind})"


def _share(row: Row, kind: str) -> float:
    allowed = bound(kind, row.case, row.ours)
    return row.errors[kind] / allowed if allowed else (np.inf if row.errors[kind] else 0.0)


def _worst(rows: Sequence[Row], kinds: Sequence[str]) -> str:
    """The largest error of some kinds; bold where a bound is broken."""
    found = [(row.errors[kind], kind, kind in row.broken) for row in rows for kind in kinds if kind in row.errors]
    if not found:
        return "-"
    value, kind, _ = max(found)
    text = number(kind, value)
    return f"**{text}**" if any(broken for *_, broken in found) else text


def number(kind: str, value: float) -> str:
    """A relative error as a power of ten, others plainly."""
    if value == 0 or not np.isfinite(value):
        return f"{value:.0f}"
    return f"{value:.0e}" if kind in STATISTICS or value >= 1e4 else f"{value:.2g}"


def _norm(row: Row) -> str:
    layout = f" {row.case.layout}" if row.case.op == "batch_norm" else ""
    return row.case.op + layout


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
