"""Steps of training: forward, loss, backward, optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc

from .common import normal
from .shapes import NETWORKS


class Step:
    """One step on one batch."""

    param_names = ("network", "norm", "optimizer")
    params = (list(NETWORKS), [None, "batch"], ["SGD", "Adam"])

    def setup(self, network: str, norm: str | None, optimizer: str) -> None:
        """Build the network and a batch."""
        sizes, activation, rows = NETWORKS[network]
        self.model = nc.MLP(sizes, activation=activation, norm=norm, seed=0)
        kind: Any = getattr(nc.optim, optimizer)
        self.optimizer = kind(self.model.parameters(), lr=1e-3)
        self.criterion = nc.nn.CrossEntropyLoss()
        self.x = normal((rows, sizes[0]))
        self.y = np.arange(rows) % sizes[-1]

    def time_step(self, *_: object) -> None:
        """All of it."""
        self.criterion(self.model(self.x), self.y)
        self.model.backward(self.criterion.backward())
        self.optimizer.step()
