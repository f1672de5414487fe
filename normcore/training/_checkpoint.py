"""Checkpoints: everything that going on with a training needs, in one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normcore.nn import Module
from normcore.nn._checks import Array
from normcore.nn.batchnorm import _BatchNorm
from normcore.optim import Optimizer

from . import _archive
from ._errors import in_a_line
from ._json import parse
from ._random import from_state, layer_generators, state_of
from ._run import Run
from ._tree import named, pack, unpack
from .history import History

if TYPE_CHECKING:
    from .trainer import Trainer

_FORMAT = "normcore checkpoint 1"
_SMALL = 1 << 20  # bytes; the largest state of a generator has 2.5 kB of arrays
_PARTS = ("model", "optimizer", "scheduler", "history", "stop_training", "layer_generators", "frozen", "run")


def save(trainer: Trainer, path: str) -> None:
    """Write a checkpoint."""
    arrays: dict[str, Array] = {}
    content = {
        "model": trainer.model.state_dict(),
        "optimizer": [type(trainer.optimizer).__name__, trainer.optimizer.state_dict()],
        "scheduler": None,
        "history": trainer.history.to_dict(),
        "stop_training": bool(trainer.stop_training),
        "layer_generators": {name: state_of(it) for name, it in layer_generators(trainer.model).items()},
        "frozen": {name: layer.frozen for name, layer in _freezable(trainer)},
        "run": _run_content(trainer),
    }
    if trainer.scheduler is not None:
        content["scheduler"] = [type(trainer.scheduler).__name__, _of_scheduler(trainer, "state_dict")()]
    try:
        packed = {name: pack(value, name, arrays) for name, value in content.items()}
    except TypeError as error:
        raise TypeError(f"save_checkpoint: {error}.") from None
    _archive.write(path, arrays, json.dumps({"format": _FORMAT, **packed}))


def _freezable(trainer: Trainer) -> Iterator[tuple[str, _BatchNorm]]:
    """The layers that a callback may freeze while training: no part of PyTorch's state dict."""
    return ((name, module) for name, module in trainer.model.named_modules() if isinstance(module, _BatchNorm))


def _run_content(trainer: Trainer) -> dict[str, Any] | None:
    run = trainer._run
    if run is None:
        return None
    # A generator that the user passed to a layer and to fit has to be one generator again.
    shared = [name for name, it in layer_generators(trainer.model).items() if it is run.generator]
    return {
        "generator": state_of(run.generator),
        "shared": shared[0] if shared else None,
        "split_seed": run.split_seed,
        "callbacks": list(run.states()),
        "data": run.data,
    }


def _of_scheduler(trainer: Trainer, method: str) -> Callable[..., Any]:
    found = getattr(trainer.scheduler, method, None)
    if not callable(found):
        name = type(trainer.scheduler).__name__
        raise ValueError(f"a checkpoint needs a scheduler with {method}(), but {name} has none.")
    return found  # type: ignore[no-any-return] # getattr gives Any


def load(trainer: Trainer, path: str) -> None:
    """Read a checkpoint, check all of it, and only then change anything."""
    try:
        content = _read(trainer, path)
        checked = _checked(trainer, content)
        _load_states(trainer, content)
    except MemoryError:
        raise MemoryError(
            f"load_checkpoint: {path!r}: there is not enough memory for what it holds; nothing was changed."
        ) from None
    except (LookupError, TypeError, AttributeError, OverflowError, RecursionError, UnicodeError):
        raise ValueError(f"load_checkpoint: {path!r}: it is damaged; nothing was changed.") from None
    except ValueError as error:
        message = in_a_line(str(error)).rstrip(".")
        raise ValueError(f"load_checkpoint: {path!r}: {message}; nothing was changed.") from None
    for name, layer in _freezable(trainer):
        layer.frozen = checked.frozen.get(name, layer.frozen)
    own = layer_generators(trainer.model)
    for name, generator in checked.generators.items():
        own[name].bit_generator.state = generator.bit_generator.state
    run = checked.run
    if run is not None and content["run"]["shared"] is not None:
        run.generator = own[content["run"]["shared"]]
    trainer.history, trainer.stop_training, trainer._run = checked.history, checked.stop_training, run


def _read(trainer: Trainer, path: str) -> dict[str, Any]:
    """What is in the file, when all but the numbers in its arrays was right before these were read."""
    arrays, packed = _archive.read(path, lambda text, declared: _accepted(trainer, text, declared))
    return {name: unpack(value, arrays) for name, value in packed.items()}


