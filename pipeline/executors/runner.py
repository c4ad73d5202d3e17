"""A run from job to published catalogue: lock, plan, open units, count, publish, say how it ended."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipeline.catalogue.commits import Manifest, latest_manifests
from pipeline.catalogue.hats import finalise
from pipeline.data import TRANSIENT, Status, WorkUnit
from pipeline.errors import ArchiveUnreachable, CatalogueError, DiskFull, OutputLocked, TooManyFailures
from pipeline.estimate import Estimate
from pipeline.executors import local
from pipeline.executors.lock import OutputLock
from pipeline.executors.prepare import Prepared, job_estimate, prepare
from pipeline.executors.summary import RunSummary, exit_code
from pipeline.executors.watch import OnLog, OnProgress, Progress, StopRequest
from pipeline.job import Job
from pipeline.planner import Plan
from pipeline.stages import Work
from pipeline.storage import Storage

FAILED = TRANSIENT | {Status.BAD_IMAGE}  # what counts against `engine.failure_fraction`
JUDGED_FROM = 200  # sources, before the failure fraction is believed
DISK_MARGIN = 1.2  # of the estimated output


@dataclass
class Reporter:
    """Where a run's news goes. The default is nowhere."""

    on_progress: OnProgress = field(default=lambda progress: None)
    on_log: OnLog = field(default=lambda message: None)


def run(
    job: Job,
    output: str,
    *,
    stop: StopRequest | None = None,
    reporter: Reporter | None = None,
    retry: bool = False,
    publish: bool = True,
) -> RunSummary:
    """Run `job` into `output` (folder or fsspec URL) until all is committed, then publish a snapshot.

    What an earlier run committed is not done again. `retry` tries again the sources that failed transiently and
    the quarantined units, and nothing else. Raises RunError and its kinds; what is committed stays committed.
    """
    stop, reporter = stop or StopRequest(), reporter or Reporter()
    storage = Storage(output)
    run_id = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + uuid.uuid4().hex[:6]
    with OutputLock(storage, run_id) as lock:
        prepared = prepare(job, output, run_id, reporter.on_log)
        session = _Session(prepared, stop, reporter, lock, latest_manifests(storage))
        units = session.failed_units() if retry else session.open_units()
        if session.left(retry):
            _check_disk(storage, prepared, session)
            for manifest in _executor(prepared.work, units, session):
                session.committed(manifest)
        summary = session.summary()
        if publish and summary.committed == summary.sources and not lock.lost.is_set():
            snapshot = finalise(storage, name=job.name)
            summary = replace(summary, snapshot=snapshot.path)
        summary.write(storage)
    return summary


def plan_only(job: Job, output: str) -> tuple[Prepared, Estimate]:
    """Plan into `output` and estimate: the dry run. Starts no Ray and fetches nothing but tables."""
    prepared = prepare(job, output, "dry-run", lambda message: None)
    return prepared, job_estimate(prepared)


def _executor(work: Work, units: Iterable[WorkUnit], session: _Session) -> Iterator[Manifest]:
    if work.job.engine.executor == "local":
        return local.run_units(work, units, session)
    from pipeline.executors.ray.survey import run_units

    return run_units(work, units, session)


