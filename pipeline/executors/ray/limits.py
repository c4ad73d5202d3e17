"""One count of every host for the whole Ray cluster: an actor that holds the limiters, and the way to it.

However many drivers a run has, all loads ask the same actor, so a host's limit is that of all of them together. Where a
load runs is told to one of several such actors, one for each driver: each chunk tells it twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from zlib import crc32

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayActorError

from pipeline.archives.access import Access
from pipeline.archives.gate import HostState, LocalGate
from pipeline.archives.limiter import Lease, Outcome, Wait
from pipeline.archives.policy import ArchivesSection
from pipeline.job import Job

NAME, NAMESPACE = "host-limits", "galaxy-pipeline"  # one for all runs of a cluster
PATIENCE = 60.0  # s for an answer of the actor, which never blocks
AT_ONCE = 1.0  # s that the driver waits for an answer
AGAIN = 1.0  # s after which an actor that died is looked for again


class HostLimits:
    """The actor. It never blocks: who has to wait is told for how long."""

    def __init__(self, settings: ArchivesSection) -> None:
        self._gate = LocalGate(settings)
        self._loads: dict[str, dict[int, tuple[str, str]]] = {}  # unit -> chunk -> id and address of its node

    def announce(self, settings: ArchivesSection) -> None:
        """The policies of a run that begins; they hold for all runs of the cluster from now on."""
        self._gate.announce(settings)

    def ask(self, host: str, holder: str) -> Lease | Wait:
        return self._gate.ask(host, holder)

    def renew(self, host: str, lease: Lease) -> None:
        self._gate.renew(host, lease)

    def done(self, host: str, lease: Lease, outcome: Outcome, retry_after: float | None, received: int) -> None:
        self._gate.done(host, lease, outcome, retry_after, received)

    def hosts(self) -> Mapping[str, HostState]:
        return self._gate.hosts()

    def began(self, unit_id: str, chunk: int, node: str, address: str) -> None:
        """A load of the unit runs on this node now."""
        self._loads.setdefault(unit_id, {})[chunk] = node, address

    def ended(self, unit_id: str, chunk: int) -> None:
        self._loads.get(unit_id, {}).pop(chunk, None)
        if not self._loads.get(unit_id):
            self._loads.pop(unit_id, None)

    def where(self, unit_id: str) -> dict[str, str]:
        """The nodes on which loads of the unit run: id -> address."""
        return dict(self._loads.get(unit_id, {}).values())


@dataclass(frozen=True)
class ClusterGate:
    """A `Gate` to the actor of the cluster: small, picklable, the same from every node.

    An actor that died is started again by whoever asks next; what was in flight then is not counted any more.
    """

    settings: str  # JSON of the section: an actor that is started again must know it
    actors: int = 1  # that hear where loads run; the first holds the limiters

    def ask(self, host: str, holder: str) -> Lease | Wait:
        answer: Lease | Wait | None = self._told("ask", host, holder)
        return Wait(AGAIN) if answer is None else answer

    def renew(self, host: str, lease: Lease) -> None:
        self._told("renew", host, lease)

    def done(
        self, host: str, lease: Lease, outcome: Outcome, retry_after: float | None = None, received: int = 0
    ) -> None:
        self._told("done", host, lease, outcome, retry_after, received)

    def hosts(self) -> Mapping[str, HostState]:
        """Every host that was asked; none where the actor does not answer at once."""
        found: Mapping[str, HostState] | None = self._told("hosts", patience=AT_ONCE)
        return found or {}

    def where(self, unit_id: str) -> Mapping[str, str]:
        """The nodes on which loads of the unit run, id -> address; none where the actor does not answer at once."""
        found: Mapping[str, str] | None = self._told("where", unit_id, patience=AT_ONCE, number=self._of(unit_id))
        return found or {}

    @contextmanager
    def loading(self, unit_id: str, chunk: int) -> Iterator[None]:
        """Tell the cluster that this process loads a chunk, for the time of the block."""
        node = ray.get_runtime_context().get_node_id()
        with suppress(RayActorError):
            address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            _actor(self.settings, self._of(unit_id)).began.remote(unit_id, chunk, node, address)
        try:
            yield
        finally:
            with suppress(RayActorError):
                _actor(self.settings, self._of(unit_id)).ended.remote(unit_id, chunk)

    def _of(self, unit_id: str) -> int:
        return crc32(unit_id.encode()) % self.actors

    def _told(self, method: str, *arguments: Any, patience: float = PATIENCE, number: int = 0) -> Any:
        """What the actor says, None where it is gone or takes longer than `patience` (s)."""
        try:
            answer: ObjectRef[Any] = getattr(_actor(self.settings, number), method).remote(*arguments)
            return ray.get(answer, timeout=patience)
        except GetTimeoutError:
            return None
        except RayActorError:
            _actor.cache_clear()
            return None


def cluster_gate(settings: ArchivesSection, drivers: int = 1) -> ClusterGate:
    """The gate of a run, whose policies the cluster follows from now on."""
    _actor.cache_clear()  # of another Ray that this process had before
    gate = ClusterGate(settings.model_dump_json(), drivers)
    for number in range(drivers):
        _announce(gate.settings, number, settings)
    return gate


def _announce(text: str, number: int, settings: ArchivesSection) -> None:
    """Tell an actor the policies; where it died just now, with its node, another is started.

    Raises RayActorError where none lives for PATIENCE.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            ray.get(_actor(text, number).announce.remote(settings))
            return
        except RayActorError:
            if time.monotonic() > until:
                raise
            _actor.cache_clear()
            time.sleep(AGAIN)


@lru_cache(maxsize=2)
def process_access(archives: str, hosts: tuple[str, ...], gate: ClusterGate) -> Access:
    """This worker's way to archives, for as long as it lives: connections are kept between chunks."""
    return Access(ArchivesSection.model_validate_json(archives), hosts, gate)


def worker_access(job: Job, gate: ClusterGate) -> Access:
    return process_access(job.archives.model_dump_json(), job.archive_hosts(), gate)


@cache
def _actor(settings: str, number: int = 0) -> Any:
    """One of the cluster's actors, started where there is none."""
    section = ArchivesSection.model_validate_json(settings)
    made: Any = ray.remote(HostLimits).options(
        name=f"{NAME}-{number}" if number else NAME,
        namespace=NAMESPACE,
        get_if_exists=True,
        num_cpus=0,
        max_restarts=0,
    )
    return made.remote(section)
