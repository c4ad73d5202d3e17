"""Bands of one tile, or of several that overlap, on the pixels of one cutout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data import Cutout, PixelGrid, RowFlag, Source
from pipeline.errors import BadImage
from pipeline.resample import LOBES, Flags, Floats, Positions, sample_at
from pipeline.surveys import TileImage
from pipeline.surveys.boxes import Box

ALIGNED = 0.01  # pixels by which two grids may differ and still count as one

Calibrate = Callable[[Floats], Floats]
"""The numbers of a file -> nanomaggies / arcsec2, or Jy/beam."""


class Projection(Protocol):
    """The map between sky and pixels of one image; pixel centres are integers, 0-based."""

    def to_pixels(self, ra: Positions, dec: Positions) -> tuple[Positions, Positions]:
        """x, y (N,) of positions in degrees, NaN where the projection does not reach."""
        ...

    def to_sky(self, x: Positions, y: Positions) -> tuple[Positions, Positions]:
        """ra in [0, 360) and dec (N,) of pixel positions, degrees."""
        ...

    def grid_at(self, ra: float, dec: float) -> PixelGrid:
        """The linear map around a position."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One band of an opened tile."""

    image: TileImage
    projection: Projection
    calibrate: Calibrate
    number: int | None = None  # of the plane in a cube

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[-2], self.image.shape[-1]

    def read(self, box: Box) -> tuple[Floats, Flags]:
        """Pixels of a box inside the image, and which hold no data: exact zeros and what is not finite."""
        stored = np.asarray(self.image.section(box.y0, box.y1, box.x0, box.x1))
        pixels = np.asarray(stored if self.number is None else stored[self.number], dtype=np.float32)
        bad = ~np.isfinite(pixels) | (pixels == 0)
        return self.calibrate(np.where(bad, np.float32(0), pixels)), bad

    def sample(self, ra: Positions, dec: Positions) -> tuple[Floats, Flags]:
        """The band at positions (K,) in degrees, by Lanczos-3: values (K,), and where it has none."""
        height, width = self.shape
        x, y = self.projection.to_pixels(ra, dec)
        values, unknown = np.zeros(len(ra), np.float32), np.ones(len(ra), np.bool_)
        covered = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)  # NaN: the far side of the sky
        if not covered.any():
            return values, unknown
        x, y = x[covered], y[covered]
        low_x, low_y = int(np.floor(x.min())) - LOBES, int(np.floor(y.min())) - LOBES
        high_x, high_y = int(np.ceil(x.max())) + LOBES + 1, int(np.ceil(y.max())) + LOBES + 1
        box = Box(low_y, high_y, low_x, high_x).within(height, width)
        flux, bad = self.read(box)
        sampled, missing = sample_at(flux[None], bad[None], x - box.x0, y - box.y0)
        values[covered], unknown[covered] = sampled[0], missing[0]
        return values, unknown


Planes = Mapping[str, Plane]
"""Band -> its plane, of one tile; a band that the archive lacks is not there."""

Neighbours = Callable[[Box, Positions, Positions], Iterable[Planes]]
"""Tiles that may hold the positions (K,) of a box that its own tile lacks, the best first."""


def nobody(box: Box, ra: Positions, dec: Positions) -> Iterable[Planes]:
    """The `Neighbours` of a tile that has none."""
    return ()


