"""Optimisers over hundreds of steps, schedules, groups and clipping against PyTorch."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import tol

import normcore as nc
from normcore import nn, optim
from normcore.nn import Parameter

# torch.nn, not torch: without PyTorch a folder of that name on sys.path would do for a package.
pytest.importorskip("torch.nn", reason="PyTorch, the peer compared with, is not installed")
torch = pytest.importorskip("torch", reason="PyTorch, the peer compared with, is not installed")

STEPS = 300
SHAPES = [(7, 5), (7,), (3, 7), (3,)]
OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.05}),
    "sgd decay": ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    "momentum": ("SGD", {"lr": 0.02, "momentum": 0.9}),
    "dampening": ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}),
    "dampening decay": ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": -0.3, "weight_decay": 0.1}),
    "nesterov": ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "nesterov decay": ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("Adam", {"lr": 0.02}),
    "adam decay": ("Adam", {"lr": 0.02, "weight_decay": 0.1}),
    "adam options": ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
    "adam betas 0": ("Adam", {"lr": 0.01, "betas": (0.0, 0.0)}),
    "adamw": ("AdamW", {"lr": 0.02}),
    "adamw options": ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3}),
    "adamw undecayed": ("AdamW", {"lr": 0.01, "weight_decay": 0.0}),
    "amsgrad": ("Adam", {"lr": 0.02, "betas": (0.9, 0.9), "amsgrad": True}),
    "amsgrad decay": ("Adam", {"lr": 0.02, "betas": (0.9, 0.8), "amsgrad": True, "weight_decay": 0.1}),
    "amsgrad adamw": ("AdamW", {"lr": 0.02, "betas": (0.9, 0.8), "amsgrad": True, "weight_decay": 0.3}),
    "maximize": ("SGD", {"lr": 0.005, "maximize": True}),
    "maximize decay": ("SGD", {"lr": 0.002, "momentum": 0.5, "nesterov": True, "maximize": True, "weight_decay": 0.1}),
    "maximize dampening": ("SGD", {"lr": 0.002, "momentum": 0.5, "dampening": 0.3, "maximize": True}),
    "maximize adam": ("Adam", {"lr": 0.02, "maximize": True, "weight_decay": 0.1}),
    "maximize adamw": ("AdamW", {"lr": 0.02, "maximize": True, "amsgrad": True}),
}
optimizers = pytest.mark.parametrize(("kind", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture(autouse=True)
def _one_thread_for_pytorch():
    """Its idle threads spin and keep the others off the cores of a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(dtype, seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    params = [Parameter(rng.normal(size=shape).astype(dtype)) for shape in shapes]
    return params, [torch.tensor(p.data, requires_grad=True) for p in params]


def set_gradients(params, peers, step):
    """Those of a bumpy bowl, at where the parameters of either side are: differences would grow, or shrink."""
    rng = np.random.default_rng([11, step])
    for p, q in zip(params, peers, strict=True):
        noise = rng.normal(size=p.shape).astype(p.dtype)
        p.grad = (p.data + np.sin(3 * p.data) + noise).astype(p.dtype)
        with torch.no_grad():
            q.grad = q + torch.sin(3 * q) + torch.from_numpy(noise)


def compare(params, peers, dtype, what=""):
    for p, q in zip(params, peers, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), **tol(dtype, kind="long trajectory"), err_msg=what)


def compare_states(optimizer, peer, dtype):
    ours, theirs = optimizer.state_dict(), peer.state_dict()
    assert list(ours["state"]) == [
        i for i, entry in theirs["state"].items() if any(v is not None for v in entry.values())
    ]
    for i, entry in ours["state"].items():
        assert list(entry) == list(theirs["state"][i])
        for name, value in entry.items():
            want = theirs["state"][i][name].numpy()
            np.testing.assert_allclose(value, want, **tol(dtype, kind="long trajectory"), err_msg=name)
    for group, peer_group in zip(ours["param_groups"], theirs["param_groups"], strict=True):
        for name, value in group.items():
            assert value == peer_group[name], name


def as_tensors(state):
    entries = {i: {k: torch.as_tensor(v) for k, v in entry.items()} for i, entry in state["state"].items()}
    return {"state": entries, "param_groups": state["param_groups"]}


@optimizers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["cython", "reference"])
def test_trajectories(kind, options, dtype, backend):
    params, peers = pair(dtype)
    with nc.use_backend(backend):
        optimizer, peer = getattr(optim, kind)(params, **options), getattr(torch.optim, kind)(peers, **options)
        for step in range(STEPS):
            set_gradients(params, peers, step)
            optimizer.step()
            peer.step()
            if step in (0, 1, 10, 100):
                compare(params, peers, dtype, f"step {step}")
    compare(params, peers, dtype)
    compare_states(optimizer, peer, dtype)


