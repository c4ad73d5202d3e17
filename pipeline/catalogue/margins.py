"""The margin of a HATS catalogue: for each partition, the rows of others that are within 10 arcsec of its pixel.

With it a crossmatch of one partition misses no neighbour across its rim (HATS 1.0, sec. "Margin cache").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.catalogue.assembly import HALO_ORDER, SORTED
from pipeline.catalogue.cells import Pixels, distances, neighbours
from pipeline.catalogue.commits import HISTOGRAM_ORDER
from pipeline.catalogue.dataset import DatasetWriter
from pipeline.catalogue.partitions import Partition
from pipeline.catalogue.sky import ORDER, unit_vectors

MARGIN = 10.0  # arcsec


class Margins:
    """Collects margin rows on the local disk, as they come by, until the catalogue is written."""

    def __init__(self, scratch: Path, partitions: Sequence[Partition]) -> None:
        self._folder = scratch
        self._partitions = partitions
        self._ranges = np.array([partition.range for partition in partitions], dtype=np.int64).reshape(-1, 2)

    def add(self, rows: pa.Table) -> None:
        """Keep those rows of one partition that are in the margin of others."""
        index, target = self.targets(rows)
        for partition in np.unique(target).tolist():
            part = rows.take(pa.array(index[target == partition]))
            with self._file(partition).open("ab") as file, pa.ipc.new_stream(file, part.schema) as stream:
                stream.write_table(part)

    def targets(self, rows: pa.Table) -> tuple[Pixels, Pixels]:
        """Which rows are in whose margin: indices of rows, and for each the index of another row's partition."""
        pixels = rows["_healpix_29"].to_numpy()
        row, _, _ = self._foreign(HISTOGRAM_ORDER, pixels)  # few rows of many
        row = np.unique(row)
        near_row, cell, owner = self._foreign(HALO_ORDER, pixels[row])
        row = row[near_row]
        ra, dec = (rows[name].to_numpy()[row] for name in ("ra", "dec"))
        near = distances(unit_vectors(ra, dec), HALO_ORDER, cell) <= np.radians(MARGIN / 3600)
        found = np.unique(np.stack([row[near], owner[near]], axis=1), axis=0)
        return found[:, 0], found[:, 1]

    def write(self, writer: DatasetWriter) -> None:
        """Publish what was kept, a file for every partition that has a margin."""
        for number, partition in enumerate(self._partitions):
            if self._file(number).exists():
                writer.append(partition.order, partition.pixel, self._kept(number).sort_by(SORTED))

    def _foreign(self, order: int, pixels: Pixels) -> tuple[Pixels, Pixels, Pixels]:
        """(index of an order-29 pixel, a pixel of `order` beside its own, the other partition that this one is in)."""
        shift = 2 * (ORDER - order)
        cells, inverse = np.unique(pixels >> shift, return_inverse=True)
        around = neighbours(order, cells)  # (U, 8)
        owner = self._owner(around << shift)
        foreign = (owner >= 0) & (owner != self._owner(cells << shift)[:, None])
        index, neighbour = np.nonzero(foreign[inverse])
        return index, around[inverse[index], neighbour], owner[inverse[index], neighbour]

    def _owner(self, pixels: Pixels) -> Pixels:
        """The partition of order-29 pixels of any shape, -1 where there is none."""
        index = np.searchsorted(self._ranges[:, 0], pixels, side="right") - 1
        inside = (index >= 0) & (pixels < self._ranges[np.maximum(index, 0), 1])
        return np.where(inside, index, -1)

    def _kept(self, number: int) -> pa.Table:
        tables = []
        with self._file(number).open("rb") as file:
            while file.peek(1):
                tables.append(pa.ipc.open_stream(file).read_all())
        return pa.concat_tables(tables)

    def _file(self, number: int) -> Path:
        return self._folder / f"margin-{number}.arrows"
