"""One cycle by its formula, sequences, and state dicts of schedules: what only a comparison with numbers can tell."""

from __future__ import annotations

import copy
import json
import math
import re

import numpy as np
import pytest

from normcore.nn import Parameter
from normcore.optim import (
    SGD,
    Adam,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    Optimizer,
    Schedule,
    SequentialLR,
    StepLR,
)


def optimizer(lr=1.0, kind=SGD, **options):
    params = [Parameter(np.ones(2)), Parameter(np.ones(3))]
    return kind([{"params": params[:1]}, {"params": params[1:], "lr": 10 * lr}], lr=lr, **options)


# --- one cycle --------------------------------------------------------------------------------------------------------


def between(start, end, share, strategy):
    """From start (share 0) to end (share 1): half a cosine, or a line."""
    weight = (1 - math.cos(math.pi * share)) / 2 if strategy == "cos" else share
    return start + (end - start) * weight


def one_cycle(steps, top, low, high, pct, strategy, div, final, three):
    """(rate, momentum) of each step, from Smith & Topin 2018 with PyTorch's phases."""
    first, last = top / div, top / div / final
    ends = [pct * steps - 1, 2 * pct * steps - 2, steps - 1] if three else [pct * steps - 1, steps - 1]
    rates = [first, top, first, last] if three else [first, top, last]
    momenta = [high, low, high, high] if three else [high, low, high]
    found = []
    for step in range(steps):
        phase = next(i for i, end in enumerate(ends) if step <= end)
        start = ends[phase - 1] if phase else 0.0
        share = (step - start) / (ends[phase] - start)
        found.append(tuple(between(values[phase], values[phase + 1], share, strategy) for values in (rates, momenta)))
    return found


@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_one_cycle_by_its_formula(three, strategy, kind):
    o = optimizer(kind=kind)
    schedule = OneCycleLR(
        o, [2.0, 3.0], 20, pct_start=0.3, anneal_strategy=strategy, base_momentum=0.6, max_momentum=[0.9, 0.8],
        div_factor=10.0, final_div_factor=50.0, three_phase=three,
    )  # fmt: skip
    want = [one_cycle(20, top, 0.6, high, 0.3, strategy, 10.0, 50.0, three) for top, high in ((2.0, 0.9), (3.0, 0.8))]
    for step in range(20):
        for group, expected in zip(o.param_groups, want, strict=True):
            momentum = group["betas"][0] if kind is Adam else group["momentum"]
            np.testing.assert_allclose((group["lr"], momentum), expected[step], rtol=1e-13, err_msg=str(step))
            if kind is Adam:
                assert group["betas"][1] == 0.999
        if step < 19:
            schedule.step()


def test_defaults_of_one_cycle():
    o = optimizer(momentum=0.5)
    OneCycleLR(o, 1.0, epochs=3, steps_per_epoch=4)
    group = o.param_groups[0]
    assert (group["initial_lr"], group["max_lr"]) == (1 / 25, 1.0)
    assert group["min_lr"] == pytest.approx(1 / 25e4, rel=1e-15)
    assert (group["max_momentum"], group["base_momentum"]) == (0.95, 0.85)
    np.testing.assert_allclose((group["lr"], group["momentum"]), (1 / 25, 0.95), rtol=1e-15)


def test_epochs_and_steps_are_multiplied():
    assert OneCycleLR(optimizer(), 1.0, epochs=3, steps_per_epoch=4).total_steps == 12
    for wrong in ({"epochs": 0, "steps_per_epoch": 4}, {"epochs": 3, "steps_per_epoch": 0}):
        name = next(name for name, value in wrong.items() if value == 0)
        with pytest.raises(ValueError, match=rf"^OneCycleLR: {name} must be "):
            OneCycleLR(optimizer(), 1.0, **wrong)
    for missing in ({"epochs": 3}, {"steps_per_epoch": 4}):
        with pytest.raises(ValueError, match="OneCycleLR: total_steps is missing"):
            OneCycleLR(optimizer(), 1.0, **missing)


def test_a_cycle_that_begins_at_its_top():
    schedule = OneCycleLR(optimizer(), 1.0, 5, pct_start=0.2, anneal_strategy="linear", final_div_factor=5.0)
    assert schedule.get_last_lr()[0] == 1.0  # the first phase has no length: it is at its end


