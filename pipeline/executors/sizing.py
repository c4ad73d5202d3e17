"""How large the nodes of a cluster must be for a job: the one place where memory and object stores are worked out.

deploy/ and the dry run take their figures from here.

    loads         one a CPU that neither an actor nor the commits need
    in flight     each load's chunk, and for each actor the chunk it predicts and the next one
    object store  what is in flight, over the share of it that images may fill (engine.store_fraction)
    /dev/shm      the store and a tenth: Ray puts a store that does not fit there on the disk
    memory        /dev/shm, the loads and actors themselves, and Ray's own processes
    drivers       as many as see the chunks of all loads through
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pipeline.data import ImageContract
from pipeline.executors.costs import CHUNK_ANSWERS, Costs
from pipeline.executors.limits import IN_FLIGHT
from pipeline.job import EngineSection, UnitsSection

GIB = 2**30
LOAD_MEMORY = 600 << 20  # bytes of a load besides its chunk; 0.4 GB measured (tests/benchmarks/node_memory.py)
ACTOR_MEMORY = 4 * GIB  # torch, weights, a CUDA context, pinned buffers: assumed; 0.6 GB measured on a CPU
RAY_MEMORY = 2 * GIB  # of Ray's own processes on a node; 1.2 GB measured, with the head's
SHM_MARGIN = 1.1
ACTORS_A_GPU = 1  # with its copies behind its kernels one fills a GPU (engine-catalogue-ops.md 5)
DRIVER_MEMORY = 4 * GIB  # planning 10 million sources takes 0.9 GB, measured (tests/benchmarks/plan_scale.py)
DRIVER_BUSY = 0.6  # of its time at most, as planned: chunks come in bursts
DRIVER_STORE = 1  # GiB: the head's store holds the run's description alone


@dataclass(frozen=True)
class NodeSize:
    """What one node of a cluster runs and needs."""

    loads: int
    actors: int
    object_store: int  # GiB
    shared_memory: int  # GiB of /dev/shm
    memory: int  # GiB, shared memory included

    @property
    def advice(self) -> str:
        return (
            f"{self.loads} loads, {self.actors} actor(s): object store {self.object_store} GiB, "
            f"/dev/shm {self.shared_memory} GiB, memory {self.memory} GiB"
        )


def node_size(cpus: int, gpus: int, image: ImageContract, units: UnitsSection, engine: EngineSection) -> NodeSize:
    """The size of a worker that loads, and predicts where it has GPUs."""
    return _size(max(1, cpus - gpus * ACTORS_A_GPU), gpus * ACTORS_A_GPU, image, units, engine)


def cpu_actor_size(cpus: int, image: ImageContract, units: UnitsSection, engine: EngineSection) -> NodeSize:
    """The size of a worker of a cluster without GPUs: one actor takes three quarters of the CPUs (cluster.py)."""
    return _size(max(1, cpus // 4), 1, image, units, engine)


def head_size() -> NodeSize:
    """The size of the head: the driver alone runs there."""
    shared = math.ceil(SHM_MARGIN * DRIVER_STORE)
    return NodeSize(0, 0, DRIVER_STORE, shared, shared + (DRIVER_MEMORY + RAY_MEMORY) // GIB)


def with_driver(size: NodeSize) -> NodeSize:
    """The size of a worker on which the driver runs too, as on the first node of a Slurm job."""
    return replace(size, memory=size.memory + DRIVER_MEMORY // GIB)


def chunk_bytes(image: ImageContract, units: UnitsSection) -> int:
    """What the images of one chunk take, uint8."""
    return units.chunk * len(image.planes) * image.size**2


def drivers_for(loads: int, chunk: int) -> int:
    """The drivers that so many load tasks at once need, were drawing all that they do."""
    costs = Costs()
    chunks_second = loads / (costs.draw_seconds * chunk)
    return max(1, math.ceil(chunks_second * CHUNK_ANSWERS * costs.driver_seconds / DRIVER_BUSY))


def _size(loads: int, actors: int, image: ImageContract, units: UnitsSection, engine: EngineSection) -> NodeSize:
    chunk = chunk_bytes(image, units)
    in_flight = (loads + IN_FLIGHT * actors) * chunk
    store = max(1, math.ceil(in_flight / engine.store_fraction / GIB))
    shared = math.ceil(SHM_MARGIN * store)
    own = loads * (LOAD_MEMORY + chunk) + actors * (ACTOR_MEMORY + IN_FLIGHT * chunk) + RAY_MEMORY
    return NodeSize(loads, actors, store, shared, shared + math.ceil(own / GIB))
