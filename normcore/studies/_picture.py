"""Picture and Animation: what a result shows, drawn when it is asked for, so that only then matplotlib is imported."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110


@dataclass(frozen=True)
class Picture:
    """One figure, saved as PNG.

    Attributes
    ----------
    name : str
        Of its file, without the ending.
    caption : str
        A sentence or two: what is drawn. It is also what a screen reader says.
    draw : callable
        Returns the figure; imports what it needs.
    report : bool
        Whether it is in the HTML report; False for pictures that are files alone.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]
    report: bool = True

    suffix: ClassVar[str] = ".png"
    mime: ClassVar[str] = "image/png"

    def render(self) -> bytes:
        """Return the file's content."""
        from PIL import Image  # comes with matplotlib

        image = Image.open(io.BytesIO(_png(self.draw(), DPI))).convert("RGB")
        file = io.BytesIO()
        # Lines and text need few colours, and a palette of them a third of the bytes.
        image.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True, dpi=(DPI, DPI))
        return file.getvalue()


@dataclass(frozen=True)
class Animation:
    """Figures of one size, one after another, saved as an animated GIF that starts again.

    Attributes
    ----------
    name, caption, report
        As a `Picture`'s.
    frames : callable
        Returns the figures in order.
    seconds : float
        How long each is shown; the last one is shown three times as long.
    """

    name: str
    caption: str
    frames: Callable[[], Iterable[Figure]]
    seconds: float = 0.7
    report: bool = True

    suffix: ClassVar[str] = ".gif"
    mime: ClassVar[str] = "image/gif"

    def render(self) -> bytes:
        """Return the file's content."""
        from PIL import Image  # comes with matplotlib

        images = [Image.open(io.BytesIO(_png(figure, 80))).convert("RGB") for figure in self.frames()]
        # One palette for all frames, or a colour would change slightly from one to the next.
        width, height = images[0].size
        strip = Image.new("RGB", (width, height * len(images)))
        for index, image in enumerate(images):
            strip.paste(image, (0, height * index))
        palette = strip.quantize(256)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
        times = [round(1000 * self.seconds)] * len(images)
        times[-1] *= 3
        file = io.BytesIO()
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, optimize=True)
        return file.getvalue()


def _png(figure: Figure, dpi: int) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
