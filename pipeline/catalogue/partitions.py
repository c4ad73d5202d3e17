"""Which HEALPix pixels a catalogue is divided into: the largest that hold no more rows than one file may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.catalogue.layout import partition_name
from pipeline.catalogue.sky import pixel_range


@dataclass(frozen=True, order=True)
class Partition:
    """One published file."""

    order: int
    pixel: int  # NESTED
    rows: int

    @property
    def range(self) -> tuple[int, int]:
        """Its order-29 pixels [first, stop)."""
        return pixel_range(self.order, self.pixel)

    @property
    def name(self) -> str:
        """Name of its file below the catalogue's folder `dataset`, as HATS lays it down."""
        return partition_name(self.order, self.pixel)


def partitions(histogram: Mapping[int, int], order: int, max_rows: int) -> list[Partition]:
    """The partitions of a catalogue, in order of the sky.

    `histogram` maps pixels of `order` to rows. A pixel is divided while it holds more than `max_rows`, down to
    `order`: a file is larger only where one such pixel is.
    """
    pixels = np.array(sorted(histogram), dtype=np.int64)
    counts = np.array([histogram[pixel] for pixel in pixels.tolist()], dtype=np.int64)
    found: list[Partition] = []
    for coarse in range(order + 1):
        parents, inverse = np.unique(pixels >> 2 * (order - coarse), return_inverse=True)
        rows = np.bincount(inverse, weights=counts, minlength=len(parents)).astype(np.int64)
        whole = (rows <= max_rows) | (coarse == order)
        kept = zip(parents[whole].tolist(), rows[whole].tolist(), strict=True)
        found += [Partition(coarse, pixel, count) for pixel, count in kept]
        pixels, counts = pixels[~whole[inverse]], counts[~whole[inverse]]
    return sorted(found, key=lambda partition: partition.range)


def merged_histogram(histograms: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """The sum of several histograms."""
    total: dict[int, int] = {}
    for histogram in histograms:
        for pixel, rows in histogram.items():
            total[pixel] = total.get(pixel, 0) + rows
    return total