def groups_of(params, kind):
    first = {"lr": 0.03, "weight_decay": 0.2}
    second = {"lr": 0.01, **({"momentum": 0.5} if kind == "SGD" else {"betas": (0.6, 0.9), "eps": 1e-4})}
    return [{"params": params[:1], **first}, {"params": params[1:3], **second}, {"params": params[3:]}]


@optimizers
def test_groups(kind, options):
    options = {name: value for name, value in options.items() if name != "nesterov"}
    params, peers = pair(np.float64)
    optimizer = getattr(optim, kind)(groups_of(params, kind), **options)
    peer = getattr(torch.optim, kind)(groups_of(peers, kind), **options)
    for step in range(60):
        if step == 20:  # set by hand, as schedules of one's own do
            for o in (optimizer, peer):
                o.param_groups[1]["lr"] = 0.002
                o.param_groups[2]["weight_decay"] = 0.05
        if step == 30:  # over to PyTorch's state, and on
            theirs = peer.state_dict()
            optimizer = getattr(optim, kind)(groups_of(params, kind))
            optimizer.load_state_dict(theirs)
        if step == 45:  # and the other way
            ours = optimizer.state_dict()
            peer = getattr(torch.optim, kind)(groups_of(peers, kind))
            peer.load_state_dict(as_tensors(ours))
        set_gradients(params, peers, step)
        if step % 7 == 3:
            params[2].grad = peers[2].grad = None
        optimizer.step()
        peer.step()
    compare(params, peers, np.float64)
    compare_states(optimizer, peer, np.float64)


def test_a_group_added_later():
    params, peers = pair(np.float64)
    optimizer, peer = optim.Adam(params[:2], lr=0.01), torch.optim.Adam(peers[:2], lr=0.01)
    for step in range(20):
        if step == 5:
            optimizer.add_param_group({"params": params[2:], "lr": 0.1})
            peer.add_param_group({"params": peers[2:], "lr": 0.1})
        set_gradients(params, peers, step)
        optimizer.step()
        peer.step()
    compare(params, peers, np.float64)
    compare_states(optimizer, peer, np.float64)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "StepLR", "MultiStepLR", "ExponentialLR", "LinearLR",
                                  "CosineAnnealingLR", "OneCycleLR", "SequentialLR", "clip_grad_norm_"])  # fmt: skip
def test_arguments_and_defaults(kind):
    theirs = getattr(torch.optim, kind, None) or getattr(torch.optim.lr_scheduler, kind, None)
    theirs = torch.nn.utils.clip_grad_norm_ if theirs is None else theirs
    peers = inspect.signature(theirs).parameters
    for name, parameter in inspect.signature(getattr(optim, kind)).parameters.items():
        if name != "per_epoch":
            assert parameter.default == peers[name].default, name


# --- schedules --------------------------------------------------------------------------------------------------------

SCHEDULES = {
    "step": ("StepLR", {"step_size": 7}),
    "step gamma": ("StepLR", {"step_size": 3, "gamma": 0.5}),
    "multi step": ("MultiStepLR", {"milestones": [4, 9, 9, 30], "gamma": 0.3}),
    "exponential": ("ExponentialLR", {"gamma": 0.93}),
    "linear": ("LinearLR", {}),
    "warm-up": ("LinearLR", {"start_factor": 0.01, "total_iters": 20}),
    "fade": ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 11}),
    "cosine": ("CosineAnnealingLR", {"T_max": 40}),
    "cosine and on": ("CosineAnnealingLR", {"T_max": 13, "eta_min": 1e-3}),
    "one cycle": ("OneCycleLR", {"max_lr": 0.4, "total_steps": 40}),
    "one cycle epochs": ("OneCycleLR", {"max_lr": [0.4, 0.2], "epochs": 8, "steps_per_epoch": 5, "pct_start": 0.25}),
    "one cycle linear": ("OneCycleLR", {"max_lr": 0.4, "total_steps": 41, "anneal_strategy": "linear"}),
    "one cycle three": (
        "OneCycleLR",
        {"max_lr": 0.4, "total_steps": 40, "three_phase": True, "div_factor": 10.0, "final_div_factor": 100.0},
    ),
    "one cycle momentum": (
        "OneCycleLR", {"max_lr": 0.4, "total_steps": 40, "base_momentum": 0.5, "max_momentum": [0.9, 0.8]}
    ),
    "one cycle without momentum": ("OneCycleLR", {"max_lr": 0.4, "total_steps": 40, "cycle_momentum": False}),
}  # fmt: skip
schedules = pytest.mark.parametrize(("kind", "options"), SCHEDULES.values(), ids=SCHEDULES)
N = 40


