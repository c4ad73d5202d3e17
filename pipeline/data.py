"""The nouns of the pipeline. Every other module speaks in these; this one imports none of them.

Shapes use one alphabet throughout: N rows, M <= N of them with an image, C bands, H x W pixels,
K classes. Positions are ICRS degrees. Flux is nanomaggies per square arcsecond (optical) or Jy/beam
(radio) before `preprocess`, uint8 after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.tail import TileTime

ObjectId = int | str
Way = Literal["file", "ranges", "cutout"]
"""How the pixels of a source come: of a whole file, of the byte ranges needed, or of the survey's cutout service."""


class Status(StrEnum):
    """What happened to a source. Every row leaves the pipeline with exactly one of these."""

    OK = "ok"
    PARTIAL = "partial"  # some coverage is missing: classified all the same, and flagged
    NO_COVERAGE = "no_coverage"  # the survey has no image at this position
    BAD_IMAGE = "bad_image"  # an image came, but it cannot be used
    ARCHIVE_ERROR = "archive_error"  # the archive failed after every retry
    QUARANTINED = "quarantined"  # its work unit failed too often
    INVALID = "invalid"  # the source row itself is wrong


class Integrity(StrEnum):
    """Whether checksums that the archive publishes were there for the files of a row, and held."""

    CHECKED = "checked"  # for every file that was read
    UNCHECKED = "unchecked"  # not for all


CLASSIFIED = frozenset({Status.OK, Status.PARTIAL})
TRANSIENT = frozenset({Status.ARCHIVE_ERROR, Status.QUARANTINED})  # what `retry` tries again


class RowFlag(IntFlag):
    """The bits of the catalogue column `flags`; schemas/catalogue.yaml documents the same bits."""

    EDGE = 1 << 0  # the cutout left its tile and was completed from the neighbours
    MASKED = 1 << 1  # the survey's mask covers more than a tenth of the cutout
    BLENDED = 1 << 2
    FOV_LIMITED = 1 << 3  # the field of view met the contract's lower or upper limit
    UNRESOLVED = 1 << 4
    OUT_OF_DISTRIBUTION = 1 << 5
    SEAM = 1 << 6
    CLOSE_PAIR = 1 << 7
    MISSING_BAND = 1 << 8  # one of the contract's bands has no data here
    PARTIAL_COVERAGE = 1 << 9  # a band lacks more than a fifth of its pixels
    PREVIEW = 1 << 10  # of a resampled all-sky image (HiPS): shapes, no photometry
    RESAMPLED = 1 << 11  # the pixels are a cutout service's, which resamples, and not the tile's own


NOVEL = 2.0  # novelty from which OUT_OF_DISTRIBUTION is set: one held-out training galaxy in a hundred is as novel


@dataclass(frozen=True, slots=True)
class Source:
    """One galaxy to classify."""

    object_id: ObjectId
    ra: float  # deg
    dec: float  # deg
    tile: str  # the survey tile that owns the position; "" outside the footprint
    radius: float | None = None  # arcsec, half-light


