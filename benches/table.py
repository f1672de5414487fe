"""The comparison as text: a row for each result, geometric means, and what became of the targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import geometric_mean

from benches.results import COPY, OURS, Result
from benches.targets import AT_MOST, MEAN, Outcome
from normcore._bench import duration

_NAME, _CELL = 62, 10
BUSY = 0.1  # of the CPUs taken by others: a line's times are not to be trusted
VERDICTS = {True: "holds", False: "MISSES", None: "not measured"}


def head(columns: Sequence[str]) -> str:
    """The headings; `columns` are the contenders besides normcore and the copy."""
    return f"{'':<{_NAME}}" + "".join(f"{name:>{_CELL}}" for name in (OURS, "x copy", *columns))


def row(result: Result, columns: Sequence[str]) -> str:
    """A line of the table."""
    return f"{result.name + mark(result):<{_NAME}}" + "".join(f"{cell:>{_CELL}}" for cell in cells(result, columns))


def mark(result: Result) -> str:
    """A star for what was measured on a busy machine."""
    return "*" if result.busy is not None and result.busy > BUSY else ""


def cells(result: Result, columns: Sequence[str]) -> list[str]:
    """Our time or amount, the multiple of the copy, and how many times as long the others take."""
    ours = duration(result.seconds[OURS]) if OURS in result.seconds else _reason(result, OURS)
    if result.amount is not None:
        ours = f"{result.amount:.2f}" + (" ms" if result.seconds else " MB")
    found = [ours, _ratio(result, OURS, COPY)]
    return found + [_ratio(result, name, OURS) for name in columns]


def _ratio(result: Result, name: str, other: str) -> str:
    ratio = result.over(name, other)
    absent = COPY if other == COPY else name
    return f"{ratio:.2f}" if ratio is not None else _reason(result, absent)


def _reason(result: Result, name: str) -> str:
    reason = result.missing.get(name, "")
    for start, cell in (("absent", "absent"), ("failed", "failed"), ("not in this version", "none yet")):
        if reason.startswith(start):
            return cell
    return "-"


def reasons(results: Sequence[Result]) -> Iterator[str]:
    """Why a cell is empty: each reason once, with the number of lines and the first of them."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for name, reason in result.missing.items():
            if reason:
                found.setdefault((name, reason), []).append(result.name)
    for (name, reason), names in found.items():
        yield f"{name}: {reason} ({len(names)}: {names[0]}{', ...' if len(names) > 1 else ''})"


def means(results: Sequence[Result], columns: Sequence[str]) -> Iterator[str]:
    """The geometric means of each operation, direction, layout and dtype."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.case is not None and OURS in result.seconds:
            groups.setdefault(result.case.group, []).append(result)
    for group, members in groups.items():
        values = [_mean([x.over(OURS, COPY) for x in members])]
        values += [_mean([x.over(name, OURS) for x in members]) for name in columns]
        yield f"{group:<{_NAME}}{'':>{_CELL}}" + "".join(f"{value:>{_CELL}}" for value in values)


def _mean(ratios: Sequence[float | None]) -> str:
    known = [ratio for ratio in ratios if ratio is not None]
    return f"{geometric_mean(known):.2f}" if known else "-"


def verdict(outcome: Outcome) -> list[str]:
    """A target's name, bound, value, verdict, and where it is worst."""
    target = outcome.target
    sign = "<=" if target.sense == AT_MOST else ">="
    bound = f"{sign} {target.bound:g}{target.unit}"
    if outcome.value is None or outcome.mean is None:
        return [target.name, bound, "", VERDICTS[None], ""]
    value = f"{outcome.value:.3g}{target.unit}"
    notes = [target.statistic] if outcome.cases > 1 else []
    if outcome.cases > 1:
        notes += [f"geometric mean {outcome.mean:.3g}"] if target.statistic != MEAN else []
        notes += [f"{outcome.beyond} of {outcome.cases} beyond the bound"]
        notes += [f"worst {outcome.where}"]
    return [target.name, bound, value, VERDICTS[outcome.holds], "; ".join(notes)]


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """All targets."""
    for outcome in outcomes:
        name, bound, value, holds, notes = verdict(outcome)
        yield f"{name:<{_NAME}}{bound:>{_CELL + 2}}{value:>{_CELL}}  {holds:<13} {notes}".rstrip()
    counts = [sum(outcome.holds is kind for outcome in outcomes) for kind in (True, False, None)]
    yield f"\n{counts[0]} hold, {counts[1]} missed, {counts[2]} not measured"
