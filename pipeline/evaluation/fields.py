"""Do galaxies fill the frame alike in training and where the network serves? Measured on what the network sees.

The frame rule works with radii that were measured elsewhere, in different ways. What counts is the picture: how much of
it is bright, by the same measure on every set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.answers import planes
from pipeline.evaluation.intervals import Floats
from pipeline.evaluation.sets import Labelled
from pipeline.training.recipe import Padding

SIDE = 64  # px at which it is measured
BRIGHT = 38 / 255  # above the sky: the limit at which `radius_px` of the labelled images was measured
EDGE = 4  # px of the frame's border that count as sky
MOST = 400  # images of a set


@dataclass(frozen=True)
class FieldShare:
    """One set of images, one class or all."""

    set: str
    name: str  # of the class, or "all"
    images: int
    bright_radius: float  # median, frame widths: of a disc of the bright pixels' area
    half_light: float  # median, frame widths, as the frame rule has it; NaN where radii are not known


def field_shares(sets: Sequence[Labelled], classes: Sequence[str], padding: Padding) -> list[FieldShare]:
    """The medians of every set, by class and in all; of MOST images a set, drawn evenly."""
    found = []
    for one in sets:
        rows = np.sort(np.random.default_rng(0).permutation(len(one.examples))[:MOST])
        examples = one.examples.take(rows)
        bright = bright_radii(planes(examples, slice(None), SIDE, padding))
        share = (examples.half_light / examples.frames).astype(np.float64)
        names = [(classes[label], examples.labels == label) for label in np.unique(examples.labels)]
        for name, mine in [("all", np.ones(len(examples), np.bool_)), *names]:
            found.append(FieldShare(one.name, name, int(mine.sum()), _median(bright[mine]), _median(share[mine])))
    return found


def bright_radii(images: Tensor) -> Floats:
    """(N,) frame widths: the radius of a disc with the area of what is brighter than the sky by BRIGHT, in grey.

    The sky is the median of the border, EDGE pixels wide. Of images (N, C, S, S) in [0, 1].
    """
    grey = images.mean(1)
    border = torch.ones(grey.shape[1:], dtype=torch.bool)
    border[EDGE:-EDGE, EDGE:-EDGE] = False
    sky = grey[:, border].median(1).values
    area = (grey > sky[:, None, None] + BRIGHT).double().mean((1, 2))
    return (area / math.pi).sqrt().numpy()


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
