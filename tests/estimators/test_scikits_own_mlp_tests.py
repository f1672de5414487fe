"""scikit-learn's own tests of its MLP, from the installed package, run on ours with norm=None."""

from __future__ import annotations

import functools
import inspect

import pytest

from normcore.estimators import MLPClassifier, MLPRegressor

suite = pytest.importorskip(
    "sklearn.neural_network.tests.test_mlp", reason="this scikit-learn was installed without its tests"
)

# What is not run, and why: these look at attributes that are scikit-learn's own affair.
PRIVATE = {
    "test_fit": "builds a fitted object out of private attributes by hand; the worked example is test_mlp's, through "
    "coefs_ and partial_fit",
    "test_gradient": "calls the private _loss_grad_lbfgs; gradients are those of normcore.nn, tested by differences",
    "test_learning_rate_warmstart": "reads _optimizer.learning_rate; test_mlp asks a callback's trainer.optimizer.lr",
    "test_adaptive_learning_rate": "reads _optimizer.learning_rate; test_mlp asks a callback's trainer.optimizer.lr",
}
ESTIMATORS = {
    "MLPClassifier": functools.partial(MLPClassifier, norm=None),
    "MLPRegressor": functools.partial(MLPRegressor, norm=None),
}


def cases():
    """Every test of the module with each set of its parameters, as pytest would run it."""
    for name, test in inspect.getmembers(suite, inspect.isfunction):
        if not name.startswith("test_") or name in PRIVATE:
            continue
        marks = getattr(test, "pytestmark", [])
        sets = [{}]
        for mark in marks:
            if mark.name == "parametrize":
                names = [one.strip() for one in mark.args[0].split(",")]
                sets = [
                    {**one, **dict(zip(names, values if len(names) > 1 else [values], strict=True))}
                    for one in sets
                    for values in mark.args[1]
                ]
        filters = [mark for mark in marks if mark.name == "filterwarnings"]
        for i, arguments in enumerate(sets):
            yield pytest.param(test, arguments, marks=filters, id=f"{name}-{i}")


@pytest.mark.parametrize("test, arguments", list(cases()))
# The module is run by scikit-learn without warnings being errors.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:overflow:RuntimeWarning")
def test_scikit_learns(test, arguments, request, monkeypatch):
    for name, estimator in ESTIMATORS.items():
        monkeypatch.setattr(suite, name, estimator)
        arguments = {key: estimator if value is THEIRS[name] else value for key, value in arguments.items()}
    for name in inspect.signature(test).parameters:
        if name not in arguments:
            arguments[name] = 42 if name == "global_random_seed" else request.getfixturevalue(name)
    test(**arguments)


THEIRS = {name: getattr(suite, name) for name in ESTIMATORS}


def test_the_list_of_what_is_left_out_is_true():
    for name in PRIVATE:
        source = inspect.getsource(getattr(suite, name))
        assert any(word in source for word in ("_optimizer", "_loss_grad", "_coef_grads")), name
