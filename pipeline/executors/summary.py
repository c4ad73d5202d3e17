"""How a run ended: for people, for schedulers that see only 0 or 1, and as an exit code."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from pipeline.errors import ArchiveUnreachable, JobError, PipelineError

if TYPE_CHECKING:
    from pipeline.storage import Storage

NAME = "run_summary.json"


class ExitCode(IntEnum):
    """What the process answers; where several hold, the first of 130, 75, 4, 3 that does."""

    COMPLETE = 0
    INTERNAL = 1  # a bug, or the machine
    USAGE = 2  # the job, its sources or its checkpoints are wrong
    QUARANTINED = 3  # finished, with quarantined units
    UNREACHABLE = 4  # the archive does not answer
    STOPPED = 75  # EX_TEMPFAIL of sysexits(3): stopped, and the same command goes on
    INTERRUPTED = 130  # Ctrl-C


@dataclass(frozen=True)
class RunSummary:
    """One run, as `run_summary.json` beside the catalogue says it."""

    run_id: str
    exit_code: int
    reason: str  # "" where all is committed
    sources: int  # in the plan
    committed: int  # sources
    units: int
    units_committed: int
    units_this_run: int
    statuses: dict[str, int] = field(default_factory=dict)  # of the whole catalogue
    unplaced: int = 0  # source rows without a place in the catalogue
    bytes_read: int = 0  # by this run
    seconds: float = 0.0  # of this run
    images_per_second: float = 0.0  # of this run
    snapshot: str | None = None
    untrained: tuple[str, ...] = ()  # networks with random weights

    @property
    def line(self) -> str:
        """How it ended, for the subject of a mail."""
        troubled = {status: count for status, count in self.statuses.items() if status not in ("ok", "partial")}
        trouble = ", ".join(f"{count} {status}" for status, count in sorted(troubled.items()))
        parts = (
            f"exit code {self.exit_code}{f' ({self.reason})' if self.reason else ''}",
            f"{self.committed} of {self.sources} sources committed{f' ({trouble})' if trouble else ''}",
            f"{self.units_this_run} units by run {self.run_id} in {self.seconds / 3600:.1f} h",
            f"catalogue {self.snapshot}" if self.snapshot else "no new catalogue",
        )
        return "; ".join(parts)

    def write(self, storage: Storage) -> None:
        storage.replace(NAME, (json.dumps(asdict(self), indent=2) + "\n").encode())


def read_summary(storage: Storage) -> RunSummary | None:
    """The last run's summary, None where no run ended yet."""
    if not storage.exists(NAME):
        return None
    facts = json.loads(storage.read(NAME))
    return RunSummary(**{**facts, "untrained": tuple(facts["untrained"])})


def exit_code(stop_signal: int | None, stopped: bool, statuses: Mapping[str, int]) -> ExitCode:
    """The code of a run that ended without an error."""
    if stop_signal == signal.SIGINT:
        return ExitCode.INTERRUPTED
    if stopped:
        return ExitCode.STOPPED
    if statuses.get("quarantined", 0):
        return ExitCode.QUARANTINED
    return ExitCode.COMPLETE


def error_code(error: PipelineError) -> ExitCode:
    """The code of a run that an error ended."""
    if isinstance(error, ArchiveUnreachable):
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if isinstance(error, JobError) else ExitCode.INTERNAL
