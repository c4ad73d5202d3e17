"""The stages of a survey run, as the work that the Ray engine carries out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.catalogue.commits import Manifest
from pipeline.data import Chunk, Predictions, WorkUnit
from pipeline.executors.ray.cluster import ray_session, share_out
from pipeline.executors.ray.drivers import run_drivers
from pipeline.executors.ray.engine import Settings, run_engine
from pipeline.executors.ray.exporter import Exporter
from pipeline.executors.ray.limits import ClusterGate, cluster_gate, worker_access
from pipeline.executors.ray.shared import check_shared
from pipeline.executors.ray.telling import Around
from pipeline.executors.watch import Watch
from pipeline.stages import Work, commit, load, predict, predictor, quarantine

if TYPE_CHECKING:
    from pipeline.inference import Predictor


@dataclass(frozen=True)
class SurveyNetworks:
    """The networks of the job on this process's device."""

    predictor: Predictor

    @property
    def choice(self) -> str:
        return self.predictor.choice

    def __call__(self, chunk: Chunk) -> Predictions:
        return predict(self.predictor, chunk, self.choice)


@dataclass(frozen=True)
class SurveyWork:
    """The stages, bound to one run."""

    work: Work
    gate: ClusterGate

    def load(self, unit: WorkUnit, chunk: int) -> Chunk:
        with self.gate.loading(unit.unit_id, chunk):
            return load(self.work, unit, chunk, worker_access(self.work.job, self.gate))

    def networks(self) -> SurveyNetworks:
        return SurveyNetworks(predictor(self.work))

    def commit(self, unit: WorkUnit, parts: Sequence[Predictions]) -> Manifest:
        return commit(self.work, unit, parts)

    def quarantine(self, unit: WorkUnit, reason: str) -> Manifest:
        return quarantine(self.work, unit, reason)


def run_units(work: Work, units: Iterable[WorkUnit], watch: Watch) -> Iterator[Manifest]:
    """Load, predict and commit every unit on Ray; yields what was committed, ends early when `watch` says stop."""
    wanted = work.job.engine
    with ray_session(wanted.address) as resources:
        if wanted.address is not None:
            check_shared(work.storage, "run.json")
        settings = Settings(
            shares=share_out(wanted, resources, work.job.units.chunk),
            bytes_row=len(work.image.planes) * work.image.size**2,
            unit_attempts=wanted.unit_attempts,
            unit_deadline=wanted.unit_deadline,
            grace=wanted.grace,
        )
        drivers = settings.shares.drivers
        gate = cluster_gate(work.job.archives, drivers)
        around = Around(gate.hosts, gate.where, Exporter(work.job.name))
        if drivers == 1:
            yield from run_engine(SurveyWork(work, gate), units, settings, watch, around=around)
            return
        watch.log(f"{drivers} drivers")
        yield from run_drivers(SurveyWork(work, gate), units, settings, watch, around)
