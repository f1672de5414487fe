"""The result of a study that trains arms: the tables and curves that all of them have, and what is its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ._config import TrainingConfig, contents
from ._picture import Picture
from ._result import Result
from ._run_tables import every_epoch, every_run, goals, last_epoch
from ._runs import TrainingRuns
from ._table import Table
from ._training import Trained
from ._verdict import unlearned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOALS = (0.5, 0.8, 0.9, 0.95, 0.96, 0.97, 0.98)  # validation accuracies
CAPTION = (
    "Loss (logarithmic) and accuracy over the epochs, training on the left and validation on the right. "
    "Lines are means over the seeds, shades reach from the lowest to the highest seed."
)


def arms_result(
    study: str,
    config: TrainingConfig,
    trained: Trained,
    *,
    title: str,
    question: str,
    notes: Sequence[str],
    conclusions: Sequence[str],
    curves: Mapping[str, tuple[str, Sequence[str]]],
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
    texts: Mapping[str, str] | None = None,
    print_epochs: bool = False,
) -> Result:
    """Return the result; `tables` and `pictures` come before those that all have.

    `curves` maps the name of a picture to its title and the arms in it.
    """
    runs = trained.runs
    present = {name: (heading, [arm for arm in arms if arm in runs.arms]) for name, (heading, arms) in curves.items()}
    return Result(
        study=study,
        title=f"{title}, on {trained.data.name}",
        question=question,
        notes=(*notes, trained.fairness),
        config=contents(config),
        tables=(
            *tables,
            last_epoch(runs),
            every_epoch(runs, "print" if print_epochs else "report"),
            *goals(runs, GOALS),
            every_run(runs),
        ),
        conclusions=(*conclusions, *unlearned(runs, trained.data.guess)),
        pictures=(
            *pictures,
            *(
                Picture(name, f"{heading}. {CAPTION}", partial(_draw, runs, f"{heading}, {trained.data.name}", arms))
                for name, (heading, arms) in present.items()
                if arms
            ),
        ),
        texts=texts or {},
        seconds=trained.seconds,
        environment=trained.environment,
        interrupted=runs.interrupted,
    )


def _draw(runs: TrainingRuns, title: str, arms: Sequence[str]) -> Figure:
    from ._drawing import curves

    return curves(runs, title, arms)
