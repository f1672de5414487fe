"""Making a plain array of what a user passes for one, or saying why it is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normcore._shown import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray


class UnfitError(TypeError):
    """No array can be made of a value. Its text goes on behind "got"; `ragged` if rows are of unequal length."""

    def __init__(self, message: str, ragged: bool = False) -> None:
        super().__init__(message)
        self.ragged = ragged


def plain(value: Any) -> NDArray[Any]:
    """`value` as an ndarray that is of no subclass; nothing is copied that is one already.

    It is asked once: objects are free to answer otherwise the next time.

    Raises
    ------
    UnfitError
        If NumPy makes no array of it, or a masked one, whose mask would be ignored.
    """
    if type(value) is np.ndarray:
        return value
    kind = type(value).__name__
    try:
        array = np.asanyarray(value)
    except MemoryError:
        raise
    except Exception as error:  # an __array__ of somebody else's may raise anything
        if isinstance(value, (list, tuple)) and isinstance(error, (TypeError, ValueError)):
            raise UnfitError(f"{kind} with rows of unequal length or other objects", ragged=True) from None
        raise UnfitError(f"{kind}, of which NumPy makes no array: {one_line(error)}") from None
    if isinstance(array, np.ma.MaskedArray):
        raise UnfitError(f"{kind}, whose mask would be ignored; fill or drop the masked values first")
    return np.asarray(array)
