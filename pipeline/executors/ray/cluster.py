"""The Ray that a run uses, and how its CPUs, GPUs and object store are shared out."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ray

from pipeline.errors import JobError
from pipeline.executors.limits import evenly
from pipeline.executors.sizing import drivers_for

if TYPE_CHECKING:
    from pipeline.job import EngineSection

DRIVER_CPUS = 1.0  # of each driver where there are several; one alone is the process that the user started
COMMIT_CPUS = 0.1  # a commit mostly waits for the disk
COMMITS = 2  # that find a CPU while everything else is busy
LEAST_LOAD_CPUS = 0.1
ACTOR_PART = 0.75  # of the CPUs, where the networks run on CPUs too: there they take nearly all the time
NODE_CPUS = "largest node's CPUs"  # besides Ray's own resources: no actor may need more
LOADS_PER_ACTOR = 8  # on a cluster that has no workers yet

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a run does not report to third parties
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, and the end of its FutureWarning
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # every task has a second answer that the engine does read
}


@dataclass(frozen=True)
class LocalRay:
    """The size of a Ray of our own; None: what the machine has."""

    cpus: int | None = None
    store_bytes: int | None = None


@dataclass(frozen=True)
class Shares:
    """What each part of the engine may use."""

    actors: int
    actor_cpus: float
    actor_gpus: float
    loads: int  # load tasks at once
    load_cpus: float
    bytes_cap: int  # of images in the object store
    drivers: int = 1  # that share all this out among themselves

    def parts(self) -> list[Shares]:
        """What each driver may use: together no more than this, and as even as it goes."""
        return [
            replace(
                self,
                actors=evenly(self.actors, number, self.drivers),
                loads=evenly(self.loads, number, self.drivers),
                bytes_cap=evenly(self.bytes_cap, number, self.drivers),
                drivers=1,
            )
            for number in range(self.drivers)
        ]

    @property
    def threads(self) -> int:
        """Of one actor's networks."""
        return max(1, int(self.actor_cpus))


@contextmanager
def ray_session(address: str | None = None, size: LocalRay = LocalRay()) -> Iterator[Mapping[str, float]]:
    """Join the cluster at `address`, or start a Ray of our own; gives the resources there are.

    Without an address nothing is joined, not even a cluster that runs on this machine: `ray.init()` would. A Ray
    that this process has joined already is used as it is and left running.
    """
    if ray.is_initialized():
        yield _resources()
        return
    with _environment(ENVIRONMENT):
        with _sigterm_kept():
            _init(address, size)
        try:
            yield _resources()
        finally:
            with _sigterm_kept():
                ray.shutdown()
            _end_before_ray_is_destroyed()


def share_out(wanted: EngineSection, resources: Mapping[str, float], chunk: int) -> Shares:
    """Shares of a cluster with `resources`: what the job asks for, the rest such that everything fits at once.

    `chunk`: sources a load. Two CPUs are enough for one actor and two loads. A cluster without CPUs (a head node whose
    workers come when there is work) is taken to grow to what is asked of it.
    Raises JobError where the job asks for more than there is.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    actor_gpus = wanted.gpus_per_actor
    if actor_gpus is None:
        actor_gpus = 1.0 if gpus else 0.0
    node_cpus = resources.get(NODE_CPUS) or cpus
    actors = wanted.actors or max(1, int(gpus / actor_gpus) if actor_gpus else int(cpus / max(1.0, node_cpus)))
    bytes_cap = int(wanted.store_fraction * resources.get("object_store_memory", 0.0))
    if not cpus:
        loads = wanted.loads or LOADS_PER_ACTOR * actors
        drivers = _drivers(wanted, actors, loads, chunk)
        return Shares(actors, wanted.cpus_per_actor or 1.0, actor_gpus, loads, 1.0, bytes_cap, drivers)
    if actors * actor_gpus > gpus:
        raise JobError(f"{actors} actors of {actor_gpus:g} GPUs need more than the {gpus:g} GPUs there are")
    actor_cpus = wanted.cpus_per_actor or _actor_cpus(min(cpus / actors, node_cpus), on_cpu=not actor_gpus)
    left = cpus - actors * actor_cpus - COMMITS * COMMIT_CPUS
    drivers = _drivers(wanted, actors, wanted.loads or int(left), chunk)
    if drivers > 1:
        left -= drivers * DRIVER_CPUS
    loads = wanted.loads or max(2, drivers, int(left))
    load_cpus = min(1.0, left / loads)
    if load_cpus < LEAST_LOAD_CPUS:
        raise JobError(
            f"{actors} actors of {actor_cpus:g} CPUs, {loads} loads of at least {LEAST_LOAD_CPUS:g} and {drivers} "
            f"driver(s) need more than the {cpus:g} CPUs there are"
        )
    return Shares(actors, actor_cpus, actor_gpus, loads, _granular(load_cpus), bytes_cap, drivers)


def _drivers(wanted: EngineSection, actors: int, loads: int, chunk: int) -> int:
    """As many as the job asks for, else as it takes; each has an actor and a load at least."""
    most = min(actors, wanted.loads or actors)
    if wanted.drivers is None:
        return min(most, drivers_for(loads, chunk))
    if wanted.drivers > most:
        raise JobError(f"engine.drivers: {wanted.drivers} drivers need as many actors and loads, there are {most}")
    return wanted.drivers


def _actor_cpus(cpus: float, *, on_cpu: bool) -> float:
    """CPUs of an actor out of its part of them: most where it computes on them, else one that feeds its GPU."""
    most = ACTOR_PART * cpus
    if on_cpu and most >= 1.0:
        return float(int(most))
    return min(1.0, _granular(most / 1.5))


def _granular(cpus: float) -> float:
    """Rounded down to what Ray counts in: 1/10,000 of a CPU (docs.ray.io, fractional resources)."""
    return int(cpus * 1e4) / 1e4


def _init(address: str | None, size: LocalRay) -> None:
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        return
    ray.init(
        address="local",
        num_cpus=size.cpus,
        object_store_memory=size.store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put the caller's SIGTERM handler back.

    `ray.init` installs one that exits at once, with code 15. `ray.shutdown` resets the signal in C++ (ray,
    src/ray/util/logging.cc, RayLog::UninstallSignalAction): Python still names the old handler, the kernel kills.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _end_before_ray_is_destroyed() -> None:
    """Have this process end, when it ends, before the C++ destructors of Ray's library run.

    `ray.shutdown` (2.60) leaves a thread behind for each session that reads metrics every ten seconds. It reads
    statics of the library, and where they are destroyed already the process ends in SIGSEGV instead of its exit code.
    Python has been finalised by then and its files are flushed. What is registered last is called first
    (on_exit(3)), so this comes after `ray.shutdown`; where the C library has no `on_exit`, all stays as it was.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)  # called with the exit code
        libc.__cxa_atexit(libc.fflush, None, None)  # called before that: of all streams


def _resources() -> Mapping[str, float]:
    there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    largest = max((node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]), default=0.0)
    return {**there, NODE_CPUS: largest}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set yet, for the time of the block."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
