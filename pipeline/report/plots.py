"""The plots of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import wilson
from pipeline.report.drawing import INK, MARKERS, MUTED, SCALE, SERIES, Sheet, style, svg
from pipeline.report.galleries import said
from pipeline.report.numbers import CONFIDENCE_BINS, MAGNITUDE_BIN
from pipeline.report.traced import Traced

LEAST = 5  # galaxies in a bin from which a fraction is drawn


@dataclass(frozen=True)
class Interval:
    """A fraction with its 95 % interval."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def shares(hits: NDArray[np.float64], trials: NDArray[np.float64]) -> Interval:
    """Fractions (N,) with Wilson's 95 % interval; trials above 0."""
    found = [wilson(int(right), int(total)) for right, total in zip(hits, trials, strict=True)]
    ends = np.array([(each.value, each.low, each.high) for each in found], dtype=np.float64).reshape(-1, 3)
    return Interval(*ends.T)


def filled(counted: Traced) -> bool:
    """Whether a bin of magnitude has galaxies enough for a share to be drawn."""
    totals: Counter[float] = Counter()
    for row in counted.dicts():
        totals[row["magnitude"]] += row["galaxies"]
    return max(totals.values(), default=0) >= LEAST


def fractions_plot(counted: Traced, classes: Sequence[str]) -> str:
    """The share of each class against magnitude, with intervals; bins of fewer than five galaxies are left out."""
    bins = np.array(counted.column("magnitude"), dtype=float)
    names, counts = np.array(counted.column("class")), np.array(counted.column("galaxies"), dtype=float)
    edges = np.unique(bins)
    totals = np.array([counts[bins == edge].sum() for edge in edges])
    enough = totals >= LEAST
    label = "share of each class against magnitude"
    with style(label):
        sheet = Sheet(5.6, 3.0)
        axes = sheet.axes()
        for index, name in enumerate(classes):
            hits = np.array([counts[(bins == edge) & (names == name)].sum() for edge in edges])
            share = shares(hits[enough], totals[enough])
            x = edges[enough] + MAGNITUDE_BIN / 2
            colour = SERIES[index % len(SERIES)]
            axes.fill_between(x, share.low, share.high, color=colour, alpha=0.15, lw=0)
            axes.plot(x, share.value, color=colour, marker=MARKERS[index % len(MARKERS)], label=said(name))
        axes.set_xlabel("r magnitude (AB, dereddened)")
        axes.set_ylabel("share of the galaxies")
        axes.set_ylim(0, 1)
        sheet.figure.legend(loc="outside right upper")
        return svg(sheet, label)


def confidence_plot(counted: Sequence[tuple[str, Traced]]) -> str:
    """How sure the networks are: galaxies against confidence, one outline a network."""
    label = "galaxies against confidence"
    edges = np.arange(CONFIDENCE_BINS + 1) / CONFIDENCE_BINS
    with style(label):
        sheet = Sheet(5.6, 2.6)
        axes = sheet.axes()
        for index, (prefix, traced) in enumerate(counted):
            heights = np.zeros(CONFIDENCE_BINS)
            places = np.rint(np.array(traced.column("confidence"), dtype=float) * CONFIDENCE_BINS).astype(int)
            heights[places] = traced.column("galaxies")
            axes.stairs(heights, edges, color=SERIES[index % len(SERIES)], lw=1.4, label=prefix)
        axes.set_xlabel("confidence (probability of the label)")
        axes.set_ylabel("galaxies")
        axes.set_xlim(0, 1)
        sheet.figure.legend(loc="outside right upper")
        return svg(sheet, label)


def agreement_plot(counted: Traced, classes: Sequence[str], one: str, other: str) -> str:
    """How two networks share out the same galaxies: rows by the first, columns by the second, as shares of a row."""
    grid = np.zeros((len(classes), len(classes)))
    place = {name: index for index, name in enumerate(classes)}
    for row in counted.dicts():
        grid[place[row["one"]], place[row["other"]]] = row["galaxies"]
    shares = grid / np.maximum(grid.sum(1, keepdims=True), 1)
    label = f"labels of {one} against those of {other}"
    with style(label):
        sheet = Sheet(4.4, 3.6)
        axes = sheet.axes()
        axes.grid(visible=False)
        axes.imshow(shares, cmap=SCALE, vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(grid):
            if count:
                axes.text(
                    j, i, f"{count:.0f}", ha="center", va="center", color="black" if shares[i, j] > 0.6 else "white"
                )
        axes.set_xticks(range(len(classes)), [said(name) for name in classes], rotation=35, ha="right")
        axes.set_yticks(range(len(classes)), [said(name) for name in classes])
        axes.set_xlabel(f"{other} says")
        axes.set_ylabel(f"{one} says")
        return svg(sheet, label)


def reliability_plot(confidence: NDArray[np.float64], right: NDArray[np.bool_], prefix: str) -> str:
    """How often a network is right against how sure it is, in ten bins of equal width."""
    label = f"reliability of {prefix}"
    bins = np.minimum((confidence * 10).astype(int), 9)
    trials = np.bincount(bins, minlength=10).astype(float)
    seen = trials > 0
    hits = np.bincount(bins, weights=right, minlength=10)[seen].astype(np.float64)
    sure = np.bincount(bins, weights=confidence, minlength=10)[seen] / trials[seen]
    share = shares(hits, trials[seen])
    with style(label):
        sheet = Sheet(3.4, 3.0)
        axes = sheet.axes()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls="--", label="calibrated")
        bars = np.stack([share.value - share.low, share.high - share.value])
        axes.errorbar(sure, share.value, np.maximum(bars, 0), fmt="o", color=SERIES[0], ecolor=INK, elinewidth=0.8)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
        return svg(sheet, label)


def throughput_plot(ends: NDArray[np.float64], stages: dict[str, NDArray[np.float64]]) -> str:
    """What each stage took, unit by unit as they were committed: ms an image against the time since the first."""
    label = "cost of each stage over time"
    unit, seconds = ("minutes", 60) if ends.max() > 120 else ("seconds", 1)
    with style(label):
        sheet = Sheet(5.6, 2.6)
        axes = sheet.axes()
        for index, (name, cost) in enumerate(stages.items()):
            axes.plot(
                ends / seconds,
                cost,
                color=SERIES[index],
                marker=MARKERS[index],
                ls="none" if len(ends) > 200 else "-",
                label=name,
            )
        axes.set_xlabel(f"{unit} since the first commit")
        axes.set_ylabel("ms an image")
        axes.set_ylim(bottom=0)
        sheet.figure.legend(loc="outside right upper")
        return svg(sheet, label)
