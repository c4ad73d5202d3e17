"""The counts of one run: what is committed, what is left, and when to stop."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pipeline.catalogue.commits import Manifest
from pipeline.data import TRANSIENT, Status, WorkUnit
from pipeline.errors import ArchiveUnreachable, CatalogueError, OutputLocked, PipelineError, TooManyFailures
from pipeline.executors.before import Before, transient
from pipeline.executors.journal import EVERY
from pipeline.executors.lock import STALE, OutputLock
from pipeline.executors.prepare import Prepared
from pipeline.executors.summary import ExitCode, RunSummary, error_code, exit_code
from pipeline.executors.telemetry import LogEvent, Telemetry
from pipeline.executors.watch import OnLog, OnProgress, Progress, StopRequest

FAILED = TRANSIENT | {Status.BAD_IMAGE}  # what counts against `engine.failure_fraction`
JUDGED_FROM = 200  # sources, before the failure fraction is believed


@dataclass
class Reporter:
    """Where a run's news goes. The default is nowhere."""

    on_progress: OnProgress = field(default=lambda progress: None)
    on_log: OnLog = field(default=lambda message: None)
    telemetry: Telemetry = field(default_factory=Telemetry)
    log_every: float = EVERY  # s between two writes of the run's log

    def log(self, message: str) -> None:
        """One line for whoever watches, and for the run's log."""
        self.telemetry.tell(LogEvent("log", message))
        self.on_log(message)


class Session:
    """The counts of one run. It is the executor's `Watch`."""

    def __init__(
        self,
        prepared: Prepared,
        stop: StopRequest,
        reporter: Reporter,
        lock: OutputLock,
        before: Before,
    ) -> None:
        self._work, self._plan = prepared.work, prepared.plan
        self._stop, self._reporter, self._lock = stop, reporter, lock
        self._before = before
        self._statuses: Counter[str] = Counter()  # of this run's commits
        self._all = Counter(before.statuses)
        self._failed = set(before.failed)  # units that a retry has not tried yet
        self._committed = before.rows
        self._units = len(before.units)
        self._units_now = 0
        self._classified = 0
        self._bytes = 0
        self._started = time.monotonic()

    # the Watch of the executor

    def stop(self) -> bool:
        if self._lock.lost.is_set():
            raise OutputLocked(
                f"{self._work.storage.shown}: no sign of life of this run got through for {STALE:.0f} s, "
                "or another run took the output over; the same command goes on"
            )
        return self._stop()

    @property
    def telemetry(self) -> Telemetry:
        return self._reporter.telemetry

    def classified(self, rows: int) -> None:
        self.telemetry.classified(rows)
        self._classified += rows
        self._reporter.on_progress(self.progress())

    def log(self, message: str) -> None:
        self._reporter.log(message)

    # what is left to do

    def left(self, retry: bool) -> int:
        """Sources that this run has to do."""
        if retry:
            return sum(transient(manifest) for manifest in self._before.failed.values())
        return self._plan.summary.sources - self._committed

    def open_units(self) -> Iterator[WorkUnit]:
        """Units of the plan without a commit, streamed."""
        return (unit for unit in self._plan.units() if unit.unit_id not in self._before.units)

    def failed_units(self) -> Iterator[WorkUnit]:
        """Units with sources to try again, as the next attempt, streamed."""
        for unit in self._plan.units():
            manifest = self._before.failed.get(unit.unit_id)
            if manifest is not None:
                yield replace(unit, attempt=manifest.attempt + 1)

    # what was done

    def committed(self, manifest: Manifest) -> None:
        """Count a commit. Raises TooManyFailures, ArchiveUnreachable."""
        earlier = self._before.failed.get(manifest.unit_id)
        if earlier is not None:
            self._all.subtract(earlier.statuses)
        elif manifest.unit_id not in self._before.units:
            self._committed += manifest.rows
            self._units += 1
        self._failed.discard(manifest.unit_id)
        self._units_now += 1
        self._bytes += manifest.bytes_read
        self._statuses.update(manifest.statuses)
        self._all.update(manifest.statuses)
        self.telemetry.committed(manifest, self._plan.summary.sources - self._committed)
        self._reporter.on_progress(self.progress())
        self._judge(self._statuses)

    def progress(self) -> Progress:
        return Progress(
            sources=self._plan.summary.sources,
            committed=self._committed,
            committed_before=self._before.rows,
            classified=self._classified,
            seconds=time.monotonic() - self._started,
            statuses=dict(self._statuses),
            units=self._plan.summary.units,
            units_committed=self._units,
        )

    def failure(self, error: PipelineError) -> RunSummary:
        """How a run ended that an error ended."""
        return self._summary(error_code(error), str(error))

    def summary(self, retry: bool) -> RunSummary:
        """How the run ended. Raises CatalogueError where it neither finished nor was stopped."""
        complete = self._committed == self._plan.summary.sources and not (retry and self._failed)
        stopped = bool(self._stop.reason) and not complete
        code = exit_code(self._stop.signal_number if stopped else None, stopped, self._all)
        if not complete and not stopped:
            sources = self._plan.summary.sources
            raise CatalogueError(f"{self._work.storage.shown}: {self._committed} of {sources} sources are committed")
        return self._summary(code, self._stop.reason if stopped else "")

    def _summary(self, code: ExitCode, reason: str) -> RunSummary:
        progress = self.progress()
        return RunSummary(
            run_id=self._work.run_id,
            exit_code=int(code),
            reason=reason,
            sources=progress.sources,
            committed=progress.committed,
            units=progress.units,
            units_committed=progress.units_committed,
            units_this_run=self._units_now,
            statuses=dict(sorted((+self._all).items())),
            unplaced=sum(self._plan.summary.invalid.values()),
            bytes_read=self._bytes,
            seconds=round(progress.seconds, 3),
            images_per_second=round(progress.images_per_second, 3),
            untrained=tuple(network.prefix for network in self._work.networks if network.untrained),
        )

    def judge_catalogue(self) -> None:
        """Judge all that is committed, by earlier runs too. Raises TooManyFailures, ArchiveUnreachable."""
        self._judge(+self._all)

    def _judge(self, statuses: Counter[str]) -> None:
        done = statuses.total()
        failed = {status: statuses[status] for status in sorted(FAILED) if statuses[status]}
        limit = self._work.job.engine.failure_fraction
        if done < min(JUDGED_FROM, self._plan.summary.sources) or sum(failed.values()) <= limit * done:
            return
        causes = ", ".join(f"{count} {status}" for status, count in failed.items())
        message = (
            f"{sum(failed.values())} of {done} sources failed ({causes}); engine.failure_fraction is {limit:g}. "
            "Each row's `reason` says why (pipeline finalise, then pipeline query); "
            "a higher fraction accepts it (--set engine.failure_fraction=1)"
        )
        if failed.get(Status.ARCHIVE_ERROR, 0) > 0.5 * sum(failed.values()):
            raise ArchiveUnreachable(message)
        raise TooManyFailures(message)
