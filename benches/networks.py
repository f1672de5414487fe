"""Steps of training beside PyTorch eager: the same network, the same start, the same batch, its fastest optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import normcore as nc
from benches.contenders import torch_
from benches.results import OURS, Result
from benches.timing import interleaved

PEER = "PyTorch"
_TOLERANCE = 1e-3  # of the losses of the first steps
_STEPS = 3
# A training is a loop of thousands of steps: its threads are awake, its weights in the caches. One untimed step after
# a pause of 10 ms does not get there, ours or PyTorch's.
_WARM, _SAMPLE = 20e-3, 10e-3


class Network(NamedTuple):
    """A multilayer perceptron with batch norm, and how it is trained."""

    sizes: tuple[int, ...]
    activation: str
    rows: int
    optimizer: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As the table of targets calls it."""
        sizes = "eight layers of ten" if set(self.sizes) == {10} else "-".join(map(str, self.sizes))
        return f"training {sizes} {self.activation} batch {self.rows} {self.optimizer}"


_ADAM = {"lr": 1e-3}
_NESTEROV = {"lr": 1e-2, "momentum": 0.9, "nesterov": True}
NETWORKS: tuple[Network, ...] = (
    Network((3072, 64, 32, 10), "relu", 10, "Adam", _ADAM),
    Network((784, 128, 64, 10), "relu", 32, "Adam", _ADAM),
    Network((10,) * 10, "tanh", 64, "Adam", _ADAM),
    Network((784, 512, 256, 128, 64, 10), "sigmoid", 128, "SGD", _NESTEROV),
    Network((784, 1024, 1024, 1024, 10), "relu", 256, "Adam", _ADAM),
)
QUICK: tuple[Network, ...] = (Network((6, 5, 3), "relu", 8, "Adam", _ADAM),)
# PyTorch's ways of updating the parameters: one by one, all in a few calls, in one kernel.
UPDATES: tuple[Mapping[str, bool], ...] = ({"foreach": False}, {"foreach": True}, {"fused": True})


def measure(network: Network, threads: int, seconds: float, rounds: int) -> Result:
    """Time a step of both.

    Parameters
    ----------
    network : Network
    threads : int
        For both.
    seconds, rounds
        As in `interleaved`.

    Returns
    -------
    Result
        With PyTorch missing where it is absent, or where its losses are others.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((network.rows, network.sizes[0]), np.float32)
    y = np.arange(network.rows) % network.sizes[-1]
    model = nc.MLP(list(network.sizes), activation=network.activation, norm="batch", seed=0)
    start = {key: value.copy() for key, value in model.state_dict().items()}
    ours = _our_step(network, model, x, y)
    losses = [ours() for _ in range(_STEPS)]
    ways: dict[str, dict[str, Callable[[], Any]]] = {OURS: {"step": ours}}
    missing: dict[str, str] = {}
    with nc.threads(threads):
        if torch_.absent():
            missing[PEER] = f"absent: {torch_.absent()}"
            times = interleaved(ways, seconds, rounds, warm=_WARM, sample=_SAMPLE)
        else:
            with _torch_threads(threads):
                ways[PEER] = {}
                for update in UPDATES:
                    step = _their_step(network, start, x, y, update)
                    theirs = [step() for _ in range(_STEPS)]
                    if not np.allclose([float(loss) for loss in theirs], losses, rtol=_TOLERANCE):
                        raise ArithmeticError(f"{network.name}: PyTorch's losses {theirs} are not normcore's {losses}")
                    ways[PEER][" ".join(update)] = step
                times = interleaved(ways, seconds, rounds, warm=_WARM, sample=_SAMPLE)
    best = {name: times.best(name)[0] for name in ways}
    return Result(network.name, None, times.medians(), best, missing=missing)


def _our_step(network: Network, model: Any, x: Any, y: Any) -> Callable[[], Any]:
    optimizer = getattr(nc.optim, network.optimizer)(model.parameters(), **network.settings)
    criterion = nc.nn.CrossEntropyLoss()

    def step() -> Any:
        loss = criterion(model(x), y)
        model.backward_parameters(criterion.backward())  # PyTorch computes no gradient of the input either
        optimizer.step()
        return loss

    return step


def _their_step(
    network: Network, start: Mapping[str, Any], x: Any, y: Any, update: Mapping[str, bool]
) -> Callable[[], Any]:
    import torch
    from torch import nn

    activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[network.activation]
    layers: list[Any] = []
    for features, outputs in zip(network.sizes[:-2], network.sizes[1:-1], strict=True):
        layers += [nn.Linear(features, outputs), nn.BatchNorm1d(outputs), activation()]
    model = nn.Sequential(*layers, nn.Linear(network.sizes[-2], network.sizes[-1]))
    # torch.tensor copies: it must not train our arrays.
    model.load_state_dict({key: torch.tensor(np.asarray(value)) for key, value in start.items()})
    optimizer = getattr(torch.optim, network.optimizer)(model.parameters(), **network.settings, **update)
    criterion = nn.CrossEntropyLoss()
    inputs, target = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> Any:
        optimizer.zero_grad()
        loss = criterion(model(inputs), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@contextmanager
def _torch_threads(n: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
