"""Data sets for trying things out, as plain arrays."""

from .cifar import read_cifar10 as read_cifar10
from .dataset import Dataset as Dataset
from .dataset import Split as Split
from .digits import load_digits as load_digits
from .errors import DataError as DataError
from .errors import DataNotFoundError as DataNotFoundError
from .idx import read_idx as read_idx
from .loading import DATASETS as DATASETS
from .loading import load as load
from .loading import load_cifar10 as load_cifar10
from .loading import load_fashion_mnist as load_fashion_mnist
from .loading import load_mnist as load_mnist
from .places import cache_dir as cache_dir
from .splitting import Part as Part
from .splitting import split as split