def test_without_momentum_the_momentum_is_left_alone():
    o = optimizer(momentum=0.5)
    schedule = OneCycleLR(o, 1.0, 9, cycle_momentum=False)
    schedule.step()
    assert [group["momentum"] for group in o.param_groups] == [0.5, 0.5]
    assert "max_momentum" not in o.param_groups[0]
    assert "use_beta1" not in schedule.state_dict()
    again = OneCycleLR(o, 1.0, 9, cycle_momentum=False, last_epoch=schedule.last_epoch)  # nor is it asked for
    assert again.last_epoch == schedule.last_epoch + 1


def test_the_end_of_a_cycle_may_be_loaded():
    options = dict(pct_start=0.5, anneal_strategy="linear", div_factor=1.0, final_div_factor=2.0)
    schedule = OneCycleLR(optimizer(), 1.0, 4, **options)
    for _ in range(4):
        schedule.step()
    assert schedule.get_last_lr()[0] == 0.25  # from 1 at step 1 to 0.5 at step 3, and one step further
    state = schedule.state_dict()
    assert state["last_epoch"] == state["total_steps"] == 4
    other = OneCycleLR(optimizer(), 1.0, 4, **options)
    other.load_state_dict(state)
    assert other.get_last_lr() == schedule.get_last_lr()


def test_a_cycle_takes_over_the_phases_of_another():
    long, short = (OneCycleLR(optimizer(), 1.0, n, three_phase=n > 10) for n in (30, 9))
    for _ in range(5):
        long.step()
    short.load_state_dict(long.state_dict())
    assert short.state_dict() == long.state_dict()
    state = long.state_dict()
    short.load_state_dict(state)
    before = copy.deepcopy(state)
    for given in (state, short.state_dict(), long.state_dict()):  # copies
        given["_schedule_phases"][0]["end_step"] = 1000
        given["_schedule_phases"].pop()
    assert long.state_dict() == short.state_dict() == before
    for _ in range(20):
        long.step()
        short.step()
        assert short.get_last_lr() == long.get_last_lr()


def test_going_on_with_a_cycle_needs_its_range():
    o = optimizer(momentum=0.5)
    StepLR(o, 2)  # leaves initial_lr
    with pytest.raises(ValueError, match=r"group 0 of the optimizer has no 'max_lr'; load the optimizer's state dict"):
        OneCycleLR(o, 1.0, 9, last_epoch=3)


@pytest.mark.parametrize("name", ["total_steps", "div_factor", "final_div_factor"])
def test_a_number_that_does_not_fit_is_named(name):
    with pytest.raises(ValueError, match=rf"^OneCycleLR: {name} must be "):
        OneCycleLR(optimizer(), 1.0, **{"total_steps": 9, name: 0})


def test_a_cycle_without_momentum_is_for_any_optimizer():
    class Plain(Optimizer):
        pass

    cycles = [OneCycleLR(Plain([Parameter(np.ones(1))], 0.1), 1.0, 9, cycle_momentum=False) for _ in range(2)]
    cycles[0].step()
    cycles[1].load_state_dict(cycles[0].state_dict())
    assert cycles[1].get_last_lr() == cycles[0].get_last_lr()


@pytest.mark.parametrize(
    ("made", "saved", "message"),
    [
        (
            {"cycle_momentum": False},
            {},
            "state_dict cycles momentum, but this schedule was made with cycle_momentum=False.",
        ),
        ({}, {"kind": Adam}, "state_dict is for an optimizer of another kind."),
    ],
)
def test_a_cycle_of_another_kind_is_refused(made, saved, message):
    schedule = OneCycleLR(optimizer(), 1.0, 9, **made)
    state = OneCycleLR(optimizer(**saved), 1.0, 9).state_dict()
    with pytest.raises(ValueError, match=re.escape(f"OneCycleLR.load_state_dict: {message}")):
        schedule.load_state_dict(state)


# --- the other schedules ----------------------------------------------------------------------------------------------


def test_per_epoch_reaches_every_schedule():
    o = optimizer()
    for schedule in (
        StepLR(o, 2, per_epoch=False), MultiStepLR(o, [2], per_epoch=False), ExponentialLR(o, 0.5, per_epoch=False),
        LinearLR(o, per_epoch=False), CosineAnnealingLR(o, 5, per_epoch=False), OneCycleLR(o, 1.0, 5),
    ):  # fmt: skip
        assert schedule.per_epoch is False
        assert repr(schedule).endswith(", per_epoch=False)")
    assert repr(MultiStepLR(o, [4, 2], 0.5)) == "MultiStepLR(milestones=[2, 4], gamma=0.5, per_epoch=True)"


def test_defaults_of_schedules():
    class Halving(Schedule):
        def factor(self, step):
            return 0.5**step

    schedule = Halving(optimizer())
    assert schedule.per_epoch is True
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 5.0]
    for kind, when in ((MultiStepLR, [1]), (StepLR, 1)):
        schedule = kind(optimizer(), when)
        schedule.step()
        assert schedule.get_last_lr() == [0.1, 1.0]


