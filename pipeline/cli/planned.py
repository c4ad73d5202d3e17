"""The screen of a dry run: what would be done, and what every way of fetching would cost."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline.cli import screen

if TYPE_CHECKING:
    from pipeline.catalogue.row_size import NetworkBytes
    from pipeline.data import ImageContract, Way
    from pipeline.job import Job
    from pipeline.planner.estimate import Estimate, WayEstimate
    from pipeline.planner.link import Link

COLUMNS = ("way", "tiles", "requests", "bytes", "link busy", "CPU", "GPU")
NAMES: Mapping[Way, str] = {"file": "whole files", "ranges": "byte ranges", "cutout": "cutout service"}


def show_plan(job: Job, output: str) -> None:
    """Plan the job, starting nothing, and show what it would take."""
    from pipeline.executors.forecast import network_row, plan_only

    with tempfile.TemporaryDirectory(prefix="pipeline-plan-") as folder:
        prepared, estimate = plan_only(job, folder)
        summary = prepared.plan.summary
    screen.facts(
        f"plan of job {job.name} (dry run: nothing was started)",
        {
            "sources": f"{summary.sources:,}, outside the footprint {summary.outside:,}",
            "invalid rows": f"{sum(summary.invalid.values()):,}",
            "units": f"{summary.units:,}, loaded in {summary.chunks:,} chunks",
            "tiles": f"{summary.tiles:,}",
            "bytes out": screen.size(estimate.bytes_out),
            **{f"row, {network.prefix}": _network(network) for network in network_row(prepared)},
            **_views(job),
            "time": estimate.eta,
            **dict(_advice(job, prepared.work.image, estimate)),
            "commits": f"{output or '<output>'}/units/",
            "catalogue": f"{output or '<output>'}/latest",
        },
    )
    show_ways(estimate)
    for network in prepared.work.networks:
        if network.untrained:
            screen.note(f"warning: {network.prefix} has random weights (untrained)", "yellow")


def _advice(job: Job, image: ImageContract, found: Estimate) -> Iterator[tuple[str, str]]:
    """What the nodes of a cluster should have for this job, by the function that deploy/ is held to."""
    from pipeline.executors.sizing import cpu_actor_size, node_size

    of = (image, job.units, job.engine)
    yield "node of 8 CPUs, 1 GPU", node_size(8, 1, *of).advice
    yield "node of 16 CPUs", f"{node_size(16, 0, *of).advice}; without GPUs {cpu_actor_size(16, *of).advice}"
    if found.gpu_seconds > 0:
        cores = max(1.0, found.cost.cpu_seconds / found.gpu_seconds)
        yield "one GPU", f"about {cores:,.0f} cores of loads keep it busy, if the archive gives so much"


def show_ways(estimate: Estimate) -> None:
    """What each way would cost if all tiles came by it, and what was chosen tile by tile."""
    rows = [_row(NAMES[way], found, estimate.gpu_seconds) for way, found in estimate.alone.items()]
    tiles = sum(found.tiles for found in estimate.chosen.values())
    cost, seconds = estimate.cost, estimate.seconds
    rows.append(_cells("as planned", tiles, cost.requests, cost.bytes, seconds, cost.cpu_seconds, estimate.gpu_seconds))
    screen.out.print()
    screen.grid(COLUMNS, rows, figures=True)
    for way, found in estimate.chosen.items():
        screen.out.print(f"  {found.tiles:,} tiles by {NAMES[way]}: {_link(found.link)}")


def _row(name: str, found: WayEstimate, gpu_seconds: float) -> tuple[str, ...]:
    cost = found.cost
    return _cells(name, found.tiles, cost.requests, cost.bytes, found.seconds, cost.cpu_seconds, gpu_seconds)


def _cells(name: str, tiles: int, requests: float, size: float, *seconds: float) -> tuple[str, ...]:
    return (name, f"{tiles:,}", screen.count(requests), screen.size(size), *map(screen.rough, seconds))


def _link(link: Link) -> str:
    """What was taken for the way to the archive."""
    if math.isinf(link.bandwidth):
        return "files in place on this disk"
    return (
        f"{link.rate:g} requests/s, {link.in_flight} at once, "
        f"{link.latency * 1e3:g} ms and {screen.size(link.bandwidth)}/s each"
    )


def _network(network: NetworkBytes) -> str:
    """What a network adds to a row, packed."""
    return (
        f"{network.columns:.0f} B of columns ({network.default:.0f} B of them by default), "
        f"{network.map:.0f} B of attention map in a table beside"
    )


def _views(job: Job) -> dict[str, str]:
    turned = [prefix for prefix, section in job.networks.items() if section.views > 1]
    return {"views": f"8 of each image for {', '.join(turned)}: eightfold GPU time"} if turned else {}
