"""Whether the images of a brick lie where the table of bricks has it, and all on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.errors import BadImage
from pipeline.surveys import TileImage
from pipeline.surveys.legacy_service import PIXEL
from pipeline.surveys.tan import Tan

_SCALE_TOLERANCE = 1e-3  # arcsec
_CENTRE_TOLERANCE = 1.0  # pixels between the brick's centre by the table and by the header
_SAME_REFERENCE = 0.01  # pixels
_SAME_AXES = 1e-9  # of a unit vector: 0.2 milliarcsec
_KEPT = 64  # headers: four bands of a brick, its eight neighbours and as many again


class BrickProjections:
    """The projections of the newest images: each header is checked once, however many sources are cut from it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Mapping[str, Any], Tan]] = {}  # by path; the header says whether it is that image

    def of(self, image: TileImage, path: str, centre: tuple[float, float]) -> Tan:
        """The image's projection: TAN, 0.262 arcsec, its `centre` (ra, dec) where the table has the brick's.

        About 2 % of the DR10 bricks have headers that contradict the catalogues (dr10/issues); the table is right.
        Raises BadImage, naming the file, for any other.
        """
        header, tan = self._known.get(path, (None, None))
        if tan is None or header is not image.header:
            tan = _checked(image, path, centre)
            if len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[path] = image.header, tan
        return tan


def check_same(tans: list[Tan], shapes: list[tuple[int, ...]], path: str) -> None:
    """Raises BadImage where the last band lies on another grid than the first."""
    first, last = tans[0], tans[-1]
    apart = np.abs(first.reference - last.reference).max(), np.abs(first.axes - last.axes).max()
    if not (apart[0] <= _SAME_REFERENCE and apart[1] <= _SAME_AXES and shapes[0] == shapes[-1]):
        raise BadImage(f"{path}: shape {shapes[-1]} and WCS differ from those of the other bands, {shapes[0]}")


def _checked(image: TileImage, path: str, centre: tuple[float, float]) -> Tan:
    tan = Tan.of(image.header, path)
    if not abs(tan.pixel_scale - PIXEL) < _SCALE_TOLERANCE:
        raise BadImage(f"{path}: {tan.pixel_scale:.5f} arcsec a pixel, expected {PIXEL}")
    if len(image.shape) != 2:
        raise BadImage(f"{path}: shape {image.shape}, expected one plane")
    x, y = tan.to_pixels(np.array([centre[0]]), np.array([centre[1]]))
    middle = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    if not max(abs(x[0] - middle[0]), abs(y[0] - middle[1])) <= _CENTRE_TOLERANCE:
        raise BadImage(
            f"{path}: by its header the brick's centre {centre} is at pixel ({x[0]:.1f}, {y[0]:.1f}), expected {middle}"
        )
    return tan
