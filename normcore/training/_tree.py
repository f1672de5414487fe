"""State dicts as JSON and arrays: nested dicts, lists, tuples, numbers and strings, with arrays anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from normcore.nn._checks import Array

_MARK = "$"  # the only key of a dict that stands for something else


def pack(tree: Any, place: str, arrays: dict[str, Array]) -> Any:
    """`tree` as what JSON can say, with its arrays put into `arrays` under names that begin with `place`."""
    if isinstance(tree, np.ndarray):
        if tree.dtype.kind not in "fiub":
            raise TypeError(f"{place} is an array of {tree.dtype}, but a checkpoint keeps arrays of numbers alone")
        arrays[place] = tree
        return {_MARK: ["array", place]}
    if isinstance(tree, np.generic):
        return pack(tree.item(), place, arrays)
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    if isinstance(tree, (list, tuple)):
        items = [pack(item, f"{place}.{i}", arrays) for i, item in enumerate(tree)]
        return {_MARK: ["tuple", items]} if isinstance(tree, tuple) else items
    if isinstance(tree, Mapping):
        if all(isinstance(key, str) and key != _MARK for key in tree):
            return {key: pack(value, f"{place}.{key}", arrays) for key, value in tree.items()}
        pairs = [[pack(key, place, arrays), pack(value, f"{place}.{key}", arrays)] for key, value in tree.items()]
        return {_MARK: ["dict", pairs]}
    raise TypeError(
        f"{place} is a {type(tree).__name__}, but a checkpoint keeps numbers, strings, arrays, lists and dicts"
    )


def unpack(tree: Any, arrays: Mapping[str, Array]) -> Any:
    """The tree that `pack` was given. Raises LookupError, TypeError or ValueError for anything else."""
    if isinstance(tree, list):
        return [unpack(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) != {_MARK}:
        return {key: unpack(value, arrays) for key, value in tree.items()}
    what, content = tree[_MARK]
    if what == "array":
        return arrays[content]
    if what == "tuple":
        return tuple(unpack(content, arrays))
    if what == "dict":
        return {unpack(key, arrays): unpack(value, arrays) for key, value in content}
    raise ValueError(f"unknown mark {what!r}")


def named(tree: Any) -> set[str]:
    """The names of the arrays in what `pack` returned."""
    if isinstance(tree, list):
        return set().union(*map(named, tree))
    if not isinstance(tree, dict):
        return set()
    if set(tree) == {_MARK}:
        what, content = tree[_MARK]
        return {content} if what == "array" else named(content)
    return set().union(*map(named, tree.values()))
