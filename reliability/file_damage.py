"""Damage: blind, of any bytes, and of the trees and arrays that are in a file."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

Case = tuple[str, bytes]
MEGABYTE = 1 << 20


# --- blind ------------------------------------------------------------------------------------------------------------


def truncations(content: bytes, most: int, rng: random.Random) -> Iterator[Case]:
    """Cut at every byte; a larger file at a sample of them."""
    return ((f"cut at {end}", content[:end]) for end in _some(len(content), most, rng))


def flips(content: bytes, most: int, rng: random.Random) -> Iterator[Case]:
    """Every single bit flipped; of a larger file a sample of them."""
    for bit in _some(8 * len(content), most, rng):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(changed)


def _some(count: int, most: int, rng: random.Random) -> Sequence[int]:
    return range(count) if count <= most else rng.sample(range(count), most)


def splice(content: bytes, rng: random.Random) -> Case:
    """A piece taken out, doubled, moved, or overwritten with one of another place, with noise or with zeros."""
    start, end = sorted(rng.choices(range(len(content) + 1), k=2))
    if rng.random() < 0.7:
        end = min(end, start + rng.choice([1, 2, 4, 8, 64]))
    piece, place = content[start:end], rng.randrange(len(content) + 1)
    how = rng.choice(["out", "doubled", "moved", "over", "noise", "zeros", "ones", "swapped tail"])
    if how == "out":
        return f"{start}:{end} taken out", content[:start] + content[end:]
    if how == "doubled":
        return f"{start}:{end} doubled", content[:end] + piece + content[end:]
    if how == "moved":
        return f"{start}:{end} put in at {place}", content[:place] + piece + content[place:]
    if how == "swapped tail":
        return f"parts before and after {place} swapped", content[place:] + content[:place]
    new = {"noise": rng.randbytes(len(piece)), "zeros": bytes(len(piece)), "ones": b"\xff" * len(piece)}.get(how)
    new = content[place : place + len(piece)] if new is None else new
    return f"{start}:{end} overwritten ({how})", content[:start] + new + content[start + len(new) :]


# --- trees and JSON ---------------------------------------------------------------------------------------------------

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 1.0, -0.5, 2**31, 2**53 + 1, 2**63, 2**64, -(2**64), 10**400, 1e308, math.nan,
    math.inf, -math.inf, "", "x", "0", "1", "nan", "Infinity", "\0", "\ud800", "\x1b[31m\n", "../../etc/passwd",
    "x" * 5000, [], {}, [[]], [None], {"a": 1}, {"$": []}, {"$": ["array", "model.0.weight"]},
    {"$": ["array", "nothing"]}, {"$": ["array", []]}, {"$": ["tuple", [1]]}, {"$": ["tuple", 3]},
    {"$": ["dict", [[[], 1]]]}, {"$": ["pickle", "x"]}, {"$": 0}, [0] * 1000,
]  # fmt: skip
VERSIONS: list[Any] = [
    "normcore checkpoint 0", "normcore checkpoint 2", "normcore checkpoint -1", "normcore checkpoint 1.0",
    "normcore checkpoint 1 ", "normcore checkpoint 99999999999999999999", 1, 1.0, True, None, -1, 10**30, [], "",
]  # fmt: skip
TEXTS = [
    "", " ", "null", "[]", "{}", "[" * 100_000, '{"a":' * 100_000, "[" * 50_000 + "]" * 50_000, "1" * 100_000, "NaN",
    "-Infinity", '{"a": 1e999}', '"' + "\\ud800" + '"', "\ufeff{}", "{", "[1,]", "{}{}", "\0", '"' + "x" * 1000,
]  # fmt: skip


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from _nodes(value, (*path, key))


def changed_tree(tree: Any, rng: random.Random) -> tuple[str, Any]:
    """One or two nodes replaced, taken out, doubled or put elsewhere; `tree` itself is changed."""
    label = ""
    for _ in range(rng.choice([1, 1, 1, 2])):
        path = rng.choice(list(_nodes(tree)))
        owner = tree
        for key in path[:-1]:
            owner = owner[key]
        how, key = rng.choice(["replace", "replace", "replace", "take out", "add", "swap"]), path[-1]
        if how == "replace":
            owner[key] = deepcopy(rng.choice(HOSTILE))
            label += f"{path} = {owner[key]!r:.80}; "
            continue
        if how == "take out":
            owner.pop(key)
        elif how == "add" and isinstance(owner, dict):
            owner["more"] = deepcopy(rng.choice(HOSTILE))
        elif how == "add":
            owner.append(deepcopy(rng.choice(HOSTILE)))
        else:
            other = rng.choice(list(owner) if isinstance(owner, dict) else range(len(owner)))
            owner[key], owner[other] = owner[other], owner[key]
        label += f"{how} at {path}; "
        if not tree:
            break
    return label, tree


def dumped(tree: Any, rng: random.Random) -> str:
    """As JSON; now and then with a key twice."""
    text = json.dumps(tree)
    if rng.random() < 0.05 and text.startswith("{") and len(tree) > 1:
        key = next(iter(tree))
        return "{" + json.dumps(key) + ": 0, " + text[1:]
    return text


# --- arrays -----------------------------------------------------------------------------------------------------------

DTYPES: list[Any] = [
    ">f4", ">f8", "<f2", "<f8", "|b1", "|i1", ">i8", "<u8", "<c8", "|S3", "<U2", "<M8[s]", "|V4", "|O",
    [("a", "<f4"), ("b", "|O")], [("a", "<f4")],
]  # fmt: skip


def changed_arrays(arrays: dict[str, Any], rng: random.Random) -> tuple[str, dict[str, Any]]:
    """One array of another dtype, shape, order or value; or one more, or one less, or under another name."""
    name = rng.choice(sorted(arrays))
    value = arrays[name]
    how = rng.choice(["dtype", "shape", "order", "value", "missing", "more", "rename"])
    label = f"{name}: {how}"
    if how == "dtype":
        dtype = np.dtype(rng.choice(DTYPES))
        arrays[name] = np.zeros(value.shape, dtype)
        label += f" {dtype}"
    elif how == "shape":
        arrays[name] = rng.choice(
            [value.reshape(-1), value[..., None], value.reshape(-1)[:0], value.sum(), value[None]]
        )
    elif how == "order":
        arrays[name] = np.asfortranarray(value) if rng.random() < 0.5 else np.flip(value)
    elif how == "value":
        new = np.array(value, np.float64).reshape(-1)
        new[rng.randrange(len(new)) if len(new) else slice(0)] = rng.choice([np.nan, np.inf, -1.0, 1e300, -0.0, 5e-324])
        with np.errstate(all="ignore"):
            arrays[name] = new.reshape(value.shape).astype(value.dtype if rng.random() < 0.5 else np.float64)
    elif how == "missing":
        del arrays[name]
    else:
        new_name = rng.choice(
            ["../../x", "/etc/x", "C:\\x", "a/b", "x" * 3000, "\x1b[0m\n", "é", "nothing", "model.0", ""]
        )
        arrays[new_name] = value if how == "more" else arrays.pop(name)
        label += f" {new_name[:30]!r}"
    return label, arrays
