"""Sentences that compare arms, computed from the numbers, with what chance may have done."""

from __future__ import annotations

from ._estimate import Difference, Estimate
from ._runs import TrainingRuns

_STUCK = 0.02  # an accuracy this little above a guess is none


def versus(runs: TrainingRuns, arm: str, base: str) -> str:
    """How the validation accuracy of `arm` ended against `base`, how soon it was there, and what an epoch cost."""
    accuracy = runs.at(arm, "val_accuracy").mean
    text = (
        f"{capitalised(arm)} ended at a validation accuracy of {accuracy:.2%}, "
        f"{points(runs.compare(arm, base, 'val_accuracy'), base)}"
    )
    return f"{text}; {_soonness(runs, arm, base)}, and {_cost(runs, arm, base)}."


def unlearned(runs: TrainingRuns, guess: float) -> list[str]:
    """A sentence about the arms that ended no better than by always naming the most frequent class, if there are."""
    stuck = [arm for arm in runs.arms if not runs.at(arm, "val_accuracy").mean > guess + _STUCK]
    if not stuck:
        return []
    return [
        f"Learned next to nothing: {'; '.join(stuck)}. Always naming the most frequent class has a validation "
        f"accuracy of {guess:.2%}."
    ]


def points(gap: Difference, base: str) -> str:
    """A difference of accuracies in percentage points, with its interval."""
    size = f"{abs(gap.mean) * 100:.2f} points {'above' if gap.mean > 0 else 'below'} {base}"
    if not gap.mean:
        return f"as {base} did"
    if gap.seeds < 2:
        return f"{size} (one seed, so it may be chance)"
    if gap.tied:
        return f"{size} (the same with each of {gap.seeds} seeds, so there is no interval, and it may be chance)"
    between = f"95 % interval {gap.low * 100:+.2f} to {gap.high * 100:+.2f} over {gap.seeds} seeds"
    return f"{size} ({between}{'' if gap.clear else ', so it may be chance'})"


def capitalised(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _soonness(runs: TrainingRuns, arm: str, base: str) -> str:
    """Epochs to the best validation accuracy that `base` has with the same seed."""
    key = "val_accuracy"
    best = {run.seed: run.best(key) for run in runs.of(base)}
    own = [run for run in runs.of(arm) if run.seed in best]
    ours = Estimate.over(run.epochs_to(key, best[run.seed]) for run in own)
    seeds = {run.seed for run in own}
    theirs = Estimate.over(run.epochs_to(key, best[run.seed]) for run in runs.of(base) if run.seed in seeds)
    if not ours.count:
        return f"it never reached the best that {base} had"
    which = "" if ours.count == ours.of else f" with {ours.count} of {ours.of} seeds"
    if ours.show(repr) == theirs.show(repr):  # not ==: the spread of one seed is NaN, which from 3.13 on equals nothing
        return f"it reached the best of {base} as soon as that did"
    epochs = "1 epoch" if ours.mean == 1 else f"{ours.mean:.3g} epochs"
    return f"it reached the best of {base} after {epochs}{which}, where {base} took {theirs.mean:.3g}"


def _cost(runs: TrainingRuns, arm: str, base: str) -> str:
    own, other = runs.epoch_seconds(arm).mean, runs.epoch_seconds(base).mean
    text = f"an epoch took {own:.3g} s against {other:.3g} s"
    return text if runs.compare_seconds(arm, base).clear else f"{text}, which may be chance"
