"""What a plan will ask of the archive, the disk and the processors: the numbers of the dry run.

Arithmetic on what the planner counted and on measured costs; each constant names where it was measured. Nothing
is fetched: of a survey on this disk a few files are looked at for their size, of any other typical sizes are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.data import Product
from pipeline.planner.plan import Plan, part_name
from pipeline.planner.staging import TILE
from pipeline.surveys import Survey

IMAGE_BYTES = 13.72e6  # one band of a brick, Rice 100x100 at the survey's absolute step (archives.md 3)
MASK_BYTES = 0.06e6  # maskbits of a brick (archives.md 3)
CUTOUT_BYTES = 3 * 424 * 424 * 4  # a file of its own, as the cutout service gives it (archives.md 1.2)
EDGE_FRACTION = 0.051  # of 256-pixel boxes leave their brick (archives.md 4): those open a neighbour too
SECTION_SECONDS = 5.4e-3  # one cutout of one band by section, fitsio, Rice 100x100 (archives.md 3.4); maskbits alike
DRAW_SECONDS = 0.42e-3  # stretch of one image (engine-catalogue-ops.md 6)
UNIT_BYTES = 16  # of a row: what the pipeline adds whatever the networks (HEALPix, field, pixel scale, mask, words)
GPU_FLOPS = 20e12  # per second in bfloat16 on a T4, assumed there (same, 6): a small GPU, so a careful number
COPIES = 2  # a row is written when its unit is committed and again when the catalogue is published

SAMPLED_TILES = 20


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes. Bytes and seconds are totals over the whole plan."""

    files: int  # distinct files of the archive
    requests: int  # openings: a tile is opened once a chunk, and so are the neighbours of sources at its edge
    bytes_in: int
    bytes_out: int
    cpu_seconds: float  # of loading
    gpu_seconds: float  # of the networks, on one small GPU
    eta: str = "depends on the cluster"  # for people; whoever knows the cluster replaces it


@dataclass(frozen=True, slots=True)
class _TileCost:
    files: float  # a tile
    bytes: float  # a tile, all its files
    neighbours: bool  # a source at the edge needs the next tile too


def estimate(plan: Plan, survey: Survey, root: str | None, *, network_bytes: float, gflops: float) -> Estimate:
    """The cost of `plan`: networks of together `gflops` (2 per multiply-add) an image, `network_bytes` a row."""
    summary = plan.summary
    inside = summary.sources - summary.outside
    tile = _tile_cost(plan, survey, root)
    openings = summary.openings
    if tile.neighbours and openings:
        openings += round(summary.openings * (1 - (1 - EDGE_FRACTION) ** (inside / summary.openings)))
    return Estimate(
        files=round(summary.tiles * tile.files),
        requests=round(openings * tile.files),
        bytes_in=round(openings * tile.bytes),
        bytes_out=bytes_out(plan, network_bytes),
        cpu_seconds=inside * (tile.files * SECTION_SECONDS + DRAW_SECONDS),
        gpu_seconds=inside * gflops * 1e9 / GPU_FLOPS,
    )


def bytes_out(plan: Plan, network_bytes: float) -> int:
    """What the run writes, commits and one snapshot together; the networks add `network_bytes` to a row."""
    row = _plan_row_bytes(plan) + UNIT_BYTES + network_bytes
    return round(COPIES * plan.summary.sources * row)


def _tile_cost(plan: Plan, survey: Survey, root: str | None) -> _TileCost:
    """The mean over the first tiles of the plan."""
    tiles = list(islice(_tiles(plan), SAMPLED_TILES))
    products = [product for tile in tiles for product in survey.products(tile)]
    if not products:
        return _TileCost(0, 0, False)
    total = sum(_bytes(product, root) for product in products)
    separate_bands = any(product.kind == "image" and product.band is not None for product in products)
    return _TileCost(len(products) / len(tiles), total / len(tiles), separate_bands)


def _tiles(plan: Plan) -> Iterator[str]:
    """Tiles in the order of the plan, those outside the footprint left out."""
    for unit in plan.units():
        yield from filter(None, plan.rows(unit).column(TILE).unique().to_pylist())


def _bytes(product: Product, root: str | None) -> float:
    path = Path(product.path) if root is None else Path(root) / product.path
    if path.is_file():
        return path.stat().st_size
    if product.kind == "maskbits":
        return MASK_BYTES
    return IMAGE_BYTES if product.band is not None else CUTOUT_BYTES


def _plan_row_bytes(plan: Plan) -> float:
    """Bytes that the source's own columns take in Parquet, by the first plan file."""
    with plan.storage.open(part_name(0)) as file:
        size = file.seek(0, 2)
    rows = sum(unit.rows for unit in plan.units() if unit.part == part_name(0))
    return size / rows
