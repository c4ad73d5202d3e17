"""An evaluation as pictures that a person can read. Matplotlib is imported when one is drawn.

Colours are Okabe and Ito's eight, which the colour-blind tell apart (Okabe and Ito 2008, jfly.uni-koeln.de/color), and
the map cividis. Every axis has its quantity, every figure its number of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.calibration import Bin
from pipeline.evaluation.comparison import Compared
from pipeline.evaluation.judgement import Judgement, Scores
from pipeline.evaluation.novelty import Separation

if TYPE_CHECKING:
    from collections.abc import Iterator

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E"
CYCLE = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
DOTS = 150  # an inch
FEW = 3  # images of a bin, below which its point says nothing
COLUMNS = 6  # of a contact sheet
WORDS = {"round": "round", "in_between": "in-between", "edge_on": "edge-on", "frii": "FRII", "fri": "FRI"}


def word(name: str) -> str:
    """A class as it is written in a figure."""
    return WORDS.get(name, name.replace("_", " "))


def draw_confusion(path: Path, scores: Scores, title: str) -> None:
    """The confusion matrix: shares of each class by colour, images by number."""
    matrix = np.array(scores.confusion)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [word(name) for name in scores.classes]
    side = 1.9 + 0.72 * len(names)
    with _figure(path, (side + 0.9, side)) as (_, axes):
        shown = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), [f"{n} ({c})" for n, c in zip(names, matrix.sum(1), strict=True)])
        for (row, column), count in np.ndenumerate(matrix):
            colour = "black" if shares[row, column] > 0.55 else "white"
            axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=10)
        axes.set_xlabel("answer")
        axes.set_ylabel("class (images)")
        axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03, label="share of the class")
        axes.set_title(f"{title}\naccuracy {_of(scores.accuracy)}, {scores.images} images", fontsize=10)
        axes.tick_params(length=0)


def draw_reliability(path: Path, judgement: Judgement, title: str) -> None:
    """Accuracy against confidence, before and after calibration, with the number of answers below."""
    with _figure(path, (5.2, 5.6), (2, 1), height_ratios=(4, 1), sharex=True) as (figure, (upper, lower)):
        upper.plot((0, 1), (0, 1), color=GREY, linewidth=1, label="as it should be")
        for name, found, colour, marker in (
            ("before", judgement.before, ORANGE, "s"),
            ("after", judgement.after, BLUE, "o"),
        ):
            bins = [one for one in found.bins if one.images >= FEW]
            label = f"{name}: ECE {found.ece.value:.3f} ({found.ece.low:.3f} to {found.ece.high:.3f})"
            _points(upper, bins, label, colour, marker)
            middles = [(one.low + one.high) / 2 for one in found.bins]
            counts = [one.images for one in found.bins]
            lower.step(middles, counts, where="mid", color=colour, linewidth=1.5)
        upper.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.02))
        upper.legend(loc="upper left", frameon=False, fontsize=9)
        lower.set(xlabel="confidence (largest probability)", ylabel="answers")
        lower.set_ylim(bottom=0)
        upper.set_title(f"{title}\ntemperature {judgement.temperature:.2f}, {judgement.own.images} images", fontsize=10)
        figure.align_ylabels()


def draw_risk(path: Path, judgements: Mapping[str, Judgement], title: str) -> None:
    """The error rate among the most confident answers, as more and more of them are kept."""
    with _figure(path, (5.6, 4.2)) as (_, axes):
        for number, (name, one) in enumerate(judgements.items()):
            coverage, risk = np.array(one.risk).reshape(-1, 2).T
            colour, style = CYCLE[number % len(CYCLE)], STYLES[number % len(STYLES)]
            label = f"{name} ({one.headline.images} images)"
            axes.plot(100 * coverage, 100 * risk, color=colour, linestyle=style, label=label)
        axes.set(xlabel="answers kept, most confident first (%)", ylabel="wrong among them (%)", xlim=(0, 100))
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=9)
        axes.set_title(title, fontsize=10)


def draw_sheet(path: Path, images: NDArray[np.uint8], captions: Sequence[str], title: str) -> None:
    """Images (N, C, S, S) in rows, each with its caption."""
    rows = max(1, -(-len(images) // COLUMNS))
    size = (1.65 * COLUMNS, 2.05 * rows + 0.5)
    with _figure(path, size, (rows, COLUMNS), squeeze=False) as (figure, grid):
        for axes in grid.flat:
            axes.axis("off")
        for axes, image, caption in zip(grid.flat, images, captions, strict=False):
            pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            axes.set_title(caption, fontsize=7.5)
        figure.suptitle(title, fontsize=10)


def draw_comparison(path: Path, rows: Sequence[Compared], title: str) -> None:
    """Macro F1 of every checkpoint with its interval, and what the first has over each, paired."""
    names = [one.name for one in rows]
    places = np.arange(len(rows))[::-1]
    size = (8.2, 1.5 + 0.42 * len(rows))
    with _figure(path, size, (1, 2), sharey=True) as (_, (left, right)):
        for place, one in zip(places, rows, strict=True):
            _bar(left, one.headline["f1"], place, BLUE)
            if one.headline_less is not None:
                _bar(right, one.headline_less["f1"], place, ORANGE)
        left.set_yticks(places, names)
        left.set_ylim(-0.6, len(rows) - 0.4)
        left.set_xlabel("macro F1, 95 % interval")
        right.axvline(0, color=GREY, linewidth=1)
        right.set_xlabel(f"{names[0]} less this one, paired")
        right.tick_params(axis="y", length=0)
        for axes in (left, right):
            axes.locator_params(axis="x", nbins=5)
        left.figure.suptitle(f"{title}, {rows[0].images} images", fontsize=10)


def draw_separations(path: Path, rows: Sequence[Separation], title: str) -> None:
    """The area under the ROC curve of each kind against each set of galaxies."""
    kinds, sets = list(dict.fromkeys(one.kind for one in rows)), list(dict.fromkeys(one.galaxies for one in rows))
    with _figure(path, (6.4, 1.4 + 0.55 * len(kinds))) as (_, axes):
        for one in rows:
            number = sets.index(one.galaxies)
            place = len(kinds) - 1 - kinds.index(one.kind) + 0.22 * (1 - number)
            label = f"against {one.galaxies} ({one.images[1]})" if one.kind == kinds[0] else None
            _bar(axes, one.novelty, place, CYCLE[number], label, "os^D"[number % 4])
        axes.axvline(0.5, color=GREY, linewidth=1)
        axes.set_yticks(range(len(kinds) - 1, -1, -1), [f"{k} ({_count(rows, k)})" for k in kinds])
        axes.set(
            xlabel="area under the ROC curve of the novelty score, 95 % interval", xlim=(min(0.4, _least(rows)), 1.01)
        )
        axes.legend(frameon=False, fontsize=8, loc="lower left")
        axes.set_title(title, fontsize=10)


def _points(axes: Any, bins: Sequence[Bin], label: str, colour: str, marker: str) -> None:
    x = [one.confidence for one in bins]
    y = np.array([one.accuracy.value for one in bins])
    low, high = (np.array([getattr(one.accuracy, end) for one in bins]) for end in ("low", "high"))
    style = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2, "elinewidth": 0.8, "capsize": 2}
    axes.errorbar(x, y, (y - low, high - y), label=label, **style)


def _bar(axes: Any, estimate: Any, place: float, colour: str, label: str | None = None, marker: str = "o") -> None:
    reach = ([estimate.value - estimate.low], [estimate.high - estimate.value])
    axes.errorbar(
        [estimate.value], [place], xerr=reach, color=colour, marker=marker, markersize=5, capsize=2.5, label=label
    )


def _of(estimate: Any) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _count(rows: Sequence[Separation], kind: str) -> int:
    return next(one.images[0] for one in rows if one.kind == kind)


def _least(rows: Sequence[Separation]) -> float:
    known = [one.novelty.low for one in rows if np.isfinite(one.novelty.low)]
    return min(known, default=0.4) - 0.02


@contextmanager
def _figure(path: Path, size: tuple[float, float], grid: tuple[int, int] = (1, 1), **how: Any) -> Iterator[Any]:
    """A figure and its axes, saved as PNG at the end; without pyplot, whose state is global."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    ratios = how.pop("height_ratios", None)
    axes = figure.subplots(*grid, gridspec_kw=None if ratios is None else {"height_ratios": ratios}, **how)
    for one in np.atleast_1d(axes).flat:
        one.spines[["top", "right"]].set_visible(False)
    yield figure, axes
    figure.savefig(path, dpi=DOTS)
