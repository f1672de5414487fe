"""What the tests of training share: small data, small networks, and their bits."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest

from normcore.nn import MLP, BatchNorm1d, Dropout, Linear, ReLU, Sequential
from normcore.optim import Adam
from normcore.training import Callback, Trainer


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


class Record(Callback):
    """Keeps what was passed to it."""

    def __init__(self):
        self.events = []
        self.batches = []

    def on_train_begin(self, trainer):
        self.events.append(("train begin", trainer.model.training))

    def on_epoch_begin(self, trainer, epoch):  # noqa: ARG002 - the signature of what it overrides
        self.events.append(("epoch begin", epoch))

    def on_batch_end(self, trainer, batch, logs):  # noqa: ARG002 - the signature of what it overrides
        self.events.append(("batch end", batch))
        self.batches.append(dict(logs))

    def on_epoch_end(self, trainer, epoch, logs):
        assert {name: values[-1] for name, values in trainer.history.history.items()} == logs
        self.events.append(("epoch end", epoch))

    def on_train_end(self, trainer):
        self.events.append(("train end", trainer.model.training))


class Rows(Callback):
    """Keeps the first feature of every row that the model is trained on."""

    def on_train_begin(self, trainer):
        self.seen, self.sizes = [], []
        forward = trainer.model.forward

        def recorded(x):
            if trainer.model.training:
                self.seen += x[:, 0].tolist()
                self.sizes.append(len(x))
            return forward(x)

        trainer.model.forward = recorded

    def on_train_end(self, trainer):
        del trainer.model.forward


def refused_checkpoint(t, path, message):
    """One sentence that names the file, and the trainer as it was; returns the peak of memory."""
    before, epochs = bits(t), t.history.to_dict()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            t.load_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert said.startswith(f"load_checkpoint: {os.fspath(path)!r}: ")
    assert said.endswith("; nothing was changed.")
    assert said.isprintable()
    assert bits(t) == before
    assert t.history.to_dict() == epochs
    return peak
