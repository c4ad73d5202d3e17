"""What a survey must know: which tile owns a position, which files a tile has, and how to cut them. No I/O.

A new survey is one file here and one line in tests/test_surveys.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data import Cutout, Product, Source


class TileImage(Protocol):
    """One opened FITS image. Raises BadImage, naming the file, where its bytes cannot be decoded."""

    shape: tuple[int, ...]  # (H, W), or (C, H, W) for a file that holds several bands
    header: Mapping[str, Any]

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Pixels [y0, y1) x [x0, x1) of the image, native byte order; inside the image only."""
        ...


OpenProduct = Callable[[Product], TileImage]
"""Opens a product, once however often it is asked for. Raises FileNotFoundError where the archive has no such
file, ArchiveError where it may have it but does not answer, BadImage where it is no FITS image."""


class Survey(Protocol):
    """Everything about one survey that is not a network and not a file system."""

    bands: tuple[str, ...]

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        """(N,) name of the tile that owns each position, "" outside the footprint."""
        ...

    def products(self, tile: str) -> tuple[Product, ...]:
        """The files of one tile that cutting from it reads."""
        ...

    def cut(self, open_product: OpenProduct, source: Source, width: float | None) -> Cutout:
        """The sky around `source`, at least `width` arcsec wide with the margin that resampling needs.

        `width` None: the whole frame that the survey has of the source. Raises NoCoverage, BadImage or
        ArchiveError, and lets nothing else out.
        """
        ...
