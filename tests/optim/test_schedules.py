"""Schedules by hand, their states (hypothesis), and every error message. Values against PyTorch: tests/with_torch."""

from __future__ import annotations

import copy
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import optim
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
    return kind(
        [{"params": [Parameter(np.ones(2))]}, {"params": [Parameter(np.ones(3))], "lr": 10 * lr}], lr, **options
    )


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        assert [group["lr"] for group in schedule.optimizer.param_groups] == schedule.get_last_lr()
        schedule.step()
    return found


def test_by_hand():
    assert rates(StepLR(optimizer(), 2, 0.5), 5) == [1, 1, 0.5, 0.5, 0.25]
    assert rates(MultiStepLR(optimizer(), [3, 1, 3], 0.5), 5) == [1, 0.5, 0.5, 0.125, 0.125]
    assert rates(ExponentialLR(optimizer(), 0.5), 4) == [1, 0.5, 0.25, 0.125]
    assert rates(LinearLR(optimizer(), 0.25, 1.0, 3), 5) == [0.25, 0.5, 0.75, 1, 1]
    cosine = rates(CosineAnnealingLR(optimizer(), 4, 0.5), 5)
    np.testing.assert_allclose(cosine, [1, 0.75 + math.sqrt(2) / 8, 0.75, 0.75 - math.sqrt(2) / 8, 0.5], rtol=1e-15)
    linear = OneCycleLR(
        optimizer(), 1.0, 5, pct_start=0.6, anneal_strategy="linear", div_factor=2.0, final_div_factor=5.0,
        cycle_momentum=False,
    )  # fmt: skip
    np.testing.assert_allclose(rates(linear, 5), [0.5, 0.75, 1, 0.55, 0.1], rtol=1e-15)


def test_every_group_has_its_own_start():
    o = optimizer()
    schedule = StepLR(o, 1, 0.5)
    schedule.step()
    assert schedule.base_lrs == [1, 10]
    assert schedule.get_last_lr() == [0.5, 5]
    schedule.get_last_lr().append(3)  # a copy
    assert schedule.get_last_lr() == [0.5, 5]
    assert o.lr == 0.5


@pytest.mark.parametrize(("kind", "name"), [(SGD, "momentum"), (Adam, "betas")])
def test_one_cycle_moves_momentum_against_the_rate(kind, name):
    o = optimizer(kind=kind)
    schedule = OneCycleLR(o, 1.0, 10, base_momentum=0.5, max_momentum=0.9)
    values = []
    for _ in range(10):
        value = o.param_groups[1][name]
        values.append(value[0] if name == "betas" else value)
        if schedule.last_epoch < 9:
            schedule.step()
    np.testing.assert_allclose([values[0], min(values), values[-1]], [0.9, 0.5, 0.9], rtol=1e-15)
    assert np.argmin(values) == 2  # the top, at pct_start * 10 - 1
    for p in o.params:
        p.grad = np.ones(p.shape)
    o.step()


def test_when_the_trainer_steps_them():
    o = optimizer()
    assert StepLR(o, 1).per_epoch is True
    assert CosineAnnealingLR(o, 5).per_epoch is True
    assert LinearLR(o, per_epoch=False).per_epoch is False
    assert OneCycleLR(o, 0.1, 10).per_epoch is False
    parts = [LinearLR(o, per_epoch=False), StepLR(o, 2, per_epoch=False)]
    assert SequentialLR(o, parts, [3]).per_epoch is False


def test_a_schedule_of_ones_own():
    class Root(Schedule):
        def factor(self, step):
            return 1 / math.sqrt(step + 1)

    np.testing.assert_allclose(rates(Root(optimizer()), 4), [1, 1 / math.sqrt(2), 1 / math.sqrt(3), 0.5])
    with pytest.raises(NotImplementedError, match=r"Schedule has no factor\(step\)"):
        Schedule(optimizer())


