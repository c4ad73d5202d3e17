"""The whole pipeline, one work unit at a time, in this process. Read this first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.archives.access import Access
from pipeline.archives.gate import LocalGate
from pipeline.catalogue.commits import Manifest
from pipeline.data import Predictions, WorkUnit
from pipeline.errors import UnitError
from pipeline.executors.telemetry import LogEvent
from pipeline.executors.watch import Watch
from pipeline.stages import Work, commit, load, predict, predictor, quarantine

if TYPE_CHECKING:
    from pipeline.inference import Predictor


def run_units(work: Work, units: Iterable[WorkUnit], watch: Watch) -> Iterator[Manifest]:
    """Load, predict and commit every unit; yields what was committed, and ends early when `watch` says stop."""
    networks = predictor(work)
    watch.log(networks.choice)
    gate = LocalGate(work.job.archives)
    with Access(work.job.archives, work.job.archive_hosts(), gate) as access:
        for unit in units:
            if watch.stop():
                return
            manifest = _run_unit(Process(work, networks, access), unit, watch)
            watch.telemetry.hosts(gate.hosts())
            yield manifest


@dataclass(frozen=True)
class Process:
    """What this process needs for every unit."""

    work: Work
    networks: Predictor
    access: Access


def _run_unit(process: Process, unit: WorkUnit, watch: Watch) -> Manifest:
    """One unit, tried as often as the job allows, then quarantined."""
    reason, work = "", process.work
    for _ in range(work.job.engine.unit_attempts):
        try:
            return commit(work, unit, list(_parts(process, unit, watch)))
        except (UnitError, OSError) as error:  # as on Ray: a disk or a store may answer the next time
            reason = str(error)
            watch.log(f"unit {unit.unit_id} failed: {reason}")
    return quarantine(work, unit, reason)


def _parts(process: Process, unit: WorkUnit, watch: Watch) -> Iterator[Predictions]:
    for chunk in range(len(unit.chunks)):
        loaded = load(process.work, unit, chunk, process.access)
        predictions = predict(process.networks, loaded, process.networks.choice)
        of = LogEvent("load", "done", unit=unit.unit_id, chunk=chunk, rows=loaded.rows)
        watch.telemetry.tell(replace(of, seconds=round(loaded.load_seconds, 3)))
        watch.telemetry.tell(replace(of, kind="predict", seconds=round(predictions.predict_seconds, 3)))
        watch.classified(len(predictions.status))
        yield predictions
