"""Who is compared: one module for each. Another contender is another module, and an entry in ``CONTENDERS``."""

from __future__ import annotations

from . import compiled, copying, jax_, normcore_, numpy_, torch_
from .base import Contender as Contender
from .base import NotOffered as NotOffered
from .base import Ways as Ways

CONTENDERS: tuple[Contender, ...] = (
    normcore_.NORMCORE,
    copying.COPY,
    normcore_.FRESH,
    normcore_.SERIAL,
    normcore_.NUMBA,
    numpy_.NUMPY,
    torch_.TORCH,
    compiled.COMPILED,
    jax_.JAX,
)
