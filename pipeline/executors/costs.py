"""What a simulated run is made of: the workload, the cluster, and what each step costs on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from pipeline.executors.limits import IN_FLIGHT, ROUNDS, Limits, evenly
from pipeline.planner.ways import PIXEL_SECONDS, SOURCE_SECONDS

IMAGE_BYTES = 3 * 256 * 256  # of one image in the object store: uint8, the default contract
CHUNK_ANSWERS = 2.1  # to a driver: a chunk's load and prediction, and its share of a unit's commit
TILES_WITH_GALAXIES = 304_000  # bricks of 0.0625 deg2 in 19,000 deg2 (engine-catalogue-ops.md 6, assumed there)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds and bytes of each step. Measured on two loaded CPU cores, but for those marked as assumed."""

    file_bytes: float = 13.72e6  # one band of a brick, Rice 100x100 (archives.md 3.3); maskbits are far smaller
    files_tile: float = 4  # g, r, z and maskbits
    bands_tile: float = 3
    section_seconds: float = 0.87e-3  # one cutout of one file, 29 a file (tests/benchmarks/decode.py: 385 objects/s)
    whole_seconds: float = 3600**2 * PIXEL_SECONDS["rice"]  # every tile of one file decoded, once
    draw_seconds: float = SOURCE_SECONDS
    store_seconds_byte: float = 12e-3 / 25e6  # copy and page faults into the object store (same, 1.1)
    latency_seconds: float = 0.08  # of one request (archives.md 3.3, the distance that was tried there)
    load_bytes_second: float = 80e6  # of one load: 8 connections of 10 MB/s (archives.md 3.3)
    images_second: float = 26_042  # of DMAGNet-F on one A100. Assumed: 125 TFLOP/s sustained (same, 6)
    commit_seconds: float = 0.125  # of a unit: 40 commits took 1.25 s on 4 threads (engine-catalogue-ops.md 2.1)
    actor_start_seconds: float = 30.0  # Assumed: import torch, read weights, first batch
    driver_seconds: float = 1.0e-3  # of an answer (tests/benchmarks/driver.py: 2.1 ms of CPU a chunk)
    exchange_seconds: float = 0.5  # until one of several drivers has more units (executors/ray/driver.py)
    told_seconds: float = (
        0.09e-3  # of an answer to a driver, for the process that hears several (same, 0.19 ms a chunk)
    )
    load_failures: float = 0.0  # probability of each
    predict_failures: float = 0.0
    actor_deaths: float = 0.0  # probability, a predict


@dataclass(frozen=True, slots=True)
class Load:
    """What one load task needs."""

    requests: float
    bytes: float
    seconds: float  # of its core, besides waiting for the bytes


@dataclass(frozen=True)
class Workload:
    """The planner's counts. Chunks are taken as equal."""

    sources: int
    units: int
    chunks: int
    openings: float  # tiles that chunks open, all chunks together

    @classmethod
    def of_survey(cls, sources: int, unit: int = 4096, chunk: int = 512) -> Workload:
        """So many galaxies spread evenly over the footprint: a chunk opens the tiles that its rows fill, and one."""
        chunks = math.ceil(sources / chunk)
        return cls(sources, math.ceil(sources / unit), chunks, sources / cls.density_of(sources) + chunks)

    @staticmethod
    def density_of(sources: int) -> float:
        """Sources a tile, at least 1."""
        return max(1.0, sources / TILES_WITH_GALAXIES)

    def part(self, share: float) -> Workload:
        units, chunks = math.ceil(self.units * share), math.ceil(self.chunks * share)
        return Workload(math.ceil(self.sources * share), units, chunks, self.openings * share)

    @cached_property
    def chunk_rows(self) -> int:
        return max(1, round(self.sources / max(1, self.chunks)))

    @cached_property
    def unit_chunks(self) -> int:
        return max(1, round(self.chunks / max(1, self.units)))

    def load_of(self, rows: int, costs: Costs) -> Load:
        """A chunk of so many rows. Of a file the tiles that are touched are decoded, at most all of them."""
        tiles = rows * self.openings / max(1, self.sources)
        files = tiles * costs.files_tile
        sections = rows * costs.files_tile * costs.section_seconds
        decode = min(sections, files * costs.whole_seconds)
        store = rows * IMAGE_BYTES * costs.store_seconds_byte
        seconds = decode + rows * costs.draw_seconds + store
        return Load(files, tiles * costs.bands_tile * costs.file_bytes, seconds)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What all the nodes have together."""

    gpus: int
    load_cores: int
    network_bytes_second: float = math.inf  # from the archive
    requests_second: float = math.inf  # that the archive allows
    bytes_cap: float = math.inf  # of images in the object store
    drivers: float = 1  # a whole number, but in a part of a cluster
    whole: float = 1.0  # the cluster that this is a part of, over it: one process hears all the drivers

    @classmethod
    def of_gpus(
        cls, gpus: int, cores: int = 16, archive: float = 10e9, requests: float = math.inf, drivers: int = 1
    ) -> Cluster:
        """Nodes of one GPU with so many load cores, and an archive of so many bytes and requests a second.

        The defaults are a mirror of 10 GB/s and 16 cores a GPU. Assumed: a link of 25 Gbit/s and 20 GB of images a
        node.
        """
        network = min(archive, 25e9 / 8 * gpus)
        return cls(gpus, cores * gpus, network, requests, bytes_cap=20e9 * gpus, drivers=drivers)

    def part(self, most_cores: int) -> tuple[Cluster, float]:
        """At most so many load cores with their share of everything else, at least one GPU; and the share.

        The part is as fast as the whole at the same share of the work.
        """
        share = max(1, round(self.gpus * min(1.0, most_cores / self.load_cores))) / self.gpus
        part = Cluster(
            gpus=round(self.gpus * share),
            load_cores=max(1, round(self.load_cores * share)),
            network_bytes_second=self.network_bytes_second * share,
            requests_second=self.requests_second * share,
            bytes_cap=self.bytes_cap * share,
            drivers=self.drivers * share,
            whole=self.whole / share,
        )
        return part, share

    @property
    def told_share(self) -> float:
        """Of the run's process that an answer takes here, over what it takes there: 0 where one driver is the run."""
        return self.whole if self.drivers * self.whole > 1 else 0.0

    @property
    def schedulers(self) -> int:
        """The drivers as a whole number: in a part of a cluster each is as much slower as they are too many."""
        return min(self.gpus, max(1, round(self.drivers)))

    def limits(self, work: Workload, driver: int = 0) -> Limits:
        """Those of a scheduler that keeps its driver's part of the cluster busy: units for every core and actor."""
        actors, loads = (evenly(whole, driver, self.schedulers) for whole in (self.gpus, self.load_cores))
        return Limits(
            actors=actors,
            loads=loads,
            bytes_cap=int(min(self.bytes_cap / self.schedulers, 1e18)),
            bytes_row=IMAGE_BYTES,
            open_units=max(64, math.ceil(ROUNDS * (loads + IN_FLIGHT * actors) / work.unit_chunks)),
        )
