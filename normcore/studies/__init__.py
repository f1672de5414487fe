"""Studies: experiments that run from one command and answer one question each.

``STUDIES`` is the whole table. A study is a module with a frozen dataclass ``Config`` and a function
``run(config, progress)`` that returns a `Result`. It is imported when it is asked for, matplotlib for pictures alone.
"""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any, NamedTuple

from ._result import Outcome as Outcome
from ._result import Result as Result
from ._two_arms import Arm as Arm
from ._two_arms import StudyResult as StudyResult


class Study(NamedTuple):
    """A row of the table of studies."""

    name: str
    sentence: str
    module: str

    @property
    def kind(self) -> Any:
        """The study's class ``Config``."""
        return importlib.import_module(self.module).Config

    def options(self) -> set[str]:
        """Return the names of all that its ``Config`` can be told."""
        return {item.name for item in fields(self.kind)}

    def config(self, quick: bool = False, **options: Any) -> Any:
        """Return the study's ``Config`` with these options changed; a ValueError says which one does not fit.

        With `quick`, what is not given is chosen for a look of a few seconds.
        """
        for name in options:
            if name not in self.options():
                raise ValueError(f"{name} is no option of the study {self.name}; leave it out")
        return self.kind(**{**(self.kind.QUICK if quick else {}), **options})

    def run(self, config: Any = None, progress: bool = False) -> Outcome:
        """Run the study and return its `Outcome`; with `progress`, show a bar on stderr."""
        module = importlib.import_module(self.module)
        outcome: Outcome = module.run(module.Config() if config is None else config, progress)
        return outcome


def _study(name: str, sentence: str) -> Study:
    return Study(name, sentence, f"normcore.studies.{name.replace('-', '_')}")


# The order is that of the report.
STUDIES = {
    study.name: study
    for study in (
        _study(
            "digits",
            "The same small network on 1,797 handwritten digits, without normalisation and with batch norm.",
        ),
        _study("norms", "No norm, batch, layer, group and RMS norm in a network of 128-64 ReLU units with Adam."),
        _study("activations", "Batch norm after the first of four hidden layers, with sigmoids and with ReLUs."),
        _study("depth", "Batch norm after 0, 1, 2, 3 and 4 hidden layers, with sigmoids and with ReLUs."),
        _study("optimizers", "SGD and Adam at the same learning rate, with and without batch norm."),
        _study("batch-size", "Batches of 4, 64, 256 and 1024 rows, with and without batch norm."),
        _study("cifar", "A small network on CIFAR-10, with and without batch norm: the loss of each 500 batches."),
        _study(
            "regression", "Eight badly initialised tanh layers on a noisy parabola, with histograms of every layer."
        ),
        _study(
            "scaling", "Features of very different scales: seven ways to scale them, and batch norm in the network."
        ),
        _study("shift", "How far the inputs of every layer move during training, with and without batch norm."),
        _study("inference", "Running averages, exact statistics and those of the batch at test time."),
        _study("worked-example", "Batch norm by hand on two small vectors: every step, with both kinds of variance."),
    )
}
