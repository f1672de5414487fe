"""A window that shows a figure while a study runs. The one place of the studies where pyplot is imported."""

from __future__ import annotations

import os
import sys
from typing import Any

_FILES_ONLY = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}
_PAUSE = 0.05  # seconds that the toolkit gets after each picture


def no_window() -> str:
    """Why no window can be opened here, and what to do about it; empty if one can."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return "matplotlib, which is not installed; install normcore-cpu[study]"
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "a display, and there is none here (DISPLAY is not set); leave it out, the pictures are files too"
    try:
        # Asking for a figure manager settles which toolkit it is, and loads it.
        pyplot.close(pyplot.figure())
    except Exception as error:  # whatever a toolkit raises when there is no display behind DISPLAY
        return f"a display, and the window cannot be opened ({_first_line(error)}); leave it out"
    backend = pyplot.get_backend()
    if backend.lower() in _FILES_ONLY:
        return (
            f"a window, and matplotlib's backend here is {backend}, which draws files alone; "
            "install a toolkit (tkinter or PyQt), or leave it out"
        )
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


class Window:
    """A window with one figure, which `show` draws anew; when the user closes it, it stays closed.

    Parameters
    ----------
    title : str
        Of the window.
    width, height : float
        Of the figure, in inches.
    """

    def __init__(self, title: str, width: float, height: float) -> None:
        from matplotlib import pyplot

        self._pyplot: Any = pyplot
        self._title = title
        self._figure: Any = pyplot.figure(title, figsize=(width, height))
        self._figure.show()

    @property
    def open(self) -> bool:
        """Whether the user has left it open."""
        return bool(self._pyplot.fignum_exists(self._title))

    def show(self, draw: Any) -> None:
        """Clear the figure and let ``draw(figure)`` draw on it."""
        if not self.open:
            return
        self._figure.clear()
        draw(self._figure)
        self._figure.canvas.draw_idle()
        self._figure.canvas.start_event_loop(_PAUSE)  # unlike pyplot.pause, does not take the keyboard

    def close(self) -> None:
        """Close it."""
        self._pyplot.close(self._figure)