class _Session:
    """The counts of one run. It is the executor's `Watch`."""

    def __init__(
        self,
        prepared: Prepared,
        stop: StopRequest,
        reporter: Reporter,
        lock: OutputLock,
        before: dict[str, Manifest],
    ) -> None:
        self._work, self._plan = prepared.work, prepared.plan
        self._stop, self._reporter, self._lock = stop, reporter, lock
        self._before = before
        self._statuses: Counter[str] = Counter()  # of this run's commits
        self._all: Counter[str] = Counter()
        for manifest in before.values():
            self._all.update(manifest.statuses)
        self._committed = sum(manifest.rows for manifest in before.values())
        self._units = len(before)
        self._units_now = 0
        self._classified = 0
        self._bytes = 0
        self._started = time.monotonic()

    # the Watch of the executor

    def stop(self) -> bool:
        if self._lock.lost.is_set():
            raise OutputLocked(f"{self._work.output}: another run took this output over; this one was silent too long")
        return self._stop()

    def classified(self, rows: int) -> None:
        self._classified += rows
        self._reporter.on_progress(self.progress())

    def log(self, message: str) -> None:
        self._reporter.on_log(message)

    # what is left to do

    def left(self, retry: bool) -> int:
        """Sources that this run has to do."""
        if retry:
            return sum(_transient(manifest) for manifest in self._before.values())
        return self._plan.summary.sources - self._committed

    def open_units(self) -> Iterator[WorkUnit]:
        """Units of the plan without a commit, streamed."""
        return (unit for unit in self._plan.units() if unit.unit_id not in self._before)

    def failed_units(self) -> Iterator[WorkUnit]:
        """Units with sources to try again, as the next attempt, streamed."""
        for unit in self._plan.units():
            manifest = self._before.get(unit.unit_id)
            if manifest is not None and _transient(manifest):
                yield replace(unit, attempt=manifest.attempt + 1)

    # what was done

    def committed(self, manifest: Manifest) -> None:
        """Count a commit. Raises TooManyFailures, ArchiveUnreachable."""
        earlier = self._before.get(manifest.unit_id)
        if earlier is None:
            self._committed += manifest.rows
            self._units += 1
        else:
            self._all.subtract(earlier.statuses)
        self._units_now += 1
        self._bytes += manifest.bytes_read
        self._statuses.update(manifest.statuses)
        self._all.update(manifest.statuses)
        self._reporter.on_progress(self.progress())
        self._judge_failures()

    def progress(self) -> Progress:
        return Progress(
            sources=self._plan.summary.sources,
            committed=self._committed,
            committed_before=sum(manifest.rows for manifest in self._before.values()),
            classified=self._classified,
            seconds=time.monotonic() - self._started,
            statuses=dict(self._statuses),
            units=self._plan.summary.units,
            units_committed=self._units,
        )

    def summary(self) -> RunSummary:
        complete = self._committed == self._plan.summary.sources
        stopped = bool(self._stop.reason) and not complete
        progress = self.progress()
        statuses = dict(sorted((+self._all).items()))
        code = exit_code(self._stop.signal_number if stopped else None, stopped, statuses)
        if not complete and not stopped:
            raise CatalogueError(f"{self._work.output}: {self._committed} of {progress.sources} sources are committed")
        return RunSummary(
            run_id=self._work.run_id,
            exit_code=int(code),
            reason=self._stop.reason if stopped else "",
            sources=progress.sources,
            committed=progress.committed,
            units=progress.units,
            units_committed=progress.units_committed,
            units_this_run=self._units_now,
            statuses=statuses,
            unplaced=sum(self._plan.summary.invalid.values()),
            bytes_read=self._bytes,
            seconds=round(progress.seconds, 3),
            images_per_second=round(progress.images_per_second, 3),
            untrained=tuple(network.prefix for network in self._work.networks if network.untrained),
        )

    def _judge_failures(self) -> None:
        done = self._statuses.total()
        failed = {status: self._statuses[status] for status in sorted(FAILED) if self._statuses[status]}
        if done < min(JUDGED_FROM, self._plan.summary.sources):
            return
        limit = self._work.job.engine.failure_fraction
        if sum(failed.values()) <= limit * done:
            return
        causes = ", ".join(f"{count} {status}" for status, count in failed.items())
        message = f"{sum(failed.values())} of {done} sources failed ({causes}); engine.failure_fraction is {limit:g}"
        if failed.get(Status.ARCHIVE_ERROR, 0) > 0.5 * sum(failed.values()):
            raise ArchiveUnreachable(message)
        raise TooManyFailures(message)


def _transient(manifest: Manifest) -> int:
    return sum(manifest.statuses.get(status.value, 0) for status in TRANSIENT)


def _check_disk(storage: Storage, prepared: Prepared, session: _Session) -> None:
    free = storage.free_bytes()
    if free is None:
        return
    share = session.left(retry=False) / max(prepared.plan.summary.sources, 1)
    need = int(DISK_MARGIN * job_estimate(prepared).bytes_out * share)
    if free < need:
        raise DiskFull(f"{storage.url}: the run may write {need / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free")


def describe_run(storage: Storage) -> dict[str, object]:
    """`run.json` of an output. Raises CatalogueError where there is none."""
    if not storage.exists("run.json"):
        raise CatalogueError(f"{storage.url} is no output of a run: it has no run.json")
    facts: dict[str, object] = json.loads(storage.read("run.json"))
    return facts


def open_run(storage: Storage) -> tuple[Plan, dict[str, Manifest]]:
    """The plan and the latest commits of an output. Raises CatalogueError."""
    from pipeline.planner import open_plan

    plan = open_plan(storage)
    if plan is None:
        raise CatalogueError(f"{storage.url} holds no plan")
    return plan, latest_manifests(storage)
