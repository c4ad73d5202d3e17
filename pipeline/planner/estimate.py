"""What a plan will ask of the archive, the disk and the processors: the numbers of the dry run.

Arithmetic on what the planner counted and on measured costs; each constant names where it was measured. Nothing
is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.data import Way
from pipeline.planner.link import Link
from pipeline.planner.plan import FOLDER, Plan, part_name
from pipeline.planner.ways import Cost, TileCosts

UNIT_BYTES = 16  # of a row: what the pipeline adds whatever the networks (HEALPix, field, pixel scale, mask, words)
GPU_FLOPS = 20e12  # per second in bfloat16 on a T4 (engine-catalogue-ops.md 6): a small GPU, so a careful number
COPIES = 2  # a row is written when its unit is committed and again when the catalogue is published


@dataclass(frozen=True, slots=True)
class WayEstimate:
    """What fetching takes over the whole plan."""

    tiles: int  # that come by this way, each part of a tile that a chunk opens counted
    cost: Cost
    link: Link

    @property
    def seconds(self) -> float:
        """Of the link, all the time busy."""
        return self.link.seconds(self.cost.requests, self.cost.bytes)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes. Bytes and seconds are totals over the whole plan."""

    cost: Cost  # of the ways that were chosen
    chosen: Mapping[Way, WayEstimate]  # how they share it
    alone: Mapping[Way, WayEstimate]  # what each way would cost if all came by it
    bytes_out: int
    gpu_seconds: float  # of the networks, on one small GPU
    eta: str = "depends on the cluster"  # for people; whoever knows the cluster replaces it

    @property
    def seconds(self) -> float:
        """Of the links, which are asked at the same time."""
        return max((way.seconds for way in self.chosen.values()), default=0.0)


def estimate(plan: Plan, costs: TileCosts, *, network_bytes: float, gflops: float) -> Estimate:
    """The cost of `plan`: networks of together `gflops` (2 per multiply-add) an image, `network_bytes` a row."""
    inside = plan.summary.sources - plan.summary.outside
    chosen = {way: _fetching(costs, way, [pieces]) for way, pieces in plan.summary.pieces.items()}
    everything = list(plan.summary.pieces.values())
    return Estimate(
        cost=sum((way.cost for way in chosen.values()), Cost()),
        chosen=chosen,
        alone={way: _fetching(costs, way, everything) for way in costs.tables},
        bytes_out=bytes_out(plan, network_bytes),
        gpu_seconds=inside * gflops * 1e9 / GPU_FLOPS,
    )


def bytes_out(plan: Plan, network_bytes: float) -> int:
    """What the run writes, commits and one snapshot together; the networks add `network_bytes` to a row."""
    row = _plan_row_bytes(plan) + UNIT_BYTES + network_bytes
    return round(COPIES * plan.summary.sources * row)


def _fetching(costs: TileCosts, way: Way, pieces: list[Mapping[int, int]]) -> WayEstimate:
    """Parts of tiles, counted by their number of sources, that all come by one way."""
    total, tiles = Cost(), 0
    for counts in pieces:
        for sources, count in counts.items():
            total += costs.at(way, sources) * count
            tiles += count
    return WayEstimate(tiles, total, costs.links[way])


def _plan_row_bytes(plan: Plan) -> float:
    """Bytes that the source's own columns take in Parquet, by the first plan file."""
    with plan.storage.open(part_name(FOLDER, 0)) as file:
        size = file.seek(0, 2)
    rows = sum(unit.rows for unit in plan.units() if unit.part == part_name(FOLDER, 0))
    return size / rows
