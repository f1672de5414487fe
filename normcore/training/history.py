"""History: what happened in each epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from normcore._reading import opened

from ._files import as_path, write_atomically
from ._json import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        """Add an epoch. Names that some epochs lack, because training went on with other arguments, are NaN there."""
        count = len(self.epoch)
        for name, value in logs.items():
            self.history.setdefault(name, [math.nan] * count).append(float(value))
        for name in self.history.keys() - logs.keys():
            self.history[name].append(math.nan)
        self.seconds.append(float(seconds))
        self.epoch.append(count)

    def _trim(self) -> None:
        """Forget an epoch that Ctrl-C caught while it was being added."""
        count = len(self.epoch)
        for name in [name for name, values in self.history.items() if len(values) > count]:
            del self.history[name][count:]
            if not self.history[name]:
                del self.history[name]
        del self.seconds[count:]

    def to_dict(self) -> dict[str, Any]:
        """Return copies as `{"epoch": [...], "seconds": [...], "history": {name: [...]}}`, ready for `json.dump`."""
        return {
            "epoch": list(self.epoch),
            "seconds": list(self.seconds),
            "history": {name: list(values) for name, values in self.history.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> History:
        """Return the history that `to_dict` made `content` of.

        Parameters
        ----------
        content : mapping
            With "epoch", "seconds" and "history", as `to_dict` returns.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        try:
            epochs, seconds = list(content["epoch"]), [_number(value) for value in content["seconds"]]
            values = {str(name): [_number(value) for value in row] for name, row in content["history"].items()}
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            epochs, seconds, values = [None], [], {}
        count = len(epochs)
        whole = all(isinstance(epoch, Integral) and not isinstance(epoch, bool) for epoch in epochs)
        lengths = {len(seconds), *map(len, values.values())}
        if not whole or epochs != list(range(count)) or lengths != {count} or not all(map(math.isfinite, seconds)):
            raise ValueError('History: content must have "epoch", "seconds" and "history", as to_dict() returns.')
        history = cls()
        history.epoch, history.seconds, history.history = epochs, seconds, values
        return history

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return everything as JSON text, and with `path` write it there too, whole or not at all.

        Parameters
        ----------
        path : path, optional
            A file to write to.

        Returns
        -------
        str
            NaN is null there, and infinity a string, because JSON has no numbers for them.
        """
        content = self.to_dict()
        content["history"] = {name: [_in_json(value) for value in row] for name, row in content["history"].items()}
        text = json.dumps(content, allow_nan=False)
        if path is not None:
            write_atomically(as_path(path, "History.to_json"), (text + "\n").encode())
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> History:
        """Return the history that `to_json` wrote.

        Parameters
        ----------
        source : path, or the text itself
            A string that begins with a brace is the text.

        Raises
        ------
        ValueError
            If it is not what `to_json` writes.
        OSError
            If the file cannot be read, or is a folder, a pipe or a device.
        """
        where = ""
        if isinstance(source, str) and source.lstrip().startswith("{"):
            text = source
        else:
            path = as_path(source, "History.from_json", "source")
            where = f" (the file is {path!r})"
            try:
                with opened(path) as file:
                    content = file.read()
            except MemoryError:
                raise MemoryError(
                    f"History.from_json: there is not enough memory for what is in the file {path!r}."
                ) from None
            try:
                text = content.decode()
            except UnicodeError:
                text = ""
        try:
            found = parse(text)
        except ValueError:
            raise ValueError(f"History.from_json: source is no JSON; pass what to_json() wrote{where}.") from None
        if not isinstance(found, dict):
            raise ValueError(f"History.from_json: source is no history; pass what to_json() wrote{where}.")
        try:
            return cls.from_dict(found)
        except ValueError as error:
            raise ValueError(f"{str(error).removesuffix('.')}{where}.") from None

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return a table as CSV text, a line for each epoch, and with `path` write it there too.

        Parameters
        ----------
        path : path, optional
            A file to write to.

        Returns
        -------
        str
            The columns are epoch (from 0), the names, and seconds; every number reads back as the same float.
        """
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *self.history, "seconds"])
        for i, number in enumerate(self.epoch):
            writer.writerow([number, *(repr(row[i]) for row in self.history.values()), repr(self.seconds[i])])
        text = file.getvalue()
        if path is not None:
            write_atomically(as_path(path, "History.to_csv"), text.encode())
        return text

    def plot(self) -> Figure:
        """Draw every value over the epochs, training solid and validation dashed (needs matplotlib).

        Returns
        -------
        matplotlib.figure.Figure
            Belongs to nobody else: pyplot is not used. Save it with `figure.savefig(path)`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no epoch yet.
        """
        try:
            from ._plots import draw_history
        except ImportError:
            raise ImportError("History.plot: a picture needs the package matplotlib; install it.") from None

        return draw_history(self)

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


def _in_json(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(value: Any) -> float:
    """What `_in_json` made, or a number; of strings only those that are written, not all that float() takes."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not (isinstance(value, Real) or value in ("Infinity", "-Infinity")):
        raise TypeError
    return float(value)


def format_value(value: float) -> str:
    """A loss or metric with four digits that tell something: 0.9312, 12.3457, 3.21e-05."""
    return f"{value:.4f}" if value == 0 or 1e-2 <= abs(value) < 1e5 else f"{value:.3g}"