def test_defaults_of_a_line_and_a_cosine():
    line, cosine = LinearLR(optimizer()), CosineAnnealingLR(optimizer(), 2)
    for step in range(7):
        np.testing.assert_allclose(line.get_last_lr(), np.array([1.0, 10.0]) * min(1, (5 + 2 * step) / 15), rtol=1e-14)
        line.step()
    for _ in range(2):
        cosine.step()
    assert cosine.get_last_lr() == [0.0, 0.0]


def test_milestones_are_loaded_with_their_factor():
    first, second = MultiStepLR(optimizer(), [1, 3], 0.5), MultiStepLR(optimizer(), [2])
    first.step()
    second.load_state_dict(first.state_dict())
    assert repr(second) == repr(first) == "MultiStepLR(milestones=[1, 3], gamma=0.5, per_epoch=True)"
    assert second.get_last_lr() == [0.5, 5.0]


def test_a_repr_hides_what_is_not_an_option():
    assert "_anneal_func_type" in OneCycleLR(optimizer(), 1.0, 5).state_dict()
    assert repr(OneCycleLR(optimizer(), 1.0, 5)) == "OneCycleLR(total_steps=5, cycle_momentum=True, per_epoch=False)"


@pytest.mark.parametrize("milestones", [3, "12", "", None, [0], [2.5], ["a"]])
def test_milestones_are_positive_ints(milestones):
    with pytest.raises((TypeError, ValueError), match=r"^MultiStepLR: milestones must be positive ints, got "):
        MultiStepLR(optimizer(), milestones)


@pytest.mark.parametrize("gamma", [-0.5, np.inf])
def test_gamma_is_a_factor(gamma):
    with pytest.raises(ValueError, match=r"^MultiStepLR: gamma must be in \[0, inf\), got "):
        MultiStepLR(optimizer(), [2], gamma)


def test_the_layout_of_a_state_is_pytorchs():
    schedule = StepLR(optimizer(), 2, 0.5)
    for _ in range(3):
        schedule.step()
    assert schedule.state_dict() == {
        "step_size": 2, "gamma": 0.5, "base_lrs": [1.0, 10.0], "last_epoch": 3, "_step_count": 4,
        "_last_lr": [0.5, 5.0],
    }  # fmt: skip


def test_loading_a_state_sets_options_and_rates():
    state = StepLR(optimizer(), 3, 0.25).state_dict() | {"last_epoch": 6, "base_lrs": (2.0, 4.0)}
    o = optimizer()
    schedule = StepLR(o, 1, 0.5)
    schedule.load_state_dict(state)
    assert repr(schedule) == "StepLR(step_size=3, gamma=0.25, per_epoch=True)"
    assert schedule.get_last_lr() == [2 / 16, 4 / 16]
    assert [group["lr"] for group in o.param_groups] == [2 / 16, 4 / 16]


@pytest.mark.parametrize(
    "change",
    [
        {"last_epoch": None}, {"last_epoch": math.inf}, {"last_epoch": -1}, {"base_lrs": None},
        {"base_lrs": [math.nan, 1.0]}, {"base_lrs": [1.0, math.inf]}, {"base_lrs": [10**400, 1.0]},
    ],
)  # fmt: skip
def test_counts_and_rates_of_a_state_are_finite(change):
    schedule = StepLR(optimizer(), 2)
    with pytest.raises(ValueError, match="base_lrs must be numbers and last_epoch a count; pass what state_dict"):
        schedule.load_state_dict(schedule.state_dict() | change)
    assert schedule.base_lrs == [1.0, 10.0]


@pytest.mark.parametrize("gamma", [None, "x", []])
def test_an_option_of_a_state_that_is_no_number_changes_nothing(gamma):
    schedule = StepLR(optimizer(), 2, 0.5)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=r"^StepLR.load_state_dict: "):
        schedule.load_state_dict(before | {"gamma": gamma, "last_epoch": 4})
    assert schedule.state_dict() == before


def test_a_step_that_no_run_has_done():
    o = optimizer()
    StepLR(o, 2)
    assert StepLR(o, 2, last_epoch=2**53).last_epoch == 2**53 + 1
    message = f"StepLR: last_epoch must be -1 to begin, or the last step that was done, got {2**53 + 1}."
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        StepLR(o, 2, last_epoch=2**53 + 1)


