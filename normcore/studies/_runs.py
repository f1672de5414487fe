"""TrainingRuns: the same trainings with several seeds, and what they have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ._estimate import Difference, Estimate, difference


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes
    ----------
    arm : str
        What was trained.
    seed : int
        From where it started.
    history : dict of str to list of float
        "loss", "accuracy", "val_loss", "val_accuracy": one value for each epoch; NaN after training diverged.
    seconds : list of float
        Wall-clock time of each epoch, training and validation.
    recorded : object
        What the arm's recorder has seen; None without one.
    """

    arm: str
    seed: int
    history: Mapping[str, Sequence[float]]
    seconds: Sequence[float]
    recorded: Any = None

    def best(self, key: str) -> float:
        """Return the best value of all epochs: the highest of an accuracy, else the lowest; NaN if none is finite."""
        numbers = [value for value in self.history[key] if math.isfinite(value)]
        return (max if rises(key) else min)(numbers, default=math.nan)

    @property
    def epoch_seconds(self) -> float:
        """The time of an epoch: the median, which a program that takes the cores for a moment does not move."""
        return median(self.seconds)

    def epochs_to(self, key: str, goal: float) -> int | None:
        """Return the number of epochs after which `goal` was first reached; None for never."""
        reached = (value >= goal if rises(key) else value <= goal for value in self.history[key])
        return next((epoch for epoch, done in enumerate(reached, 1) if done), None)

    def seconds_to(self, key: str, goal: float) -> float | None:
        """Return the time after which `goal` was first reached; None for never."""
        epochs = self.epochs_to(key, goal)
        return None if epochs is None else sum(self.seconds[:epochs])


@dataclass(frozen=True)
class TrainingRuns:
    """Trainings of several arms, each with several seeds.

    Attributes
    ----------
    runs : tuple of Run
        In the order in which they were done: all arms with the first seed, then with the next.
    planned : int
        How many there were to be; Ctrl-C leaves fewer.
    """

    runs: tuple[Run, ...]
    planned: int

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that have a run, in order."""
        return tuple(dict.fromkeys(run.arm for run in self.runs))

    @property
    def interrupted(self) -> str:
        """What is missing after Ctrl-C; empty if nothing is."""
        if len(self.runs) == self.planned:
            return ""
        return f"Interrupted: {len(self.runs)} of {self.planned} trainings were finished, and the tables are of these."

    @property
    def seeds(self) -> int:
        """How many seeds the arm with the most of them has."""
        return max(len(self.of(arm)) for arm in self.arms)

    def of(self, arm: str) -> list[Run]:
        """Return the runs of an arm, a seed each."""
        return [run for run in self.runs if run.arm == arm]

    def epochs(self, arm: str) -> int:
        """Return the number of epochs of an arm."""
        return len(self.of(arm)[0].seconds)

    def at(self, arm: str, key: str, epoch: int = -1) -> Estimate:
        """Return a value of an epoch, by default the last one, over the seeds."""
        return Estimate.over(run.history[key][epoch] for run in self.of(arm))

    def best(self, arm: str, key: str) -> Estimate:
        """Return the best value of all epochs over the seeds."""
        return Estimate.over(run.best(key) for run in self.of(arm))

    def epochs_to(self, arm: str, key: str, goal: float) -> Estimate:
        """Return after how many epochs `goal` was first reached, over the seeds that reached it."""
        return Estimate.over(run.epochs_to(key, goal) for run in self.of(arm))

    def seconds_to(self, arm: str, key: str, goal: float) -> Estimate:
        """Return after how many seconds `goal` was first reached, over the seeds that reached it."""
        return Estimate.over(run.seconds_to(key, goal) for run in self.of(arm))

    def epoch_seconds(self, arm: str) -> Estimate:
        """Return the time of an epoch over the seeds: the median of each training."""
        return Estimate.over(run.epoch_seconds for run in self.of(arm))

    def compare(self, arm: str, base: str, key: str, epoch: int = -1) -> Difference:
        """Return `arm` minus `base` in an epoch, seed by seed, for the seeds that both have."""
        return self._compare(arm, base, lambda run: run.history[key][epoch])

    def compare_seconds(self, arm: str, base: str) -> Difference:
        """Return the time of an epoch of `arm` minus that of `base`, likewise."""
        return self._compare(arm, base, lambda run: run.epoch_seconds)

    def _compare(self, arm: str, base: str, value: Callable[[Run], float]) -> Difference:
        theirs = {run.seed: value(run) for run in self.of(base)}
        own = [run for run in self.of(arm) if run.seed in theirs]
        return difference([value(run) for run in own], [theirs[run.seed] for run in own])


def rises(key: str) -> bool:
    """Whether more is better."""
    return key.endswith("accuracy")
