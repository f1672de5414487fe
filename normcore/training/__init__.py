"""Training on arrays: Trainer, History, callbacks, and recalibrate for batch norm."""

from ._errors import DivergenceError as DivergenceError
from ._pooled import PooledMetric as PooledMetric
from .callback import Callback as Callback
from .csv_logger import CSVLogger as CSVLogger
from .diagnostics import Diagnostics as Diagnostics
from .early_stopping import EarlyStopping as EarlyStopping
from .history import History as History
from .model_checkpoint import ModelCheckpoint as ModelCheckpoint
from .recalibration import recalibrate as recalibrate
from .reduce_lr import ReduceLROnPlateau as ReduceLROnPlateau
from .trainer import Trainer as Trainer
