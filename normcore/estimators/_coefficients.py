"""coefs_ and intercepts_: scikit-learn's names for the memory of the network's fully connected layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore.nn import MLP, Linear
from normcore.nn._checks import Array

from ._network import linears


class Coefficients:
    """What a fitted perceptron has in `coefs_` and `intercepts_` is its network: whoever writes there changes it."""

    model_: MLP
    coefs_: list[Array]
    intercepts_: list[Array]
    _linked: list[tuple[Linear, Array, Array]]

    def _link(self) -> None:
        """Make coefs_ and intercepts_ the memory of the network's layers."""
        self._linked = []
        for layer in linears(self.model_):
            assert layer.bias is not None
            self._linked.append((layer, layer.weight.data.T, layer.bias.data))
        self.coefs_ = [coef for _, coef, _ in self._linked]
        self.intercepts_ = [intercept for _, _, intercept in self._linked]

    def _synced(self) -> MLP:
        """The network, with the arrays that somebody may have put into coefs_ or intercepts_ since."""
        for i, (layer, coef, intercept) in enumerate(self._linked):
            if self.coefs_[i] is not coef or self.intercepts_[i] is not intercept:
                assert layer.bias is not None
                shapes = coef.shape, intercept.shape
                coef, intercept = (
                    np.asarray(new, old.dtype)
                    for new, old in ((self.coefs_[i], coef), (self.intercepts_[i], intercept))
                )
                if (coef.shape, intercept.shape) != shapes:
                    raise ValueError(
                        f"coefs_[{i}] and intercepts_[{i}] must have the shapes {shapes[0]} and {shapes[1]}, got "
                        f"{coef.shape} and {intercept.shape}."
                    )
                layer.weight.data, layer.bias.data = coef.T, intercept
                self.coefs_[i], self.intercepts_[i] = coef, intercept
                self._linked[i] = layer, coef, intercept
        return self.model_

    def __getstate__(self) -> dict[str, Any]:
        # coefs_ and intercepts_ are views of the network's memory, and would come back as copies.
        if hasattr(self, "model_"):
            self._synced()
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[misc] # of the BaseEstimator behind it
        for name in ("coefs_", "intercepts_", "_linked"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc] # as above
        if hasattr(self, "model_"):
            self._link()