BUILDERS = {
    "step": lambda o, n: StepLR(o, n, 0.5),
    "multi": lambda o, n: MultiStepLR(o, [1, n, n]),
    "exponential": lambda o, n: ExponentialLR(o, 1 / n),
    "linear": lambda o, n: LinearLR(o, 0.1, 0.9, n),
    "cosine": lambda o, n: CosineAnnealingLR(o, n, 0.01),
    "cycle": lambda o, n: OneCycleLR(o, 1.0, n + 60, three_phase=n % 2 == 0),
    "sequence": lambda o, n: SequentialLR(o, [LinearLR(o, 0.1), CosineAnnealingLR(o, n + 5), StepLR(o, n)], [n, 3 * n]),
}


@given(
    name=st.sampled_from(sorted(BUILDERS)), n=st.integers(1, 20), before=st.integers(0, 30), after=st.integers(1, 20)
)
def test_a_state_goes_on_where_it_was(name, n, before, after):
    straight = BUILDERS[name](optimizer(), n)
    for _ in range(before):
        straight.step()
    # through JSON, whose keys are strings: what a checkpoint without pickle does
    state = json.loads(json.dumps(straight.state_dict()))
    resumed = BUILDERS[name](optimizer(), n)
    resumed.load_state_dict(state)
    twin = copy.deepcopy(straight)
    for _ in range(after):
        for schedule in (straight, resumed, twin):
            schedule.step()
        for schedule in (resumed, twin):
            assert schedule.get_last_lr() == straight.get_last_lr()
            for group, other in zip(schedule.optimizer.param_groups, straight.optimizer.param_groups, strict=True):
                assert {k: v for k, v in group.items() if k != "params"} == {
                    k: v for k, v in other.items() if k != "params"
                }
    assert repr(resumed) == repr(straight)


def test_repr():
    assert repr(StepLR(optimizer(), 3)) == "StepLR(step_size=3, gamma=0.1, per_epoch=True)"


