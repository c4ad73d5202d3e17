"""What a run will take, before it starts: the planner's costs, and the time by the simulator on this machine."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

from pipeline.catalogue.row_size import NetworkBytes, network_bytes
from pipeline.checkpoints import job_contracts
from pipeline.executors.choosing import tile_costs
from pipeline.executors.costs import Cluster, Costs, Workload
from pipeline.executors.prepare import Prepared, prepare
from pipeline.executors.simulate import eta
from pipeline.job import Job
from pipeline.models.figures import grid
from pipeline.models.figures import work as operations_of
from pipeline.planner.estimate import GPU_FLOPS, Estimate, estimate
from pipeline.planner.ways import NO_TILES
from pipeline.stages import open_survey

CORE_FLOPS = 100e9  # per second of one CPU core: DMAGNet-F's 4.84 GFLOP take 46 ms (`make bench`, batches of 16)
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, AMD, and either under WSL
START_SECONDS = 10.0  # of Ray and its first actor (engine-catalogue-ops.md 1.1: 7-14 s on two cores)


def plan_only(job: Job, output: str) -> tuple[Prepared, Estimate]:
    """Plan into `output` and estimate: the dry run. Starts no Ray and no torch, and fetches nothing but tables."""
    prepared = prepare(job.anywhere(), output, "dry-run", lambda message: None, read=job_contracts)
    return prepared, job_estimate(prepared)


def job_estimate(prepared: Prepared) -> Estimate:
    """What the run takes of the archive, the disk and the processors, and how long on the machine that asks."""
    work, plan = prepared.work, prepared.plan
    survey = open_survey(work.job, plan.tile_table())
    views = [work.job.networks[network.prefix].views for network in work.networks]
    operations = sum(views * operations_of(config) for views, config in zip(views, prepared.configs, strict=True))
    row = sum(network.total for network in network_row(prepared))
    sample = plan.summary.sample
    costs = tile_costs(work.job, work.image, survey, sample) if sample else NO_TILES
    found = estimate(plan, costs, network_bytes=row, gflops=operations)
    return replace(found, eta=_eta(prepared, found, operations))


def network_row(prepared: Prepared) -> list[NetworkBytes]:
    """What each network adds to a row of the catalogue, by its columns and the grid of its attention maps."""
    return [
        network_bytes(
            network,
            grid(config),
            empty=() if prepared.work.job.networks[network.prefix].views > 1 else (network.single("spread"),),
        )
        for network, config in zip(prepared.work.networks, prepared.configs, strict=True)
    ]


def _eta(prepared: Prepared, found: Estimate, gflops: float) -> str:
    """On a cluster that is not asked, on this machine's own processors: what binds, and how long."""
    if prepared.work.job.engine.address is not None:
        return "depends on the cluster (`python -m pipeline.executors.simulate` draws its curve)"
    summary = prepared.plan.summary
    gpus, cores = _gpus(), len(os.sched_getaffinity(0))
    rate = (GPU_FLOPS if gpus else CORE_FLOPS * max(1, cores - 1)) / (gflops * 1e9)
    opened = max(1, summary.openings)
    step = Costs(
        file_bytes=found.cost.bytes / opened,
        files_tile=found.cost.requests / opened,
        bands_tile=1,
        section_seconds=0.0,
        draw_seconds=found.cost.cpu_seconds / max(1, summary.sources),
        latency_seconds=prepared.work.job.ways.latency if found.seconds else 0.0,
        images_second=rate,
        actor_start_seconds=START_SECONDS,
    )
    work = Workload(summary.sources, summary.units, summary.chunks, summary.openings)
    cluster = Cluster(
        gpus=max(1, gpus),
        load_cores=max(1, cores - 1),
        bytes_cap=math.inf,
        network_bytes_second=_per_second(found.cost.bytes, found.seconds),
        requests_second=_per_second(found.cost.requests, found.seconds),
    )
    result = eta(work, cluster, step)
    where = f"{gpus} GPUs" if gpus else "no GPU"
    binds = "CPUs of the networks" if result.binds == "GPUs" and not gpus else result.binds
    return f"about {_duration(result.seconds)} on this machine ({cores} cores, {where}); {binds} bind"


def _gpus() -> int:
    """Torch is asked only where a driver has left its device: it takes longer to import than the plan to make."""
    if not any(Path(device).exists() for device in DRIVERS):
        return 0
    import torch

    return torch.cuda.device_count()


def _per_second(amount: float, seconds: float) -> float:
    """What the links let through; all where nothing has to come over one."""
    return amount / seconds if amount and seconds else math.inf


def _duration(seconds: float) -> str:
    for name, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"
