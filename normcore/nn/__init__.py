"""Layers, losses and networks with PyTorch's names, defaults and state-dict keys, on NumPy arrays.

`y = model(x)` keeps what `model.backward(dy)` needs; backward sets `Parameter.grad` and returns dx. There is no tape.
"""

from . import init as init
from .activation import GELU as GELU
from .activation import LeakyReLU as LeakyReLU
from .activation import ReLU as ReLU
from .activation import Sigmoid as Sigmoid
from .activation import SiLU as SiLU
from .activation import Tanh as Tanh
from .batchnorm import BatchNorm1d as BatchNorm1d
from .batchnorm import BatchNorm2d as BatchNorm2d
from .batchnorm import BatchNorm3d as BatchNorm3d
from .bce import BCEWithLogitsLoss as BCEWithLogitsLoss
from .container import Sequential as Sequential
from .cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from .dropout import Dropout as Dropout
from .flatten import Flatten as Flatten
from .groupnorm import GroupNorm as GroupNorm
from .identity import Identity as Identity
from .instancenorm import InstanceNorm1d as InstanceNorm1d
from .instancenorm import InstanceNorm2d as InstanceNorm2d
from .instancenorm import InstanceNorm3d as InstanceNorm3d
from .layernorm import LayerNorm as LayerNorm
from .layernorm import RMSNorm as RMSNorm
from .linear import Linear as Linear
from .loss import Loss as Loss
from .mlp import MLP as MLP
from .module import HookHandle as HookHandle
from .module import LoadResult as LoadResult
from .module import Module as Module
from .module import Parameter as Parameter
from .mse import MSELoss as MSELoss