class Plain(Optimizer):
    """Without momentum."""


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda _: StepLR("o", 1), TypeError, "StepLR: optimizer must be an optimizer object, got str."),
        (lambda _: OneCycleLR(3, 1.0, 5), TypeError, "OneCycleLR: optimizer must be an optimizer object, got int."),
        (lambda o: StepLR(o, 0), ValueError, "StepLR: step_size must be a positive int, got 0."),
        (lambda o: StepLR(o, 1.5), TypeError, "StepLR: step_size must be a positive int, got 1.5."),
        (lambda o: StepLR(o, 1, -0.1), ValueError, "StepLR: gamma must be in [0, inf), got -0.1."),
        (lambda o: MultiStepLR(o, 3), TypeError, "MultiStepLR: milestones must be positive ints, got 3."),
        (lambda o: MultiStepLR(o, [1, 0]), ValueError, "MultiStepLR: milestones must be positive ints, got [1, 0]."),
        (lambda o: MultiStepLR(o, [0.5]), TypeError, "MultiStepLR: milestones must be positive ints, got [0.5]."),
        (lambda o: ExponentialLR(o, np.nan), ValueError, "ExponentialLR: gamma must be in [0, inf), got nan."),
        (lambda o: LinearLR(o, 0.0), ValueError, "LinearLR: start_factor must be in (0, 1], got 0.0."),
        (lambda o: LinearLR(o, 0.5, 1.5), ValueError, "LinearLR: end_factor must be in [0, 1], got 1.5."),
        (lambda o: LinearLR(o, total_iters=0), ValueError, "LinearLR: total_iters must be a positive int, got 0."),
        (lambda o: CosineAnnealingLR(o, -1), ValueError, "CosineAnnealingLR: T_max must be a positive int, got -1."),
        (lambda o: CosineAnnealingLR(o, 1, -1.0), ValueError, "CosineAnnealingLR: eta_min must be in [0, inf), got"),
        (lambda o: OneCycleLR(o, 1.0), ValueError, "OneCycleLR: total_steps is missing; pass it, or both epochs and"),
        (lambda o: OneCycleLR(o, 1.0, epochs=3), ValueError, "OneCycleLR: total_steps is missing; "),
        (lambda o: OneCycleLR(o, -1.0, 5), ValueError, "OneCycleLR: max_lr must be in [0, inf), got -1.0."),
        (lambda o: OneCycleLR(o, [1.0], 5), ValueError, "OneCycleLR: max_lr must be one number or 2, one for each"),
        (lambda o: OneCycleLR(o, 1.0, 5, pct_start=2), ValueError, "OneCycleLR: pct_start must be in [0, 1], got 2."),
        (lambda o: OneCycleLR(o, 1.0, 5, anneal_strategy="x"), ValueError, "anneal_strategy must be 'cos' or 'linear'"),
        (
            lambda o: OneCycleLR(o, 1.0, 5, anneal_strategy=np.array(["cos"])),
            ValueError,
            "OneCycleLR: anneal_strategy must be 'cos' or 'linear', got an ndarray of shape (1,).",
        ),
        (lambda o: OneCycleLR(o, 1.0, 5, div_factor=0), ValueError, "OneCycleLR: div_factor must be in (0, inf), got"),
        (
            lambda o: OneCycleLR(o, 1.0, 5, max_momentum=1),
            ValueError,
            "OneCycleLR: max_momentum must be in [0, 1), got",
        ),
        (
            lambda o: OneCycleLR(Plain(o.params, 0.1), 1.0, 5),
            TypeError,
            "OneCycleLR: Plain has neither momentum nor betas; pass cycle_momentum=False.",
        ),
        (
            lambda o: SequentialLR(o, [], []),
            ValueError,
            "SequentialLR: schedulers must all have the same per_epoch, and",
        ),
        (
            lambda o: SequentialLR(o, StepLR(o, 1), []),
            TypeError,
            "SequentialLR: schedulers must be a list of schedules, got StepLR; put it into a list.",
        ),
        (
            lambda o: SequentialLR(o, [3], []),
            TypeError,
            "SequentialLR: schedulers must hold single schedules, got int.",
        ),
        (
            lambda o: SequentialLR(o, [StepLR(o, 1), LinearLR(o, per_epoch=False)], [2]),
            ValueError,
            "SequentialLR: schedulers must all have the same per_epoch, and be at least one, got "
            "StepLR(per_epoch=True), LinearLR(per_epoch=False); pass the same per_epoch to each of them.",
        ),
        (
            lambda o: SequentialLR(o, [LinearLR(o), OneCycleLR(o, 1.0, 9)], [2]),
            ValueError,
            "SequentialLR: schedulers must all have the same per_epoch, and be at least one, got "
            "LinearLR(per_epoch=True), OneCycleLR(per_epoch=False); pass the same per_epoch to each of them.",
        ),
        (lambda o: StepLR(o, 1, per_epoch="no"), TypeError, "StepLR: per_epoch must be True or False, got 'no'."),
        (lambda o: OneCycleLR(o, 1.0, 5, per_epoch=1), TypeError, "OneCycleLR: per_epoch must be True or False, got 1"),
        (
            lambda o: OneCycleLR(o, 1.0, 5, three_phase="no"),
            TypeError,
            "OneCycleLR: three_phase must be True or False, got 'no'.",
        ),
        (
            lambda o: OneCycleLR(o, 1.0, 5, cycle_momentum=None),
            TypeError,
            "OneCycleLR: cycle_momentum must be True or False, got None.",
        ),
        (lambda o: StepLR(o, 1, last_epoch=0.5), TypeError, "StepLR: last_epoch must be an int, got 0.5."),
        (
            lambda o: ExponentialLR(o, 1.0, -2),
            ValueError,
            "ExponentialLR: last_epoch must be -1 to begin, or the last step that was done, got -2.",
        ),
        (
            lambda o: LinearLR(o, last_epoch=3),
            ValueError,
            "LinearLR: last_epoch=3 goes on with a schedule, but group 0 of the optimizer has no 'initial_lr'; load "
            "the optimizer's state dict first, or leave last_epoch out.",
        ),
        (
            lambda o: OneCycleLR(o, 1.0, 5, last_epoch=3),
            ValueError,
            "OneCycleLR: last_epoch=3 goes on with a schedule, but group 0 of the optimizer has no 'initial_lr'; ",
        ),
        (
            lambda o: SequentialLR(o, [StepLR(o, 1), StepLR(o, 2)], []),
            ValueError,
            "SequentialLR: milestones must be one fewer than schedulers, got 0 for 2.",
        ),
        (
            lambda o: SequentialLR(o, [StepLR(optimizer(), 1)], []),
            ValueError,
            "SequentialLR: StepLR belongs to another optimizer; make all for the same one.",
        ),
    ],
)
def test_arguments(make, error, message):
    o = optimizer()
    before = o.state_dict()
    with pytest.raises(error, match=re.escape(message)):
        make(o)
    if "SequentialLR" not in message:  # whose parts had been made
        assert o.state_dict() == before


