"""Optimisers with PyTorch's names, defaults and order of operations."""

from .adam import Adam as Adam
from .optimizer import Optimizer as Optimizer
from .sgd import SGD as SGD
