"""Committed units put together by sky: any stretch of the HEALPix curve, whole, however units straddle it.

A unit is read once while the curve stays near it; memory holds the units around one stretch, never the survey.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.catalogue.cells import neighbours
from pipeline.catalogue.commits import HISTOGRAM_ORDER, Manifest, unit_rows
from pipeline.catalogue.flags import NEEDED
from pipeline.catalogue.partitions import Partition, merged_histogram
from pipeline.catalogue.sky import ORDER, merged
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

SORTED = [("_healpix_29", "ascending"), ("object_id", "ascending")]
STRETCH = 65_536  # rows, about
HALO_ORDER = 13  # its pixels are 17 arcsec wide at least: what is within 10 arcsec of one is in it or a neighbour
_WHOLE = 64  # units held with all columns: 4 times what a stretch meets, 100-400 MB
_POSITIONS = 1024  # units held with the columns of NEEDED: 150 kB each
_READERS = 8  # units read at once
_SHIFT = 2 * (ORDER - HISTOGRAM_ORDER)


@dataclass(frozen=True)
class Stretch:
    """A piece of the HEALPix curve that is published in one go."""

    first: int  # order-29 pixels [first, stop)
    stop: int
    rows: int  # by the manifests


def stretches(committed: Sequence[Manifest], divisions: Sequence[Sequence[Partition]]) -> Iterator[Stretch]:
    """The whole catalogue in stretches of about STRETCH rows; none crosses a border of the given divisions."""
    histogram = merged_histogram(unit.pixels for unit in committed)
    borders = sorted({partition.range[1] for division in divisions for partition in division})
    held: list[int] = []
    rows = 0
    for pixel in sorted(histogram):
        crosses = held and bisect_right(borders, pixel << _SHIFT) > bisect_right(borders, held[-1] << _SHIFT)
        if rows >= STRETCH or crosses:
            yield Stretch(held[0] << _SHIFT, (held[-1] + 1) << _SHIFT, rows)
            held, rows = [], 0
        held.append(pixel)
        rows += histogram[pixel]
    if held:
        yield Stretch(held[0] << _SHIFT, (held[-1] + 1) << _SHIFT, rows)


@dataclass
class CommittedRows:
    """The rows of the latest attempts. One thread at a time may ask for `rows`, another for `around`."""

    storage: Storage
    committed: Sequence[Manifest]
    schema: pa.Schema
    _pixels: NDArray[np.int64] = field(init=False)  # ascending, of HISTOGRAM_ORDER, and for each
    _units: NDArray[np.int64] = field(init=False)  # a unit that has rows in it
    _whole: OrderedDict[int, pa.Table] = field(default_factory=OrderedDict)
    _near: OrderedDict[int, pa.Table] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        pairs = [(pixel, number) for number, unit in enumerate(self.committed) for pixel in unit.pixels]
        ordered = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        self._pixels, self._units = ordered[:, 0], ordered[:, 1]

    def rows(self, stretch: Stretch) -> pa.Table:
        """All rows of a stretch, sorted. Raises CatalogueError where they are not what the manifests promise."""
        units = self._overlapping(np.array([[stretch.first, stretch.stop]]))
        missing = [number for number in units if number not in self._whole]
        with ThreadPoolExecutor(_READERS) as pool:
            self._whole.update(zip(missing, pool.map(self._checked, missing), strict=True))
        parts = []
        for number in units:
            table = self._whole[number]
            start, end = np.searchsorted(table["_healpix_29"].to_numpy(), [stretch.first, stretch.stop])
            parts.append(table.slice(start, end - start))
        _forget(self._whole, units, _WHOLE)
        found = pa.concat_tables(parts).combine_chunks()
        if found.num_rows != stretch.rows:
            raise CatalogueError(
                f"HEALPix pixels {stretch.first} to {stretch.stop}: expected {stretch.rows} rows by the manifests, "
                f"got {found.num_rows}"
            )
        return found.take(pc.sort_indices(found, sort_keys=SORTED))

    def around(self, rows: pa.Table, stretch: Stretch) -> pa.Table:
        """The rows outside a stretch that may be within 10 arcsec of its rows: the columns of NEEDED, unsorted."""
        at_rim, _ = _leaving(stretch, HISTOGRAM_ORDER, rows["_healpix_29"].to_numpy())  # few rows of many
        _, ring = _leaving(stretch, HALO_ORDER, at_rim)
        ranges = merged(np.stack([ring, ring + (1 << 2 * (ORDER - HALO_ORDER))], axis=1))
        parts = [self._inside(number, ranges) for number in self._overlapping(ranges)]
        columns = _halo_columns(self.schema)
        return pa.concat_tables(parts) if parts else self.schema.empty_table().select(columns)

    def _inside(self, number: int, ranges: NDArray[np.int64]) -> pa.Table:
        table = self._near.pop(number, None)
        if table is None:
            data = self.storage.read(self.committed[number].parquet)
            table = pq.read_table(pa.BufferReader(data), columns=_halo_columns(self.schema))
        self._near[number] = table
        _forget(self._near, (), _POSITIONS)
        bounds = np.searchsorted(table["_healpix_29"].to_numpy(), ranges)
        found = [table.slice(start, stop - start) for start, stop in bounds.tolist() if stop > start]
        return pa.concat_tables(found) if found else table.slice(0, 0)

    def _overlapping(self, ranges: NDArray[np.int64]) -> list[int]:
        """The units with rows in the pixels that ascending ranges (R, 2) touch, ascending."""
        starts = np.searchsorted(self._pixels, ranges[:, 0] >> _SHIFT)
        stops = np.searchsorted(self._pixels, (ranges[:, 1] - 1) >> _SHIFT, side="right")
        touched = [self._units[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
        return [int(number) for number in np.unique(np.concatenate(touched))] if touched else []

    def _checked(self, number: int) -> pa.Table:
        """A unit as it was committed, with the columns of the others and one checkpoint a network."""
        unit = self.committed[number]
        table = unit_rows(self.storage, unit)
        if table.schema != self.schema:
            names = sorted(set(table.schema.names) ^ set(self.schema.names))
            raise CatalogueError(f"{unit.parquet}: its columns differ from those of the first unit: {names}")
        for prefix, checkpoint in unit.checkpoints.items():
            found = set(pc.unique(table[f"{prefix}_checkpoint"]).drop_null().to_pylist())
            if found - {checkpoint.sha256}:
                runs = sorted(pc.unique(table["run_id"]).to_pylist())
                raise CatalogueError(f"network {prefix} had several checkpoints, {sorted(found)}, in the runs {runs}")
        return table


def _leaving(stretch: Stretch, order: int, pixels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of order-29 pixels, those whose pixel of `order` has neighbours outside a stretch; and those neighbours.

    The neighbours are given by their first order-29 pixels, ascending.
    """
    shift = 2 * (ORDER - order)
    cells, inverse = np.unique(pixels >> shift, return_inverse=True)
    around = neighbours(order, cells) << shift
    outside = (around < stretch.first) | (around >= stretch.stop)
    leaves = np.logical_or.reduce(outside, axis=1)
    return pixels[leaves[inverse]], np.unique(around[outside])


def _halo_columns(schema: pa.Schema) -> list[str]:
    return [*NEEDED, *(name for name in schema.names if name.lower() == "photsys")]


def _forget(held: OrderedDict[int, pa.Table], used: Sequence[int], most: int) -> None:
    """Keep the tables that were used last."""
    for number in used:
        held.move_to_end(number)
    while len(held) > max(most, len(used)):
        held.popitem(last=False)
