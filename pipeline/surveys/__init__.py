"""What a survey must know: which tile owns a position, which files a tile has, and how to cut them. No I/O.

A new survey is one file here: a config, which is the section `survey:` of a job, and the survey that it builds. It
joins with its config in `Job.survey`, one line in tests/test_surveys.py and a job in jobs/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data import Cutout, Product, Source, Way


class TileImage(Protocol):
    """One opened FITS image. Raises BadImage, naming the file, where its bytes cannot be decoded."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W), or (C, H, W) for a file that holds several bands."""
        ...

    @property
    def header(self) -> Mapping[str, Any]: ...

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Pixels [y0, y1) x [x0, x1) of the image, native byte order; inside the image only."""
        ...


OpenProduct = Callable[[Product], TileImage]
"""Opens a product, once however often it is asked for. Raises FileNotFoundError where the archive has no such
file, ArchiveError where it may have it but does not answer, BadImage where it is no FITS image."""


@dataclass(frozen=True, slots=True)
class TileList:
    """A table that says where a survey's tiles are. It is read once, before the run, and kept with the plan."""

    path: str  # below the root of the mirror, or a whole URL
    columns: tuple[str, ...] = ()  # those that are needed; () all
    region: str = ""  # becomes the column `region`
    suffix: str = ""  # tells the format, such as ".vot", where the path does not


class Survey(Protocol):
    """Everything about one survey that is not a network and not a file system."""

    @property
    def bands(self) -> tuple[str, ...]: ...

    @property
    def ways(self) -> tuple[Way, ...]:
        """Those in which `cut` can come by the pixels."""
        ...

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        """(N,) name of the tile that owns each position, "" outside the footprint."""
        ...

    def products(self, tile: str) -> tuple[Product, ...]:
        """The files of one tile that cutting from it reads; what a survey without files would ask its service."""
        ...

    def cutouts(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        """What to ask of the cutout service for `width` arcsec around a source on `pixels` x `pixels`.

        One file of all bands or one a band; `path` is the whole URL. () where there is no service. Raises
        NoCoverage where the survey's own footprint says that there is nothing.
        """
        ...

    def cut(self, open_product: OpenProduct, source: Source, width: float | None, way: Way = "file") -> Cutout:
        """The sky around `source`, at least `width` arcsec wide with the margin that resampling needs.

        `width` None: the whole frame that the survey has of the source. "file" and "ranges" are one here: what
        they differ in is the opener's. Raises NoCoverage, BadImage or ArchiveError, and lets nothing else out.
        """
        ...


class SurveyConfig(Protocol):
    """The section `survey:` of a job: which survey, which release, which bands."""

    @property
    def kind(self) -> str: ...

    @property
    def bands(self) -> tuple[str, ...]: ...

    @property
    def release(self) -> str:
        """The data release, for the catalogue; "" where there is none."""
        ...

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        """The tables that `build` needs; () where positions, or the source table, tell the tiles."""
        ...

    @property
    def sweeps(self) -> Mapping[str, str]:
        """Region -> folder of its sweep tables below the root: the sources where a job names none."""
        ...

    @property
    def hosts(self) -> tuple[str, ...]:
        """The URLs that the survey itself may ask, besides the mirror."""
        ...

    def build(self, tiles: pa.Table | None) -> Survey:
        """The survey. `tiles`: the rows of every tile list in one, with the column `region`; None without lists.

        Raises JobError where the table is missing or lacks what is needed.
        """
        ...