def _accepted(trainer: Trainer, text: str, declared: Mapping[str, Array]) -> dict[str, Any]:
    """The text as a tree, when with arrays of the shapes and dtypes that are declared it fits the trainer."""
    try:
        packed = parse(text)
    except ValueError:
        raise ValueError("it is damaged") from None
    found = packed.get("format") if isinstance(packed, dict) else None
    if found != _FORMAT:
        later = isinstance(found, str) and found.startswith(_FORMAT.rstrip("1"))
        other = f", but {found!r}; load it with the version of normcore-cpu that wrote it" if later else ""
        raise ValueError(f"it is no checkpoint that this version reads ({_FORMAT}){other}")
    if not packed.keys() >= set(_PARTS):
        raise ValueError("it is damaged")
    strangers = set(declared) - named(packed)
    if strangers:
        raise ValueError(f"it holds {min(strangers)!r}, which is no part of a checkpoint")
    model, optimizer = trainer.model, trainer.optimizer
    # A load_state_dict of somebody else's may take what this one would not.
    known_model = type(model).load_state_dict is Module.load_state_dict
    known_optimizer = type(optimizer).load_state_dict is Optimizer.load_state_dict
    # Parameters and their state have the sizes of the model, and callbacks may keep what they like: the rest is small.
    small = [packed[name] for name in ("history", "stop_training", "layer_generators", "frozen")]
    small += [part for name, part in (packed["run"] or {}).items() if name != "callbacks"]
    if known_optimizer:
        small += [part for name, part in packed["optimizer"][1].items() if name != "state"]
    if sum(declared[name].nbytes for name in named(small)) > _SMALL:
        raise ValueError("it is damaged")
    content = {name: unpack(value, declared) for name, value in packed.items()}
    _checked(trainer, content)
    if known_model:
        model._check_state_dict(content["model"])
    if known_optimizer:
        optimizer._check_state_dict(content["optimizer"][1])
    return dict(packed)


class _Checked(NamedTuple):
    """What a checkpoint holds beside the states of model, optimiser and schedule."""

    history: History
    generators: dict[str, np.random.Generator]
    run: Run | None
    stop_training: bool
    frozen: dict[str, bool]


def _checked(trainer: Trainer, content: Mapping[str, Any]) -> _Checked:
    generators = _check_generators(trainer, content["layer_generators"])
    checked = _Checked(
        History.from_dict(content["history"]),
        generators,
        _check_run(content["run"], generators),
        _true_or_false(content["stop_training"]),
        {str(name): _true_or_false(value) for name, value in content["frozen"].items()},
    )
    _check_class("optimizer", trainer.optimizer, content["optimizer"][0])
    _check_class("scheduler", trainer.scheduler, content["scheduler"][0] if content["scheduler"] else None)
    return checked


def _true_or_false(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _check_class(what: str, own: Any, saved: str | None) -> None:
    name = None if own is None else type(own).__name__
    if name != saved:
        raise ValueError(f"its {what} is {saved}, but the trainer's is {name}; make the trainer like the one saved")


def _check_generators(trainer: Trainer, states: Mapping[str, Any]) -> dict[str, np.random.Generator]:
    own = layer_generators(trainer.model)
    if set(own) != set(states):
        only = sorted(set(own) ^ set(states))[0]
        raise ValueError(f"the random generator {only} is in the model or in the file but not in both")
    found = {name: from_state(state, f"the random generator {name}") for name, state in states.items()}
    for name, generator in found.items():
        if type(generator.bit_generator) is not type(own[name].bit_generator):
            raise ValueError(
                f"the random generator {name} is {type(generator.bit_generator).__name__} in the file, but "
                f"{type(own[name].bit_generator).__name__} in the model"
            )
    return found


def _check_run(content: Any, generators: Mapping[str, Any]) -> Run | None:
    if content is None:
        return None
    if not all(isinstance(state, dict) for _, state in content["callbacks"]):  # an array of pairs would become one
        raise TypeError
    states = [(str(name), dict(state)) for name, state in content["callbacks"]]
    if content["shared"] is not None and content["shared"] not in generators:
        raise ValueError(f"it names the random generator {content['shared']}, which it does not have")
    split_seed, data = content["split_seed"], content.get("data")  # no data: written by an earlier version
    if split_seed is not None and (type(split_seed) is not int or not 0 <= split_seed < 2**63):
        raise TypeError
    return Run(
        from_state(content["generator"], "the random state"),
        split_seed,
        states,
        None if data is None else {name: str(data[name]) for name in ("X", "y")},
    )


def _load_states(trainer: Trainer, content: Mapping[str, Any]) -> None:
    """Load model, optimiser and schedule, all or none of them."""
    targets: list[tuple[Any, Any]] = [
        (trainer.model, content["model"]),
        (trainer.optimizer, content["optimizer"][1]),
    ]
    if trainer.scheduler is not None:
        _of_scheduler(trainer, "load_state_dict")
        targets.append((trainer.scheduler, content["scheduler"][1]))
    undo: list[tuple[Any, Any]] = []
    try:
        for target, state in targets:
            undo.append((target, target.state_dict()))
            target.load_state_dict(state)
    except BaseException:
        for target, state in reversed(undo):
            target.load_state_dict(state)
        raise