def stitched(
    planes: Planes, bands: Sequence[str], source: Source, width: float, neighbours: Neighbours = nobody
) -> Cutout:
    """The sky around `source`, `width` arcsec wide with the margin of resampling, on the finest band's own pixels.

    A band on other pixels is resampled to those by Lanczos-3. What lies outside the tile is taken from the
    neighbours, each pixel from the first that has it; a band that the tile itself lacks stays missing.
    `masked_fraction` is 0. Raises BadImage where the source is not on the tile.
    """
    reference, grid = _reference(planes, source)
    x, y = grid.centre
    height, length = reference.shape
    box = Box.around(grid, width)
    inside = box.within(height, length)
    flux, bad = np.zeros((len(bands), *box.shape), np.float32), np.ones((len(bands), *box.shape), np.bool_)
    for c, band in enumerate(bands):
        if band not in planes:
            continue
        if _aligned(reference, planes[band], inside):
            flux[c][inside.slices(box)], bad[c][inside.slices(box)] = planes[band].read(inside)
        else:
            values = planes[band].sample(*_sky(reference, box, *np.indices(box.shape).reshape(2, -1)))
            flux[c], bad[c] = (value.reshape(box.shape) for value in values)
    flags = RowFlag(0)
    if inside != box and neighbours is not nobody:
        _complete((flux, bad), _Hole(reference, planes, bands, box, inside), neighbours)
        flags = RowFlag.EDGE
    flux[bad] = 0
    return Cutout(flux, bad, PixelGrid((x - box.x0, y - box.y0), grid.matrix), flags)


def _reference(planes: Planes, source: Source) -> tuple[Plane, PixelGrid]:
    """The finest plane that the source is on, the first of several alike, and its grid there."""
    found = [(plane, plane.projection.grid_at(source.ra, source.dec)) for plane in planes.values()]
    on = [pair for pair in found if _holds(*pair)]
    if not on:
        (x, y), (height, length) = found[0][1].centre, found[0][0].shape
        raise BadImage(f"{source.tile}: the source is at pixel ({x:.1f}, {y:.1f}), outside {height}x{length}")
    return min(on, key=lambda pair: round(pair[1].pixel_scale, 3))


def _holds(plane: Plane, grid: PixelGrid) -> bool:
    (x, y), (height, length) = grid.centre, plane.shape
    return -0.5 <= x < length - 0.5 and -0.5 <= y < height - 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Hole:
    """What a box lacks of its tile."""

    reference: Plane
    planes: Planes
    bands: Sequence[str]
    box: Box
    inside: Box


def _complete(pixels: tuple[Floats, Flags], hole: _Hole, neighbours: Neighbours) -> None:
    """Fill what the box lacks, into `pixels`: each pixel from the first neighbour that has it."""
    flux, bad = pixels
    lacking = np.ones(hole.box.shape, np.bool_)
    lacking[hole.inside.slices(hole.box)] = False
    y, x = np.nonzero(lacking)  # (K,)
    ra, dec = _sky(hole.reference, hole.box, y, x)
    wanted = [c for c, band in enumerate(hole.bands) if band in hole.planes]
    for found in neighbours(hole.box, ra, dec):
        for c, band in enumerate(hole.bands):
            if band not in hole.planes or band not in found:
                continue
            todo = np.nonzero(bad[c, y, x])[0]
            values, unknown = found[band].sample(ra[todo], dec[todo])
            flux[c, y[todo], x[todo]] = values
            bad[c, y[todo], x[todo]] = unknown
        if not bad[wanted][:, y, x].any():
            return


def _sky(plane: Plane, box: Box, y: NDArray[np.intp], x: NDArray[np.intp]) -> tuple[Positions, Positions]:
    """ra, dec (K,) of pixels of a box."""
    return plane.projection.to_sky((x + box.x0).astype(np.float64), (y + box.y0).astype(np.float64))


def _aligned(reference: Plane, other: Plane, box: Box) -> bool:
    """Whether a band lies on the pixels of the reference, by the corners of the box."""
    if other.projection is reference.projection:
        return True
    if other.shape != reference.shape:
        return False
    x = np.array([box.x0, box.x1, box.x0, box.x1], dtype=np.float64)
    y = np.array([box.y0, box.y0, box.y1, box.y1], dtype=np.float64)
    there = other.projection.to_pixels(*reference.projection.to_sky(x, y))
    return bool(np.abs(np.stack(there) - np.stack([x, y])).max() < ALIGNED)