def scheduled(kind, options, optimizer="SGD"):
    """An optimiser with two groups and a schedule, here and there."""
    found = []
    more = {"momentum": 0.7} if optimizer == "SGD" else {}
    for library, parameters in zip((optim, torch.optim), pair(np.float64), strict=True):
        groups = [{"params": parameters[:1], "lr": 0.2}, {"params": parameters[1:]}]
        o = getattr(library, optimizer)(groups, lr=0.05, **more)
        module = optim if library is optim else torch.optim.lr_scheduler
        found += [o, build(module, kind, o, options)]
    return found


def build(module, kind, optimizer, options):
    if kind != "SequentialLR":
        return getattr(module, kind)(optimizer, **options)
    parts = [getattr(module, name)(optimizer, **its) for name, its in options["parts"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own use of a deprecated argument
        return module.SequentialLR(optimizer, parts, milestones=options["milestones"])


def assert_groups_agree(ours, theirs):
    for group, peer in zip(ours.param_groups, theirs.param_groups, strict=True):
        for name in ("lr", "momentum", "betas"):
            if name in peer:
                # PyTorch multiplies step by step: 40 roundings of 1e-16, and an absolute one where a cosine ends at 0
                np.testing.assert_allclose(group[name], peer[name], rtol=1e-12, atol=1e-15, err_msg=name)


def peer_step(optimizer, schedule):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        optimizer.step()
        schedule.step()


SEQUENCES = {
    "warm-up, cosine": (
        "SequentialLR",
        {
            "parts": [("LinearLR", {"total_iters": 6}), ("CosineAnnealingLR", {"T_max": 34, "eta_min": 1e-3})],
            "milestones": [6],
        },
    ),
    "three": (
        "SequentialLR",
        {
            "parts": [("LinearLR", {"start_factor": 0.1, "total_iters": 4}), ("StepLR", {"step_size": 5}),
                      ("ExponentialLR", {"gamma": 0.9})],
            "milestones": [8, 20],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize(("kind", "options"), [*SCHEDULES.values(), *SEQUENCES.values()], ids=[*SCHEDULES, *SEQUENCES])
def test_values_of_schedules(kind, options, optimizer):
    ours, schedule, theirs, peer = scheduled(kind, options, optimizer)
    assert_groups_agree(ours, theirs)
    for step in range(N):
        if kind == "OneCycleLR" and step == N - 1 and "linear" not in options.values():
            break  # the last step of a cycle is at total_steps - 1
        schedule.step()
        peer_step(theirs, peer)
        assert_groups_agree(ours, theirs)
        np.testing.assert_allclose(schedule.get_last_lr(), peer.get_last_lr(), rtol=1e-12, atol=1e-15)


@schedules
def test_state_dicts_of_schedules_go_both_ways(kind, options):
    ours, schedule, theirs, peer = scheduled(kind, options)
    for _ in range(10):
        peer_step(theirs, peer)
    again, resumed, *_ = scheduled(kind, options)
    again.load_state_dict(theirs.state_dict())
    resumed.load_state_dict(peer.state_dict())
    assert_groups_agree(again, theirs)
    for _ in range(10):
        schedule.step()
    _, _, back, peer_resumed = scheduled(kind, options)
    back.load_state_dict(as_tensors(ours.state_dict()))
    state = schedule.state_dict()
    if kind == "MultiStepLR":
        from collections import Counter

        state["milestones"] = Counter(state["milestones"])
    peer_resumed.load_state_dict(state)
    for _ in range(12):
        resumed.step()
        peer_step(theirs, peer)
        peer_step(back, peer_resumed)
        assert_groups_agree(again, theirs)
        assert_groups_agree(again, back)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@schedules
def test_last_epoch(kind, options, optimizer):
    ours, schedule, theirs, peer = scheduled(kind, options, optimizer)
    for _ in range(10):
        schedule.step()
        peer_step(theirs, peer)
    found = []
    for module, before in ((optim, ours), (torch.optim.lr_scheduler, theirs)):
        library, parameters = (optim, pair(np.float64)[0]) if module is optim else (torch.optim, pair(np.float64)[1])
        again = getattr(library, optimizer)([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=0.5)
        again.load_state_dict(before.state_dict())
        found += [again, getattr(module, kind)(again, **options, last_epoch=9)]
    ours, schedule, theirs, peer = found
    for _ in range(12):
        assert schedule.last_epoch == peer.last_epoch
        assert_groups_agree(ours, theirs)
        schedule.step()
        peer_step(theirs, peer)


@pytest.mark.parametrize(("kind", "options"), SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("steps", [0, 3, 6, 7, 15, 25])
def test_the_state_of_a_sequence_from_pytorch(kind, options, steps):
    ours, schedule, theirs, peer = scheduled(kind, options)
    for _ in range(steps):
        peer_step(theirs, peer)
    ours.load_state_dict(theirs.state_dict())
    schedule.load_state_dict(peer.state_dict())
    for _ in range(12):
        assert_groups_agree(ours, theirs)
        schedule.step()
        peer_step(theirs, peer)


# --- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, np.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping(norm_type, max_norm, dtype):
    params, peers = pair(dtype)
    set_gradients(params, peers, 0)
    params[1].grad = peers[1].grad = None
    norm = optim.clip_grad_norm_(params, max_norm, norm_type)
    want = torch.nn.utils.clip_grad_norm_(peers, max_norm, norm_type)
    np.testing.assert_allclose(norm, float(want), **tol(dtype, 60, "dparam"))
    for p, q in zip(params, peers, strict=True):
        if q.grad is not None:
            np.testing.assert_allclose(p.grad, q.grad.numpy(), **tol(dtype, 60, "dparam"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, np.inf])
def test_clipping_what_is_not_finite(bad, norm_type):
    params, peers = pair(np.float64)
    set_gradients(params, peers, 0)
    params[2].grad[0, 0] = bad
    peers[2].grad[0, 0] = bad
    norm = optim.clip_grad_norm_(params, 1.0, norm_type)
    np.testing.assert_equal(norm, float(torch.nn.utils.clip_grad_norm_(peers, 1.0, norm_type)))
    for p, q in zip(params, peers, strict=True):
        np.testing.assert_array_equal(p.grad, q.grad.numpy())


@settings(max_examples=30)
@given(
    max_norm=st.floats(1e-6, 1e6), scale=st.floats(1e-6, 1e6), norm_type=st.sampled_from([1.0, 2.0, 2.5, float("inf")])
)
def test_clipping_of_any_size(max_norm, scale, norm_type):
    params, peers = pair(np.float64)
    for p, q in zip(params, peers, strict=True):
        p.grad = p.data * scale
        q.grad = (q * scale).detach()
    norm = optim.clip_grad_norm_(iter(params), max_norm, norm_type)
    np.testing.assert_allclose(norm, float(torch.nn.utils.clip_grad_norm_(peers, max_norm, norm_type)), rtol=1e-12)
    for p, q in zip(params, peers, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-12)


def test_a_whole_training_with_groups_schedule_and_clipping():
    """Everything at once, as a reader of PyTorch's tutorials would write it."""
    model = nc.MLP([6, 16, 4], activation="tanh", seed=0, dtype=np.float64)
    peer = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Tanh(), torch.nn.Linear(16, 4)
    ).double()
    peer.load_state_dict({name: torch.from_numpy(np.asarray(v)) for name, v in model.state_dict().items()})
    groups = optim.decay_groups(model, 0.1)
    order = {id(p): q for p, q in zip(model.parameters(), peer.parameters(), strict=True)}
    peer_groups = [{**group, "params": [order[id(p)] for p in group["params"]]} for group in groups]
    options = {"lr": 1e-3, "eps": 1e-6}
    optimizer, other = optim.AdamW(groups, **options), torch.optim.AdamW(peer_groups, **options)
    schedule = optim.OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)
    peer_schedule = torch.optim.lr_scheduler.OneCycleLR(other, max_lr=1e-2, total_steps=STEPS)
    criterion, rng = nn.CrossEntropyLoss(), np.random.default_rng(0)
    for _ in range(STEPS - 1):
        x, y = rng.normal(size=(20, 6)), rng.integers(4, size=20)
        criterion(model(x), y)
        model.backward_parameters(criterion.backward())
        norm = optim.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        other.zero_grad()
        torch.nn.functional.cross_entropy(peer(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        peer_norm = torch.nn.utils.clip_grad_norm_(peer.parameters(), 0.5)
        other.step()
        peer_schedule.step()
    # The bias in front of batch norm has a gradient of rounding noise, which Adam's eps keeps small but not away.
    np.testing.assert_allclose(norm, float(peer_norm), rtol=1e-6)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, peer.state_dict()[name].numpy(), rtol=1e-6, atol=1e-7, err_msg=name)