def test_a_step_beyond_the_cycle():
    schedule = OneCycleLR(optimizer(), 1.0, 3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(ValueError, match=r"^OneCycleLR: step 4 is beyond total_steps=3; make the cycle as long as"):
        schedule.step()
    assert schedule.last_epoch == 3


@given(length=st.integers(2, 20), begin=st.integers(1, 10), end=st.integers(1, 30), done=st.integers(0, 12))
def test_steps_left(length, begin, end, done):
    """As many as can be done."""
    o = optimizer(momentum=0.5)
    assert StepLR(o, 1).steps_left() == math.inf
    cycle = OneCycleLR(o, 1.0, length, per_epoch=True)
    parts = [LinearLR(o), cycle, StepLR(o, 2)][: 2 if end > 15 else 3]
    schedule = SequentialLR(o, parts, [begin, begin + end][: len(parts) - 1])
    for _ in range(done):
        try:
            schedule.step()
        except ValueError:
            break
    left, count = schedule.steps_left(), 0
    try:
        while count < 60:
            schedule.step()
            count += 1
    except ValueError:
        assert left == count
    else:
        assert left == math.inf


def test_a_last_epoch_beyond_the_cycle():
    o = optimizer(momentum=0.5)
    OneCycleLR(o, 1.0, 5)
    before = o.state_dict()
    with pytest.raises(ValueError, match=r"^OneCycleLR: last_epoch=5 is beyond total_steps=5\.$"):
        OneCycleLR(o, 1.0, 5, last_epoch=5)
    assert o.state_dict() == before


def test_a_step_beyond_a_cycle_in_a_sequence():
    o = optimizer(momentum=0.5)
    cycle = OneCycleLR(o, 1.0, 4, per_epoch=True)
    schedule = SequentialLR(o, [LinearLR(o, total_iters=2), cycle], [2])
    for _ in range(6):
        schedule.step()
    before = o.state_dict()
    with pytest.raises(ValueError, match=r"^OneCycleLR: step 5 is beyond total_steps=4; make the cycle as long as"):
        schedule.step()
    assert schedule.last_epoch == 6
    assert o.state_dict() == before


LAST_EPOCH = {
    "step": lambda o, n, k: StepLR(o, n, 0.5, k),
    "multi": lambda o, n, k: MultiStepLR(o, [1, n, n], last_epoch=k),
    "exponential": lambda o, n, k: ExponentialLR(o, 1 / n, k),
    "linear": lambda o, n, k: LinearLR(o, 0.1, 0.9, n, k),
    "cosine": lambda o, n, k: CosineAnnealingLR(o, n, 0.01, k),
    "cycle": lambda o, n, k: OneCycleLR(o, 1.0, n + 60, last_epoch=k),
    "sequence": lambda o, n, k: SequentialLR(o, [LinearLR(o, 0.1), CosineAnnealingLR(o, n + 5)], [n], k),
}


@given(name=st.sampled_from(sorted(LAST_EPOCH)), n=st.integers(1, 20), done=st.integers(0, 30))
def test_last_epoch_goes_on_where_the_optimiser_was(name, n, done):
    straight = LAST_EPOCH[name](optimizer(momentum=0.5), n, -1)
    for _ in range(done):
        straight.step()
    o = optimizer(lr=7.0)
    o.load_state_dict(straight.optimizer.state_dict())
    resumed = LAST_EPOCH[name](o, n, done - 1)
    for _ in range(10):
        assert resumed.last_epoch == straight.last_epoch
        assert o.state_dict() == straight.optimizer.state_dict()
        assert resumed.get_last_lr() == straight.get_last_lr()
        straight.step()
        resumed.step()


def test_a_group_added_after_the_schedule():
    o = optimizer()
    schedule = StepLR(o, 1)
    o.add_param_group({"params": [Parameter(np.ones(1))]})
    with pytest.raises(ValueError, match="the optimizer has 3 groups, but had 2 when this was made; add groups before"):
        schedule.step()


@pytest.mark.parametrize(
    ("make", "change", "error", "message"),
    [
        ("step", lambda _: [], TypeError, "StepLR.load_state_dict: state_dict must be a mapping, got list."),
        ("step", lambda s: s.pop("gamma"), ValueError, "state_dict has no gamma; pass one of StepLR."),
        ("cosine", lambda s: s.pop("last_epoch"), ValueError, "state_dict has no last_epoch; pass one of Cosine"),
        ("step", lambda s: s.update(last_epoch=-2), ValueError, "base_lrs must be numbers and last_epoch a count"),
        ("step", lambda s: s.update(base_lrs=["a", 1]), ValueError, "base_lrs must be numbers and last_epoch a count"),
        (
            "step",
            lambda s: s.update(base_lrs=[1.0]),
            ValueError,
            "state_dict is for 1 groups, but the optimizer has 2.",
        ),
        ("multi", lambda s: s.update(milestones={"x": 1}), ValueError, "MultiStepLR.load_state_dict: "),
        ("cycle", lambda s: s.update(use_beta1=True), ValueError, "state_dict is for an optimizer of another kind."),
        ("cycle", lambda s: s.update(last_epoch=900), ValueError, "last_epoch=900 is beyond total_steps=64."),
        ("sequence", lambda s: s.pop("_schedulers"), ValueError, "SequentialLR.load_state_dict: "),
        ("sequence", lambda s: s["_schedulers"].pop(), ValueError, "state_dict is for 2 schedulers, but there are 3."),
        (
            "sequence",
            lambda s: s["_schedulers"][2].pop("gamma"),
            ValueError,
            "state_dict has no gamma; pass one of Step",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(make, change, error, message):
    schedule = BUILDERS[make](optimizer(), 4)
    for _ in range(7):
        schedule.step()
    state = copy.deepcopy(schedule.state_dict())
    before, groups = copy.deepcopy(state), schedule.optimizer.state_dict()
    changed = change(state)
    with pytest.raises(error, match=re.escape(message)):
        schedule.load_state_dict(changed if error is TypeError else state)
    assert schedule.state_dict() == before
    assert schedule.optimizer.state_dict() == groups


def test_everything_is_exported():
    for name in (
        "StepLR",
        "MultiStepLR",
        "ExponentialLR",
        "LinearLR",
        "CosineAnnealingLR",
        "OneCycleLR",
        "SequentialLR",
    ):
        assert issubclass(getattr(optim, name), Schedule)
