"""The solver "lbfgs": all rows at once, in float64, by SciPy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from normcore.nn import MLP, Module
from normcore.nn._checks import Array

from . import _network
from ._descent import Data, squares
from ._objective import Objective
from ._weighted_norm import weighted_twin

if TYPE_CHECKING:
    from ._mlp import BaseMLP


def minimise(estimator: BaseMLP, data: Data, objective: Objective, twin: MLP) -> None:
    """Train `estimator.model_`.

    Parameters
    ----------
    estimator : BaseMLP
    data : Data
        In float64.
    objective : Objective
    twin : MLP
        A network like `estimator.model_` in float64: a line search cannot tell float32 values apart for long.
    """
    twin.load_state_dict(estimator.model_.state_dict())
    layers = _network.batch_norms(twin)
    model: Module = twin
    if data.weights is not None and layers:
        model, weighted = weighted_twin(twin, layers)
        for weighted_layer in weighted:
            weighted_layer.rows = data.weights
    for layer in layers:
        layer.update_stats = False
    X = data.rows.take(slice(0, len(data.rows)))
    params = list(twin.parameters())
    coefs = [layer.weight.data.T for layer in _network.linears(twin)]
    decayed = {id(layer.weight) for layer in _network.linears(twin)}
    parts, start = [], 0
    for param in params:
        parts.append(slice(start, start := start + param.data.size))

    def put(x: Array) -> None:
        for param, part in zip(params, parts, strict=True):
            param.data.ravel(order="K")[...] = x[part]

    def value_and_gradient(x: Array) -> tuple[float, Array]:
        put(x)
        output = model(X)
        value = objective.value(output, data.target, data.weights) * objective.steepness
        model.backward_parameters(objective.gradient(data.weights))
        share = estimator.alpha / objective.mass
        gradient = np.empty_like(x)
        for param, part in zip(params, parts, strict=True):
            assert param.grad is not None
            gradient[part] = param.grad.ravel(order="K")
            if id(param) in decayed:
                gradient[part] += share * x[part]
        return value + 0.5 * share * squares(coefs), gradient

    iterations = 0

    def report(intermediate_result: Any) -> None:
        nonlocal iterations
        iterations += 1
        print(f"Iteration {iterations}, loss = {intermediate_result.fun:.8f}")

    model.train()
    result = minimize(
        value_and_gradient,
        np.concatenate([param.data.ravel(order="K") for param in params]),
        method="L-BFGS-B",
        jac=True,
        options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
        callback=report if estimator.verbose else None,
    )
    put(result.x)
    for layer in layers:
        # The statistics of all rows, at the parameters that were found.
        layer.update_stats, layer.momentum = True, 1.0
    output = model(X)
    loss = objective.value(output, data.target, data.weights)
    estimator.loss_ = loss + 0.5 * estimator.alpha * squares(coefs) / objective.mass
    estimator.model_.load_state_dict(twin.state_dict())
    # L-BFGS-B may count one iteration more than it was allowed.
    estimator.n_iter_ = min(int(result.nit), estimator.max_iter)
    if result.status != 0:
        message = result.message if isinstance(result.message, str) else result.message.decode("latin1")
        warnings.warn(
            f"lbfgs failed to converge after {estimator.n_iter_} iteration(s) (status={result.status}):\n{message}.\n\n"
            "Increase the number of iterations (max_iter) or function evaluations (max_fun), or scale the data.",
            ConvergenceWarning,
            stacklevel=5,
        )
