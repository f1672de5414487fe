"""What the tests of training share: small data, small networks, and their bits."""

from __future__ import annotations

import numpy as np

from normcore.nn import MLP, BatchNorm1d, Dropout, Linear, ReLU, Sequential
from normcore.optim import Adam
from normcore.training import Trainer


def data(rows=60, seed=0, dtype=np.float32):
    """Three classes, told apart by the largest of three of the four features."""
    X = np.random.default_rng(seed).normal(size=(rows, 4))
    return X.astype(dtype), X[:, :3].argmax(axis=1)


def trainer(seed=0, lr=0.01, **options):
    model = MLP([4, 8, 3], seed=seed)
    return Trainer(model, Adam(model.parameters(), lr=lr), **options)


def with_dropout(seed=0, **options):
    """Everything random: rows, masks, starting values."""
    rng = np.random.default_rng(seed)
    model = Sequential(
        Linear(4, 8, rng=rng),
        BatchNorm1d(8),
        ReLU(),
        Dropout(0.3, rng=seed),
        Linear(8, 3, rng=rng),
        Dropout(0.1, rng=rng),
    )
    return Trainer(model, Adam(model.parameters(), lr=0.01), **options)


def bits(t):
    """Model and optimiser, as bytes."""
    found = {name: value.tobytes() for name, value in t.model.state_dict().items()}
    for i, entry in t.optimizer.state_dict()["state"].items():
        found |= {f"{i} {name}": np.asarray(value).tobytes() for name, value in entry.items()}
    return found | {"lr": t.optimizer.lr}


class PerStep:
    """A schedule that steps with every batch."""

    def __init__(self, optimizer, factor=0.9):
        self.optimizer, self.factor, self.count = optimizer, factor, 0

    def step(self):
        self.count += 1
        self.optimizer.lr *= self.factor

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]


class PerEpoch(PerStep):
    """A schedule that steps with every epoch."""

    per_epoch = True