@dataclass(frozen=True, slots=True)
class Expected:
    """What the survey knows of a product before it is asked for, to be held against what comes; None: not known."""

    bands: str | None = None  # of a cutout, as its card BANDS must say
    shape: tuple[int, int] | None = None  # (H, W)
    pixel_scale: float | None = None  # arcsec
    centre: tuple[float, float] | None = None  # deg: a position that must be inside
    covered: bool | None = None  # whether the survey's own footprint has an image here
    sums: str | None = None  # path of the published list of SHA-256 sums that names the product


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of a product lie in its file, as is usual in its survey: for estimates, never for reading."""

    shape: tuple[int, int]  # (H, W)
    tile: tuple[int, int]  # (H, W) of a tile of compression; (1, W) for an image that is not compressed
    bytes: float  # of the file
    pixel_scale: float  # arcsec
    codec: Literal["rice", "hcompress", "gzip", "plain"] = "rice"
    margin: int = 0  # pixels by which the image goes beyond its tile's own sky, on each side


@dataclass(frozen=True, slots=True)
class Product:
    """One file of a survey tile, by its path below the root of the release."""

    tile: str
    kind: Literal["image", "maskbits", "cutout"]
    band: str | None
    path: str  # of a cutout service's answer: the whole URL
    expected: Expected = Expected()
    layout: Layout | None = None  # None: not known, so that no range of it can be planned


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Rows [start, stop) of the plan's table: what is loaded, committed and retried together.

    `chunks` are the row counts of its load tasks, and `ways` by which way how many rows come, one run of rows after
    the other (nothing: all as files); both are fixed when the unit is planned.
    """

    unit_id: str  # hash of what it contains
    part: str  # the plan file that holds its rows
    start: int
    stop: int
    chunks: tuple[int, ...]
    tiles: int = 1  # distinct tiles, for the estimates
    attempt: int = 1  # number of the commit: a retry counts on
    ways: tuple[tuple[Way, int], ...] = ()

    def __post_init__(self) -> None:
        if self.ways and sum(rows for _, rows in self.ways) != self.stop - self.start:
            raise ValueError(f"expected the ways of rows {self.start} to {self.stop}, got {self.ways}")
        if not self.chunks or min(self.chunks) < 1 or sum(self.chunks) != self.stop - self.start:
            raise ValueError(f"expected chunks that make up rows {self.start} to {self.stop}, got {self.chunks}")

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def chunk_rows(self, chunk: int) -> tuple[int, int]:
        """The rows [start, stop) of the plan file that chunk number `chunk` covers."""
        start = self.start + sum(self.chunks[:chunk])
        return start, start + self.chunks[chunk]

    def chunk_ways(self, chunk: int) -> list[Way]:
        """The way of every row of chunk number `chunk`."""
        start, stop = (row - self.start for row in self.chunk_rows(chunk))
        ways: list[Way] = [way for way, rows in self.ways or (("file", self.rows),) for _ in range(rows)]
        return ways[start:stop]


