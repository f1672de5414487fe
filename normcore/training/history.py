"""History: what happened in each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = 10


class History:
    """The values of every epoch of one `Trainer.fit`.

    Attributes
    ----------
    history : dict of str to list of float
        "loss", the metrics ("accuracy" for a classifier), and with validation data "val_loss", "val_accuracy", ...;
        one value for each epoch.
    epoch : list of int
        0, 1, ..., as in Keras.
    seconds : list of float
        Wall-clock time of each epoch, training and validation.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.seconds: list[float] = []

    def append(self, logs: Mapping[str, float], seconds: float) -> None:
        """Add an epoch."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch.append(len(self.epoch))
        self.seconds.append(float(seconds))

    def to_dict(self) -> dict[str, Any]:
        """Return copies as `{"epoch": [...], "seconds": [...], "history": {name: [...]}}`, ready for `json.dump`."""
        return {
            "epoch": list(self.epoch),
            "seconds": list(self.seconds),
            "history": {name: list(values) for name, values in self.history.items()},
        }

    def __len__(self) -> int:
        return len(self.epoch)

    def __repr__(self) -> str:
        count = len(self)
        head = f"History({count} epoch{'' if count == 1 else 's'}, {sum(self.seconds):.2f} s)"
        if not count:
            return head
        names = list(self.history)
        rows = [["epoch", *names, "seconds"]]
        for i, number in enumerate(self.epoch):
            values = [format_value(self.history[name][i]) for name in names]
            rows.append([str(number + 1), *values, f"{self.seconds[i]:.2f}"])
        if count > _SHOWN:
            rows[_SHOWN // 2 + 1 : -_SHOWN // 2] = [["..."] * len(rows[0])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([head, *lines])


def format_value(value: float) -> str:
    """A loss or metric with four digits that tell something: 0.9312, 12.3457, 3.21e-05."""
    return f"{value:.4f}" if value == 0 or 1e-2 <= abs(value) < 1e5 else f"{value:.3g}"
