"""By which way the pixels of a tile come with the least time, and what each way costs.

A way is the whole file, the byte ranges that are needed, or the survey's cutout service. What a tile costs depends on
the number of its sources alone, once survey, field of view and link are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.data import Way
from pipeline.planner.kinds import TileKind
from pipeline.planner.link import Link
from pipeline.planner.touched import touched

WAYS: tuple[Way, ...] = ("file", "ranges", "cutout")
NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)
"""Sources of a tile for which costs are counted; between them they are interpolated."""
OPEN_TILES = 16  # of a chunk at a time: what a neighbour finds open already (archives/opener.py)
NEIGHBOUR_REQUESTS = 3  # of a neighbour's file by ranges: its head, and the strip in one or two pieces
NEIGHBOUR_BYTES = 0.3e6  # of those
UNKNOWN_BYTES = 3 * 424 * 424 * 4  # of a file whose layout the survey does not know: as a cutout (archives.md 1.2)

# CPU seconds on one core of an EPYC virtual machine, measured by tests/benchmarks/load_costs.py.
PIXEL_SECONDS = {"rice": 10e-9, "hcompress": 12e-9, "gzip": 47e-9, "plain": 1.3e-9}
OPEN_SECONDS = 1.0e-3  # of a file: headers, table of tiles
REQUEST_SECONDS = 1.9e-3
BYTE_SECONDS = 1.7e-9  # received, checked, hashed, written
SOURCE_SECONDS = 5.3e-3  # of a source: its cutout put together and drawn at 256 pixels


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one tile, or of many."""

    requests: float = 0.0
    bytes: float = 0.0
    cpu_seconds: float = 0.0  # of loading

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.requests + other.requests, self.bytes + other.bytes, self.cpu_seconds + other.cpu_seconds)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.requests * times, self.bytes * times, self.cpu_seconds * times)


@dataclass(frozen=True, eq=False)
class TileCosts:
    """What a tile costs by each way, for every number of its sources."""

    cores: int  # that load
    links: Mapping[Way, Link]  # of the ways that are there
    numbers: NDArray[np.int64]  # (K,) of sources
    tables: Mapping[Way, NDArray[np.float64]]  # (K, 3) requests, bytes, CPU seconds

    @classmethod
    def of(cls, kind: TileKind, links: Mapping[Way, Link], cores: int) -> Self:
        count = {"file": _by_file, "ranges": _by_ranges, "cutout": _by_cutout}
        numbers = [number for number in NUMBERS if number < kind.chunk] + [kind.chunk]
        tables = {way: np.array([_row(count[way](kind, number, links[way])) for number in numbers]) for way in links}
        return cls(cores, links, np.array(numbers), tables)

    def at(self, way: Way, sources: int) -> Cost:
        """What one tile with so many sources costs."""
        table = self.tables[way]
        return Cost(*(float(np.interp(sources, self.numbers, table[:, i])) for i in range(3)))

    def best(self, sources: int, among: Sequence[Way]) -> Way:
        """The way that takes the least time; of equals, the one with fewest bytes."""
        costs = {way: self.at(way, sources) for way in among}
        return min(costs, key=lambda way: (self.seconds(way, costs[way]), costs[way].bytes))

    def seconds(self, way: Way, cost: Cost) -> float:
        """Of link and cores, whichever is busy for longer."""
        return max(self.links[way].seconds(cost.requests, cost.bytes), cost.cpu_seconds / self.cores)


NO_TILES = TileCosts(1, {}, np.array([1]), {})
"""Of a plan whose sources are all outside the footprint."""


def _row(cost: Cost) -> tuple[float, float, float]:
    return cost.requests, cost.bytes, cost.cpu_seconds


def _by_file(kind: TileKind, sources: int, link: Link) -> Cost:
    if not kind.files:
        fetched = Cost(float(kind.count), kind.count * UNKNOWN_BYTES)
        return fetched + _decoding(kind, sources, [], fetched)
    seen = [touched(layout, kind.halves, sources, 0) for layout in kind.files]
    neighbours = _neighbours(kind, sources, max(part.sides for part in seen))
    size = sum(layout.bytes for layout in kind.files)
    beside = sum(layout.bytes for layout in kind.files[: kind.images])
    pixels = [part.pixels for part in seen]
    requests = len(kind.files) + kind.listings + neighbours * (kind.images + kind.listings)
    fetched = Cost(requests, size + neighbours * beside)
    return fetched + _decoding(kind, sources, pixels, fetched)


def _by_ranges(kind: TileKind, sources: int, link: Link) -> Cost:
    seen = [touched(layout, kind.halves, sources, link.gap) for layout in kind.files]
    neighbours = kind.images * _neighbours(kind, sources, max(part.sides for part in seen))
    requests = sum(part.ranges for part in seen) + neighbours * NEIGHBOUR_REQUESTS
    fetched = Cost(requests, sum(part.bytes for part in seen) + neighbours * NEIGHBOUR_BYTES)
    return fetched + _decoding(kind, sources, [part.pixels for part in seen], fetched)


def _by_cutout(kind: TileKind, sources: int, link: Link) -> Cost:
    fetched = Cost(float(sources * len(kind.answers)), sources * sum(kind.answers))
    opened = Cost(cpu_seconds=sources * (SOURCE_SECONDS + len(kind.answers) * OPEN_SECONDS))
    return fetched + opened + _fetching(fetched)


def _decoding(kind: TileKind, sources: int, pixels: Sequence[float], fetched: Cost) -> Cost:
    """The CPU time of a tile: each tile of compression is decoded once, and each source drawn."""
    decoded = sum(count * PIXEL_SECONDS[layout.codec] for count, layout in zip(pixels, kind.files, strict=True))
    opened = kind.count * OPEN_SECONDS
    return Cost(cpu_seconds=decoded + opened + sources * SOURCE_SECONDS) + _fetching(fetched)


def _fetching(fetched: Cost) -> Cost:
    return Cost(cpu_seconds=fetched.requests * REQUEST_SECONDS + fetched.bytes * BYTE_SECONDS)


def _neighbours(kind: TileKind, sources: int, sides: float) -> float:
    """Tiles that are opened for the sake of sources at the edge, and for nothing else.

    A chunk's tiles lie together: of the sides of k of them, about 1 / sqrt(k) look outwards.
    """
    if kind.kept:
        return 0.0
    together = min(OPEN_TILES, max(1, ceil(kind.chunk / sources)))
    return sides / sqrt(together)
