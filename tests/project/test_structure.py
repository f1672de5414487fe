"""The architecture, as tests: imports point downwards, and nothing is imported before it is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest
from processes import python

import normcore

PACKAGE = Path(normcore.__file__).parent

# What a layer may import of the others: the layers below it. The order of DESIGN.md's picture.
BELOW = {
    "_version": set(),
    "_shown": set(),
    "_arraylike": {"_shown"},
    "_reading": set(),
    "_npz": set(),
    "_activation": {"_shown"},
    "_workers": set(),
    "backends": {"_activation", "_workers"},
    "_memory": set(),
    "_plan": {"_memory"},
    "_context": {"_plan"},  # for annotations alone
    "_checks": {"_memory", "_arraylike", "_shown", "_plan", "_context"},
    "_planners": {"_plan", "_context", "_checks", "_memory", "_activation"},
    "_setting": set(),
    "_threads": {"backends", "_setting", "_shown"},
    "_compiled_pool": set(),
    "_pool": {"_compiled_pool", "_shown"},
    "_buffers": {"_plan", "_memory", "_pool"},
    "_running": {"_plan"},
    "_dispatch": {"_setting", "_plan", "_context", "_buffers", "_running", "_memory", "_threads", "backends", "_shown"},
    "_compiled_lane": {"_dispatch", "_context", "_threads", "_compiled_pool", "backends"},
    "_lane": {"_compiled_lane", "_plan"},
    "functional": {"_lane", "_dispatch", "_planners", "_context", "_shown"},
    "_config": {"_dispatch", "_pool", "_threads", "backends", "_version"},
    "data": {"_version", "_reading", "_npz", "_arraylike", "_shown"},  # the version is what a download calls itself
    "_streaming": {"_arraylike", "_shown"},
    "moments": {"functional", "_streaming", "_shown"},
    "covariance": {"functional", "_streaming"},
    "nn": {"functional", "_threads", "_workers", "_compiled_pool", "_arraylike", "_shown"},
    # _dispatch for the backend asked for, _threads for how many
    "optim": {"nn", "_dispatch", "_threads", "_workers", "_memory", "_shown"},
    # data for the cut into training and validation rows; _dispatch for asked_for(): a wrong NORMCORE_BACKEND is no
    # fault of the data
    "training": {
        "nn",
        "optim",
        "data",
        "moments",
        "functional",
        "_dispatch",
        "_reading",
        "_npz",
        "_arraylike",
        "_shown",
    },
    "estimators": {"training", "optim", "nn", "functional", "data", "moments", "covariance", "_shown"},
    "studies": {"estimators", "training", "optim", "nn", "functional", "data", "_config", "_version"},
    "_bench": {"functional", "_config", "_threads"},
    # data for the names of the sets, and for what is wrong with their files
    "cli": {"studies", "data", "_bench", "_config", "_dispatch", "_threads", "_version"},
    "__main__": {"cli"},
}
RUNTIME = {"numpy"}
OPTIONAL = {
    "numba": {"backends"},
    "sklearn": {"estimators"},
    "scipy": {"estimators"},  # scikit-learn brings it
    "tqdm": {"data", "training", "studies"},
    "matplotlib": {"training", "studies"},
    "safetensors": {"training"},
    "threadpoolctl": {"studies"},
    "PIL": {"studies"},  # comes with matplotlib
}


def modules():
    return sorted(PACKAGE.rglob("*.py")) + sorted(PACKAGE.rglob("*.pyx"))


def layer(path):
    return path.relative_to(PACKAGE).parts[0].split(".")[0]


def imports(path):
    """(module, at run time of the import) for each import of a file, relative ones made absolute."""
    if path.suffix == ".pyx":
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"], ["cimport"]):
                yield words[1], True
        return
    package = ["normcore", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text())
    for_types = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for_types |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module in ("normcore", ""):
                yield from ((f"normcore.{alias.name}", id(node) not in for_types) for alias in node.names)
            else:
                yield module, id(node) not in for_types


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = layer(path)
    if own == "__init__":
        return  # the top re-exports everything
    assert own in BELOW, f"{own} has no place in the picture: give it one here and in CONTRIBUTING.md"
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "normcore" and len(parts) > 1:
            target = parts[1]
            assert target == own or target in BELOW[own], f"{path.name} imports {module}, which is not below {own}"


def test_the_picture_has_no_cycle():
    order = {name: i for i, name in enumerate(BELOW)}
    for name, below in BELOW.items():
        assert all(order[other] < order[name] for other in below), name


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_numpy_is_the_only_hard_dependency(path):
    import sys

    for module, _ in imports(path):
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or top in RUNTIME | {"normcore", "__future__"}:
            continue
        if path.suffix == ".pyx" and top in ("cython", "cpython", "libc"):
            continue
        assert layer(path) in OPTIONAL.get(top, set()), f"{path.name} imports {module}"


def test_what_is_not_used_is_not_imported():
    later = (
        "numba",
        "tqdm",
        "matplotlib",
        "torch",
        "normcore.nn",
        "normcore.training",
        "normcore.studies",
        "normcore.data",
        "normcore.estimators",
        "normcore.moments",
        "normcore.covariance",
        "sklearn",
    )
    code = f"import sys, normcore; print([m for m in sys.modules if m.startswith({later})])"
    assert python(code) == "[]"
    assert python("import sys, normcore as nc; nc.MLP([2, 2]); nc.Trainer; print('tqdm' in sys.modules)") == "False"
    # the trainer cuts validation rows with normcore.data, and has no use for what downloads
    web = ("urllib.request", "http.client", "ssl")
    assert python(f"import sys, normcore as nc; nc.Trainer; print([m for m in {web} if m in sys.modules])") == "[]"


def test_without_scikit_learn_one_sentence_says_what_to_install():
    said = python("import sys; sys.modules['sklearn'] = None; import normcore as nc; nc.estimators.StandardScaler")
    assert said.startswith(
        "ImportError: normcore.estimators needs scikit-learn, which is not installed; install normcore"
    )
    assert python("import sys; sys.modules['sklearn'] = None; import normcore as nc; nc.RunningCovariance()") == ""


def test_everything_public_is_reached_from_the_top_and_listed():
    for name in ("nn", "optim", "training", "data", "MLP", "Trainer", "History", "RunningMoments", "RunningCovariance"):
        assert getattr(normcore, name) is not None
        assert name in dir(normcore)
    with pytest.raises(AttributeError, match="module 'normcore' has no attribute 'layer_form'"):
        normcore.layer_form  # noqa: B018 - the access is the test


def public():
    """Every public class and function, under the name a user reaches it by."""
    found = {}
    for module_name in (
        "normcore",
        "normcore.nn",
        "normcore.optim",
        "normcore.training",
        "normcore.data",
        "normcore.estimators",
    ):
        module = importlib.import_module(module_name)
        for name in dir(module):
            thing = getattr(module, name)
            if name.startswith("_") or not callable(thing) or not thing.__module__.startswith("normcore"):
                continue
            found[f"{module_name}.{name}"] = thing
    return found


@pytest.mark.parametrize("name", sorted(public()))
def test_public_names_are_documented_and_annotated(name):
    thing = public()[name]
    doc = inspect.getdoc(thing)
    assert doc, f"{name} has no docstring"
    assert doc.splitlines()[0].endswith("."), f"{name}: the first line of the docstring is a sentence"
    target = thing.__init__ if inspect.isclass(thing) else thing
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name in ("self",) or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        assert parameter.annotation is not parameter.empty, f"{name}: {parameter.name} has no type hint"
        own = inspect.isclass(thing) and "__init__" in vars(thing)
        if own or not inspect.isclass(thing):
            assert parameter.name in doc, f"{name}: {parameter.name} is not in the docstring"


def test_every_module_says_what_it_is():
    for info in pkgutil.walk_packages(normcore.__path__, "normcore."):
        if info.name.endswith(("__main__", "numba_kernels")):
            continue
        assert importlib.import_module(info.name).__doc__, f"{info.name} has no docstring"


def test_the_version_is_one_number():
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert version("normcore-cpu") == normcore.__version__
    except PackageNotFoundError:
        pytest.skip("run from a source tree that is not installed")
    assert np.lib.NumpyVersion(normcore.__version__) > "0.0.0"
