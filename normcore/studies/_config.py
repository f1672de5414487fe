"""What the configs of studies have in common, and their checks: one sentence, which begins with the option's name."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from normcore.data import DATASETS

# The options that a command line has for every study; where the data are decides no number.
OPTIONS = ("data", "epochs", "seed", "repeats")


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the numbers of a study that trains classifiers with several seeds.

    Attributes
    ----------
    data : str
        The data set; `DATA` holds those that the study takes.
    hidden : tuple of int
        Units in each hidden layer; features and classes are those of the data.
    epochs, batch_size : int
        How long to train, and in which steps.
    lr : float
        The learning rate.
    seed : int
        Of the first repeat, the next has the next number: for the starting weights and the order of the batches.
    repeats : int
        With how many seeds everything is done.
    data_dir : str, optional
        Where the data are looked for first.

    Raises
    ------
    ValueError, TypeError
        If a value makes no study.
    """

    data: str = "digits"
    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 5
    batch_size: int = 32
    lr: float = 1e-3
    seed: int = 0
    repeats: int = 3
    data_dir: str | None = field(default=None, compare=False, repr=False)

    DATA: ClassVar[tuple[str, ...]] = DATASETS
    QUICK: ClassVar[Mapping[str, Any]] = {"repeats": 1}

    def __post_init__(self) -> None:
        one_of(self.data, self.DATA, "data")
        sizes(self.hidden, "hidden")
        whole(self.epochs, "epochs")
        whole(self.batch_size, "batch_size", 2, ", as batch norm needs two rows")
        positive(self.lr, "lr")
        whole(self.seed, "seed", 0)
        whole(self.repeats, "repeats")

    @property
    def seeds(self) -> range:
        """The seed of each repeat."""
        return range(self.seed, self.seed + self.repeats)


def whole(value: Any, name: str, least: int = 1, why: str = "") -> None:
    """Refuse what is no int of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {value!r}") from None
    if number < least:
        raise ValueError(
            f"{name} must be {least} or more{why}, got {value}"
            if not least
            else f"{name} must be at least {least}{why}, got {value}"
        )


def positive(value: Any, name: str) -> None:
    """Refuse what is no positive, finite number."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive number, got {value}")


def finite(value: Any, name: str) -> None:
    """Refuse what is no finite number."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value}")


def one_of(value: Any, names: Sequence[str], option: str) -> None:
    """Refuse what is none of `names`."""
    if value not in names:
        raise ValueError(f"{option} must be {in_words(names)}, got {value!r}")


def in_words(names: Sequence[str]) -> str:
    """Return "a, b or c"."""
    return " or ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


def several(values: Any, name: str) -> None:
    """Refuse a tuple that is empty or holds something twice."""
    if not isinstance(values, tuple):
        raise TypeError(f"{name} must be a tuple, got {values!r}")
    if not values or len(set(values)) != len(values):
        raise ValueError(f"{name} must hold at least one value, and none twice, got {values}")


def sizes(values: Any, name: str) -> None:
    """Refuse what is no tuple of layer sizes."""
    if not isinstance(values, tuple):
        raise TypeError(f"{name} must be a tuple of ints, got {values!r}")
    if not values:
        raise ValueError(f"{name} must name at least one layer, for there is nothing to normalise without, got ()")
    for value in values:
        whole(value, f"every entry of {name}")


def contents(config: Any) -> dict[str, Any]:
    """Return what decides the numbers: the fields of a config, without where the data are."""
    return {item.name: getattr(config, item.name) for item in fields(config) if item.compare}


def command(study: str, config: Any) -> str:
    """Return the command line that gives the numbers of this config, or if there is none, the line of Python."""
    kind, given = type(config), contents(config)
    for quick in (False, True):
        base = contents(kind(**kind.QUICK) if quick else kind())
        changed = {name: value for name, value in given.items() if value != base[name]}
        if changed.keys() <= set(OPTIONS):
            options = [f"--{name} {value}" for name, value in changed.items()]
            return " ".join(["normcore study", study, *(["--quick"] if quick else []), *options])
    module = kind.__module__.rpartition(".")[2]
    base = contents(kind())
    changed = {name: value for name, value in given.items() if value != base[name]}
    arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return f"{module}.run({module}.Config({arguments}))"
