"""How much of a training image a network sees: the served rule, met with the radius that the training data have.

Serving shows 8.5 half-light radii from edge to edge (pipeline/data.py, FieldOfView), along the major axis. Labelled
JPEGs have another radius: that of a circle with the area of the pixels that are brighter than the background by
about 38 of 255, which is larger. The two numbers below lead from one to the other. They were fitted to images of the
mock sky, drawn by the served rule around sources of known half-light radius, of which the same area was measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.training.recipe import Data

AREA_RADIUS = 1.98  # radii of the bright area in half-light radii, of a round galaxy
FLATTENING = 0.17  # power of the axis ratio by which the flat ones have less: their area shrinks, their axis does not
FLATTEST = 0.1  # a measured axis ratio below this is a bad one
SMALLEST, LARGEST = 0.25, 1.4  # widths of the image: limits of a radius that was measured wrongly


def half_light_radii(radius: NDArray[np.float64], axis_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) along the major axis, in the unit of `radius` (N,), from the radius of the bright area and minor/major."""
    return radius / (AREA_RADIUS * np.clip(axis_ratio, FLATTEST, 1.0) ** FLATTENING)


def frame_fractions(half_light: NDArray[np.float64], width: NDArray[np.float64], data: Data) -> NDArray[np.float32]:
    """(N,) the width of the frame in widths of the image in the file.

    `half_light` and `width` (N,) in pixels of the original, of which the file shows `data.shows`. A radius that is
    missing counts as the median of the others.
    """
    if data.radius_multiple is None:
        return np.ones(len(half_light), np.float32)
    shares = half_light / (width * data.shows)  # (N,) of the image's width
    known = np.isfinite(shares) & (shares > 0)
    usual = float(np.median(shares[known])) if known.any() else 1 / data.radius_multiple
    return np.clip(data.radius_multiple * np.where(known, shares, usual), SMALLEST, LARGEST).astype(np.float32)
