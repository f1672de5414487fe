"""Data sets for trying things out, as plain arrays."""

from .digits import Dataset as Dataset
from .digits import load_digits as load_digits
from .splitting import Part as Part
from .splitting import split as split