@pytest.mark.parametrize("last_epoch", [0, 3])
def test_going_on_needs_what_the_first_schedule_left(last_epoch):
    with pytest.raises(ValueError, match=r"has no 'initial_lr'; load the optimizer's state dict first"):
        StepLR(optimizer(), 2, last_epoch=last_epoch)
    StepLR(optimizer(), 2, last_epoch=-1)


# --- sequences --------------------------------------------------------------------------------------------------------


def sequence(o):
    parts = [LinearLR(o, 0.5, 1.0, 2), StepLR(o, 1, 0.5), ExponentialLR(o, 0.1)]
    return SequentialLR(o, iter(parts), [2, 4])


def test_a_sequence_by_hand():
    o = optimizer()
    schedule = sequence(o)
    rates = []
    for _ in range(7):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    np.testing.assert_allclose(rates, [0.5, 0.75, 1.0, 0.5, 1.0, 0.1, 0.01], rtol=1e-15)


def test_a_sequence_has_no_sequence_in_it():
    o = optimizer()
    inner = SequentialLR(o, [StepLR(o, 1), StepLR(o, 2)], [3])
    with pytest.raises(TypeError, match=r"^SequentialLR: schedulers must hold single schedules, got SequentialLR\.$"):
        SequentialLR(o, [inner, StepLR(o, 1)], [2])


def test_a_sequence_goes_on_elsewhere():
    straight = sequence(optimizer())
    for _ in range(3):
        straight.step()
    state = json.loads(json.dumps(straight.state_dict()))
    assert [part["last_epoch"] for part in state["_schedulers"]] == [1, 1, 0]
    assert state["_milestones"] == [2, 4]
    for change in ({}, {"base_lrs": None}, {"base_lrs": [3.0, 4.0]}, {"_milestones": [2, 5]}):
        given = copy.deepcopy(state) | change
        if given["base_lrs"] is None:
            del given["base_lrs"]  # PyTorch's has none
        given["_schedulers"][2]["last_epoch"] = -1  # PyTorch's, of one that has not begun
        other = sequence(optimizer())
        other.load_state_dict(given)
        assert other.get_last_lr() == straight.get_last_lr()
        assert other.base_lrs == given.get("base_lrs", [1.0, 10.0])
        assert other.state_dict()["_milestones"] == given["_milestones"]
        assert [part.last_epoch for part in other._schedulers] == [1, 1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["_schedulers"][2].update(gamma=None), "ExponentialLR.load_state_dict: "),
        (lambda s: s["_schedulers"][2].pop("gamma"), "ExponentialLR.load_state_dict: state_dict has no gamma"),
        (lambda s: s["_schedulers"].__setitem__(2, 5), "SequentialLR.load_state_dict: "),
        (lambda s: s["_milestones"].pop(), "state_dict is for 3 schedulers, but there are 3."),
        (lambda s: s.update(_milestones=3), "milestones must be positive ints, got 3."),
    ],
)
def test_a_sequence_is_loaded_as_a_whole_or_not_at_all(change, message):
    further = sequence(optimizer())
    for _ in range(5):
        further.step()
    state = copy.deepcopy(further.state_dict())
    change(state)
    schedule = sequence(optimizer())
    before, rates = copy.deepcopy(schedule.state_dict()), [g["lr"] for g in schedule.optimizer.param_groups]
    with pytest.raises(ValueError, match=re.escape(message)):
        schedule.load_state_dict(state)
    assert schedule.state_dict() == before
    assert [g["lr"] for g in schedule.optimizer.param_groups] == rates
    schedule.step()
    assert schedule.get_last_lr()[0] == 0.75


def test_what_is_no_mapping_is_no_state_of_a_sequence():
    with pytest.raises(TypeError, match=r"SequentialLR\.load_state_dict: state_dict must be a mapping, got list\.$"):
        sequence(optimizer()).load_state_dict([("base_lrs", [1.0])])


def test_steps_left_of_a_sequence_that_a_cycle_cuts_short():
    o = optimizer(momentum=0.5)
    cycle = OneCycleLR(o, 1.0, 4, per_epoch=True)
    schedule = SequentialLR(o, [cycle, StepLR(o, 2)], [9])
    assert schedule.steps_left() == 4
    for left in (3, 2, 1, 0):
        schedule.step()
        assert schedule.steps_left() == left
    other = optimizer(momentum=0.5)
    for end, left in ((5, math.inf), (6, 4)):  # step 4 is the last the cycle can do, and the last before 5
        parts = [OneCycleLR(other, 1.0, 4, per_epoch=True), StepLR(other, 2)]
        assert SequentialLR(other, parts, [end]).steps_left() == left
