"""Training on arrays: Trainer, History, Callback."""

from .callback import Callback as Callback
from .history import History as History
from .trainer import Trainer as Trainer
