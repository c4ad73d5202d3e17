"""The whole pipeline, one work unit at a time, in this process. Read this first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.catalogue.commits import Manifest
from pipeline.data import WorkUnit
from pipeline.errors import UnitError
from pipeline.executors.watch import Watch
from pipeline.stages import Work, commit, load, predict, predictor, quarantine


def run_units(work: Work, units: Iterable[WorkUnit], watch: Watch) -> Iterator[Manifest]:
    """Load, predict and commit every unit; yields what was committed, and ends early when `watch` says stop."""
    networks = predictor(work)
    watch.log(networks.choice)
    for unit in units:
        reasons: list[str] = []
        while len(reasons) < work.job.engine.unit_attempts:
            if watch.stop():
                return
            try:
                parts = []
                for chunk in range(len(unit.chunks)):
                    parts.append(predict(networks, load(work, unit, chunk)))
                    watch.classified(parts[-1].with_image.size)
                yield commit(work, unit, parts)
                break
            except UnitError as error:
                reasons.append(str(error))
        else:
            yield quarantine(work, unit, reasons[-1])