@dataclass(frozen=True, slots=True, eq=False)
class PixelGrid:
    """The local map from the tangent plane around a source to array pixels.

    pixel (x, y) = centre + matrix @ (east, north), offsets in arcsec; pixel centres are integers, 0-based.
    """

    centre: tuple[float, float]  # x, y of the source
    matrix: NDArray[np.float64]  # (2, 2) pixels per arcsec

    @property
    def pixel_scale(self) -> float:
        """Arcsec per pixel: the square root of the pixel area."""
        return float(abs(np.linalg.det(self.matrix)) ** -0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """The sky around one source, on the pixels of its own tile. Rows run along y as in the FITS file."""

    flux: NDArray[np.float32]  # (C, H, W) nanomaggies / arcsec2
    bad: NDArray[np.bool_]  # (C, H, W) True where there is no measurement
    grid: PixelGrid
    flags: RowFlag = RowFlag(0)
    masked_fraction: float = 0.0  # of the cutout, by the survey's mask


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """How much sky an image shows: `fixed` arcsec, or a multiple of the source's radius between limits.

    A source without a radius gets `fixed`; where `fixed` is None, the whole frame that the survey gives.
    """

    fixed: float | None = 64.0  # arcsec
    radius_multiple: float | None = None
    minimum: float = 16.0  # arcsec
    maximum: float = 256.0  # arcsec


@dataclass(frozen=True, slots=True)
class ImageContract:
    """How sky becomes the network's input. It belongs to the checkpoint, never to a survey release.

    The mapping `arcsinh` is the Legacy Surveys' arcsinh (Lupton et al. 2004, as in the viewer's `sdss_rgb`):
    I = mean_b max(0, f_b * scale_b + m); out_b = clip((f_b * scale_b + m) * arcsinh(Q I) / sqrt(Q) / I, 0, 1)
    where f_b is in nanomaggies per `reference_pixel` squared. Planes come out in the order of `planes`.

    The mapping `clipped` is for one band of a radio map, as in MiraBest: what is not above `clip_sigma` times the
    noise, and what lies outside the circle that fills the image, is 0; the rest runs from the least to the greatest.
    The noise is that of `surroundings` times the field of view.

    Images are north up, east left: row 0 is the northern edge, column 0 the eastern one.
    """

    bands: tuple[str, ...] = ("g", "r", "z")
    planes: tuple[str, ...] = ("z", "r", "g")  # red, green, blue
    scales: tuple[float, ...] = (6.0, 3.4, 2.2)  # one a band
    offset: float = 0.03  # m
    softening: float = 20.0  # Q
    reference_pixel: float = 0.262  # arcsec
    size: int = 256  # pixels a side
    fov: FieldOfView = FieldOfView(fixed=None, radius_multiple=8.5)
    min_bands: int = 2  # bands that must have data
    min_coverage: float = 0.05  # good fraction from which a band counts as present
    full_coverage: float = 0.8  # good fraction below which the row is `partial` (Galaxy Zoo DECaLS' cut)
    mapping: Literal["arcsinh", "clipped"] = "arcsinh"
    clip_sigma: float = 3.0
    surroundings: float = 1.0  # width of sky that is cut, in fields of view

    def __post_init__(self) -> None:
        if len(self.scales) != len(self.bands) or not set(self.planes) <= set(self.bands):
            raise ValueError(f"bands {self.bands}, scales {self.scales} and planes {self.planes} do not fit together")
        if self.size < 1 or not 1 <= self.min_bands <= len(self.bands) or self.reference_pixel <= 0:
            raise ValueError(f"impossible image: {self.size} px, {self.min_bands} bands, {self.reference_pixel} arcsec")
        if self.mapping == "clipped" and len(self.planes) != 1:
            raise ValueError(f"the mapping `clipped` is for one band, got the planes {self.planes}")
        if self.surroundings < 1:
            raise ValueError(f"surroundings of at least the field of view, got {self.surroundings}")


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """What one load task returns: one object in the store. Row i is row i of the unit's chunk."""

    status: NDArray[np.str_]  # (N,) Status values
    reason: NDArray[np.object_]  # (N,) str, "" where there is nothing to say
    integrity: NDArray[np.object_]  # (N,) Integrity values, None where no file came
    flags: NDArray[np.int32]  # (N,) RowFlag bits
    fov_arcsec: NDArray[np.float32]  # (N,) NaN where there is no image
    pixel_scale: NDArray[np.float32]  # (N,) arcsec of the tile's own pixels, NaN where there is no image
    masked_fraction: NDArray[np.float32]  # (N,)
    images: NDArray[np.uint8]  # (M, C, H, W) rows whose status is ok or partial, in row order
    bytes_read: int
    load_seconds: float
    slow: tuple[TileTime, ...] = ()  # tiles that took longest

    @property
    def rows(self) -> int:
        return len(self.status)

    @property
    def nbytes(self) -> int:
        """What the images take in the object store; the rest is small beside them."""
        return int(self.images.nbytes)

    @property
    def with_image(self) -> NDArray[np.bool_]:
        """(N,) True for the M rows that have an image."""
        return np.isin(self.status, [s.value for s in CLASSIFIED])


UNCERTAINTY = ("entropy", "spread", "novelty")  # of NetworkOutput and of the columns: one number a network and image


@dataclass(frozen=True, slots=True, eq=False)
class NetworkOutput:
    """What one network says of M images."""

    logits: NDArray[np.float32]  # (M, K) as the network gave them
    probabilities: NDArray[np.float32]  # (M, K) by the contract's temperature and prior
    entropy: NDArray[np.float32]  # (M,) of the probabilities, over its maximum ln K
    spread: NDArray[np.float32]  # (M,) of the probabilities over flips and quarter turns; NaN where not asked for
    novelty: NDArray[np.float32]  # (M,) see models/novelty.py; NaN where the checkpoint has no model of it
    attention: Mapping[str, NDArray[np.float32]]  # column suffix -> (M,); see `attention.py`
    maps: NDArray[np.uint8]  # (M, 256) the map on a 16x16 grid, row 0 the northern edge


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """A chunk after the networks: everything that its catalogue rows need besides the source columns."""

    status: NDArray[np.str_]  # (N,)
    reason: NDArray[np.object_]  # (N,)
    integrity: NDArray[np.object_]  # (N,)
    flags: NDArray[np.int32]  # (N,)
    fov_arcsec: NDArray[np.float32]  # (N,)
    pixel_scale: NDArray[np.float32]  # (N,)
    masked_fraction: NDArray[np.float32]  # (N,)
    with_image: NDArray[np.bool_]  # (N,) the M rows that the networks saw
    networks: Mapping[str, NetworkOutput]  # network column prefix -> output for the M rows
    bytes_read: int
    load_seconds: float
    predict_seconds: float
    choice: str = ""  # device, precision, batch and way of the networks, and why
    slow: tuple[TileTime, ...] = ()  # tiles that took longest
