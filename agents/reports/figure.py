"""Figures measured in pixels, with a heading: what all pictures of evaluations are drawn on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.text import Text
from matplotlib.ticker import LogLocator

from nat_env.storage.files import written_aside

DPI = 100
COLOURS = (
    "#7a7a7a", "#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#a16207", "#0e7490", "#be185d",
    "#111827", "#65a30d"
)  # fmt: skip
"""Of policies, in their order."""
EAST_ASIAN_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Arial Unicode MS", "Hiragino Sans", "PingFang SC", "Yu Gothic",
    "Microsoft YaHei", "Malgun Gothic",
)  # fmt: skip
"""For the characters that matplotlib's own font does not have; whichever are installed."""


def new_figure(width: int, height: int) -> Figure:
    """A white figure of so many pixels: no pyplot, and so no global state."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def pixel_axes(figure: Figure, x: int, y: int, width: int, height: int) -> Axes:
    """Axes without frame at pixels from the top left: one pixel of a picture is one of the file."""
    across, down = figure.get_size_inches() * DPI
    rectangle = (x / across, 1 - (y + height) / down, width / across, height / down)
    axes = figure.add_axes(rectangle)
    axes.set_axis_off()
    return axes


def write(figure: Figure, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Text at pixels from the top left."""
    width, height = figure.get_size_inches() * DPI
    figure.text(x / width, 1 - y / height, text, fontsize=size, **style)


def label_width(names: Iterable[str]) -> int:
    """Pixels that the longest of some names of size 10 takes, with a margin on both sides.

    Example:
        >>> label_width(["Bag", "Ankle boot"])
        110
    """
    return max(110, 24 + 8 * max(map(len, names)))


def heading(figure: Figure, title: str, explanation: str, left: int) -> None:
    """A title, and under it what the picture shows."""
    write(figure, left, 28, title, size=14, weight="bold")
    write(figure, left, 36, explanation, size=10, va="top", color="#444444")


def shortened(name: str, length: int) -> str:
    """The end of a long name: that is what tells run folders apart."""
    return name if len(name) <= length else "..." + name[3 - length :]


def log_scale(axes: Axes) -> None:
    """Have an axis of numbers that are told in full, over a decade or a part of one."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high > 10 * low:  # all nine labels of a decade would be written over one another
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_formatter("{x:.3g}")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    # Classes, bundles and policies may be called anything: a `$` is one, and begins no formula.
    installed = set(get_font_names())
    families = ["sans-serif", *(font for font in EAST_ASIAN_FONTS if font in installed)]
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_fontfamily(families)
    with written_aside(path) as aside:
        figure.savefig(aside, format="png")
