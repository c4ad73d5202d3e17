"""Plots as vector graphics that take their colours from the page: one drawing for the light and the dark theme.

Matplotlib draws in stand-in colours, which become the variables of the page's style sheet.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, LINE, PANEL = "#010101", "#020202", "#030303", "#040404"  # stand-ins
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PANEL: "var(--panel)"}

# Okabe and Ito 2008 (jfly.uni-koeln.de/color): told apart with any colour vision, on black and on white.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")
SCALE = "viridis"  # perceptually uniform

_STYLE: dict[Any, Any] = {  # matplotlib types its keys one by one
    "svg.fonttype": "none",  # text stays text: it is found, read aloud, and set in the page's type
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
}


class Sheet:
    """A figure in inches that becomes one SVG element."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height))
        FigureCanvasSVG(self.figure)

    def axes(self, **options: str) -> Axes:
        return self.figure.add_subplot(**options)


@contextmanager
def style(key: str) -> Iterator[None]:
    """The page's style for what is drawn inside; `key` tells one drawing's identifiers from another's."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": key}):
        yield


def svg(sheet: Sheet, label: str) -> str:
    """The drawing as an <svg> element that a screen reader calls `label`. Call it inside `style`."""
    text = io.StringIO()
    sheet.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    markup = text.getvalue()
    markup = markup[markup.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        markup = markup.replace(stand_in, variable)
    return markup.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
