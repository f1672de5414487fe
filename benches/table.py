"""The comparison as text: ratios, and their geometric mean over each group of shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import geometric_mean
from typing import Any, NamedTuple

from benches.cases import Case
from normcore._bench import duration

ABSENT = "absent"


class Line(NamedTuple):
    """What was measured for a case.

    Attributes
    ----------
    case : Case
    seconds : float
        Median of normcore.
    copies : float
        How many copies normcore's call costs.
    peers : dict of str to float or None
        How many times as long each peer takes as normcore; None where it is absent.
    ways : dict of str to str
        Which way of each contender was its fastest.
    medians : dict of str to float
        Seconds of each contender's fastest way.
    """

    case: Case
    seconds: float
    copies: float
    peers: dict[str, float | None]
    ways: dict[str, str]
    medians: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            **self.case._asdict(),
            "copies": self.copies,
            "peers": self.peers,
            "ways": self.ways,
            "seconds": self.medians,
        }


_WIDTHS = (36, 10, 9)


def head(peers: Sequence[str]) -> str:
    """The headings."""
    first = "".join(f"{name:<{_WIDTHS[0]}}" if not i else f"{name:>{_WIDTHS[i]}}" for i, name in enumerate(_TITLES))
    return first + "".join(f"{name:>{_peer_width(name)}}" for name in peers)


_TITLES = ("", "normcore", "x copy")


def row(line: Line) -> str:
    """A line of the table."""
    case = line.case
    name = f"{case.op} {case.direction:<9} {'x'.join(map(str, case.shape))}"
    if case.dtype != "float32":
        name += f" {case.dtype}"
    return _cells(name, duration(line.seconds), line.copies, line.peers)


def summary(lines: Sequence[Line]) -> Iterator[str]:
    """Geometric mean and worst line of each group, in the order of the lines."""
    for group, members in groupby(sorted(lines, key=lambda line: line.case.group), key=lambda line: line.case.group):
        some = list(members)
        peers: dict[str, float | None] = {}
        for name in some[0].peers:
            ratios = [ratio for line in some if (ratio := line.peers[name]) is not None]
            peers[name] = geometric_mean(ratios) if ratios else None
        yield _cells(group, "", geometric_mean(line.copies for line in some), peers)
        worst = max(some, key=lambda line: line.copies)
        yield f"    most copies: {worst.copies:.2f} at {'x'.join(map(str, worst.case.shape))}"


def _cells(name: str, time: str, copies: float, peers: dict[str, float | None]) -> str:
    text = f"{name:<{_WIDTHS[0]}}{time:>{_WIDTHS[1]}}{copies:>{_WIDTHS[2]}.2f}"
    for peer, ratio in peers.items():
        text += f"{ABSENT if ratio is None else f'{ratio:.2f}x':>{_peer_width(peer)}}"
    return text


def _peer_width(name: str) -> int:
    return max(len(name), len(ABSENT)) + 3
