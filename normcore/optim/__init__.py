"""Optimisers, schedules and gradient clipping with PyTorch's names, defaults and order of operations."""

from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .clipping import clip_grad_norm_ as clip_grad_norm_
from .decay import decay_groups as decay_groups
from .onecycle import OneCycleLR as OneCycleLR
from .optimizer import Optimizer as Optimizer
from .schedule import CosineAnnealingLR as CosineAnnealingLR
from .schedule import ExponentialLR as ExponentialLR
from .schedule import LinearLR as LinearLR
from .schedule import MultiStepLR as MultiStepLR
from .schedule import Schedule as Schedule
from .schedule import StepLR as StepLR
from .sequence import SequentialLR as SequentialLR
from .sgd import SGD as SGD
