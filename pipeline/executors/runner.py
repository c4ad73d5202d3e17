"""A run from job to published catalogue: lock, plan, open units, count, publish, say how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Literal

from pipeline.catalogue.commits import Manifest, each_latest
from pipeline.catalogue.row_size import network_bytes
from pipeline.data import WorkUnit
from pipeline.errors import ArchiveUnreachable, DiskFull, JobError, OutputLocked, RunError
from pipeline.executors import local
from pipeline.executors.before import Before
from pipeline.executors.journal import Journal
from pipeline.executors.lock import OutputLock
from pipeline.executors.prepare import Prepared, prepare
from pipeline.executors.publishing import new_run_id, publish_snapshot
from pipeline.executors.session import Reporter, Session
from pipeline.executors.summary import RunSummary, error_code
from pipeline.executors.telemetry import LogEvent
from pipeline.executors.watch import StopRequest
from pipeline.job import Job
from pipeline.planner.estimate import bytes_out
from pipeline.stages import Work
from pipeline.storage import Storage

Task = Literal["run", "retry", "update"]
DISK_MARGIN = 1.2  # of the estimated output


def run(
    job: Job,
    output: str,
    *,
    stop: StopRequest | None = None,
    reporter: Reporter | None = None,
    task: Task = "run",
    publish: bool = True,
) -> RunSummary:
    """Run `job` into `output` (folder or fsspec URL) until all is committed, then publish a snapshot.

    What an earlier run committed is not done again. `task` "retry" tries again the sources that failed transiently and
    the quarantined units, and nothing else; "update" does that, and the sources that are new since the output was
    planned. Raises RunError and its kinds; what is committed stays committed.
    """
    job, stop, reporter = job.anywhere(), stop or StopRequest(), reporter or Reporter()
    storage = Storage(output)
    if storage.local is not None:  # workers have working directories of their own
        output = str(storage.local.absolute())
        storage = Storage(output)
    run_id = new_run_id()
    with OutputLock(storage, run_id) as lock, Journal(storage, run_id, reporter.log_every) as journal:
        reporter = replace(reporter, telemetry=journal.telemetry)
        reporter.telemetry.tell(LogEvent("run", f"{task} of job {job.name}"))
        prepared = _prepared(job, storage, run_id, reporter, task == "update")
        session = Session(prepared, stop, reporter, lock, Before.of(each_latest(storage)))
        try:
            summary = _carried_out(prepared, session, task)
            if publish and summary.committed == summary.sources and not lock.lost.is_set():
                snapshot = publish_snapshot(storage, job.name, run_id, job.publication)
                summary = replace(summary, snapshot=snapshot.path)
        except RunError as error:
            if not isinstance(error, OutputLocked):  # then the summary is another run's to write
                _write(session.failure(error), storage)
            raise
        summary.write(storage)
        reporter.telemetry.tell(LogEvent("run", f"ended with exit code {summary.exit_code}"))
    return summary


def _prepared(job: Job, storage: Storage, run_id: str, reporter: Reporter, update: bool) -> Prepared:
    """The run before its first unit; where the archive or the disk fails already, the summary says so."""
    try:
        return prepare(job, storage.url, run_id, reporter.log, update)
    except (ArchiveUnreachable, DiskFull) as error:
        _write(RunSummary(run_id, int(error_code(error)), str(error), 0, 0, 0, 0, 0), storage)
        raise


def _carried_out(prepared: Prepared, session: Session, task: Task) -> RunSummary:
    """Do what is left to do. Raises RunError and its kinds."""
    work, again = prepared.work, task != "run"
    new = session.left(retry=False)
    if task == "retry" and new:
        raise JobError(f"{work.storage.shown}: {new} sources are not committed yet: run to the end before a retry")
    if left := new + (session.left(retry=True) if again else 0):
        _check_disk(prepared, left)
        units = chain(session.open_units(), session.failed_units() if again else ())
        for manifest in _executor(work, units, session):
            session.committed(manifest)
    summary = session.summary(again)
    if not summary.reason:
        session.judge_catalogue()
    return summary


def _write(summary: RunSummary, storage: Storage) -> None:
    """As well as it goes: the disk that is full may be the output's."""
    with suppress(DiskFull, OSError):
        summary.write(storage)


def _executor(work: Work, units: Iterable[WorkUnit], session: Session) -> Iterator[Manifest]:
    if work.job.engine.executor == "local":
        return local.run_units(work, units, session)
    from pipeline.executors.ray.survey import run_units

    return run_units(work, units, session)


def _check_disk(prepared: Prepared, left: int) -> None:
    storage = prepared.work.storage
    free = storage.free_bytes()
    if free is None:
        return
    share = left / max(prepared.plan.summary.sources, 1)
    row = sum(network_bytes(network).total for network in prepared.work.networks)
    need = int(DISK_MARGIN * bytes_out(prepared.plan, row) * share)
    if free < need:
        raise DiskFull(
            f"{storage.shown}: the run may write {need / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB free"
        )
