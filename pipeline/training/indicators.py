"""Five numbers that say what a galaxy looks like without a model of it, for the baseline of 1992 (models/ann.py).

    axis_ratio     minor over major axis of the light's second moments
    concentration  5 log10 (r80 / r20), radii of 80 and 20 % of the light
    asymmetry      how far the image differs from itself turned by half a turn, less that of the sky
    gini           how unequally the pixels share the light: 0 equally, 1 all in one
    m20            log10 of the brightest fifth's second moment over that of all the light

as statmorph measures them (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140; definitions of Conselice 2003, ApJS 147, 1,
and Lotz et al. 2004, AJ 128, 163), on the source at the image's centre that photutils finds. They are measured on the
images that the networks see, whose stretch is not linear: their values are not those of a catalogue of fluxes.
One image takes about a third of a second of one core.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.ann import INDICATORS
from pipeline.models.extra import from_extra

EXTRA = "baselines"
SIDE = 128  # pixels that an image is brought to at most, by whole factors: the time grows with their number
EDGE = 16  # sides of an image a side of the border that its sky is read from
LEAST_NOISE = 0.5  # counts: what rounding to whole ones hides
DETECTION = 1.5  # deviations of the sky above it, as in statmorph's tutorial
LEAST_AREA = 8  # pixels of a source
SKYBOX = 8  # sides of an image a side of the sky whose asymmetry is taken off
CENTRAL = 0.25  # image sides from the centre within which the source has to begin
INVALID = -99.0  # statmorph's own mark of what it could not measure

Floats = NDArray[np.float64]


def indicators(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images (N, C, S, S) to their indicators (N, 5), in the order of INDICATORS; NaN where one has none.

    A row is NaN throughout where no source lies at the centre: in an empty, a constant or a saturated image.
    Raises MissingExtra where statmorph or photutils is not installed.
    """
    rows = [_measured(_grey(image)) for image in images]
    return np.array(rows, dtype=np.float32).reshape(-1, len(INDICATORS))


def _grey(image: NDArray[np.uint8]) -> Floats:
    """The mean of the bands of an image (C, S, S), binned to at most SIDE pixels a side."""
    plane = image.mean(0, dtype=np.float64)
    factor = -(-len(plane) // SIDE)
    side = len(plane) // factor
    return plane[: side * factor, : side * factor].reshape(side, factor, side, factor).mean((1, 3))


def _measured(plane: Floats) -> Floats:
    """The indicators (5,) of the source at the centre of a plane (S, S)."""
    plane, noise = _above_the_sky(plane)
    nothing = np.full(len(INDICATORS), np.nan)
    sources = _sources(plane, noise)
    if sources is None or not (label := _central(sources.data)):
        return nothing
    others = (sources.data > 0) & (sources.data != label)
    statmorph: Any = from_extra("statmorph", EXTRA)
    known = {"mask": others, "weightmap": np.full_like(plane, noise), "skybox_size": max(len(plane) // SKYBOX, 2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what it marks as invalid
        try:
            found = statmorph.SourceMorphology(plane, sources, label, **known)
        except AssertionError:  # its own checks: of a Petrosian radius, for one
            return nothing
    ellipticity = found.ellipticity_asymmetry
    ratio = INVALID if ellipticity == INVALID else 1 - ellipticity
    values = np.array([ratio, found.concentration, found.asymmetry, found.gini, found.m20])
    return np.where(np.isfinite(values) & (values != INVALID), values, np.nan)


def _above_the_sky(plane: Floats) -> tuple[Floats, float]:
    """The plane without the median of its border, and the border's deviation (1.4826 median deviations)."""
    width = max(len(plane) // EDGE, 1)
    border = np.ones(plane.shape, dtype=bool)
    border[width:-width, width:-width] = False
    sky = np.median(plane[border])
    deviation = 1.4826 * float(np.median(np.abs(plane[border] - sky)))
    return plane - sky, max(deviation, LEAST_NOISE)


def _sources(plane: Floats, noise: float) -> Any:
    """photutils' segmentation of a plane, or None where nothing stands out."""
    segmentation: Any = from_extra("photutils.segmentation", EXTRA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it finds nothing
        return segmentation.detect_sources(plane, DETECTION * noise, LEAST_AREA)


def _central(labels: NDArray[np.int_]) -> int:
    """The label nearest to the centre of labels (S, S), 0 where none is near."""
    y, x = np.nonzero(labels)
    middle = (len(labels) - 1) / 2
    distance = np.hypot(y - middle, x - middle)
    nearest = int(distance.argmin())
    return int(labels[y[nearest], x[nearest]]) if distance[nearest] <= CENTRAL * len(labels) else 0
