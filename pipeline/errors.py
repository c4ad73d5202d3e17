"""What can go wrong, named by how much of the run it stops.

* PipelineError
  x SourceError        one row: becomes its `status` and `reason`, the unit goes on
    - NoCoverage
    - BadImage
    - ArchiveError     after every retry
      . ArchiveRefused     the archive says no, and would say so again
      . RenderingFailed    a service cannot make what is asked of it
      . ArchiveChanged     the file is another one than a moment ago
  x UnitError          one work unit: tried again, then quarantined
  x RunError           the run
    - JobError         the job, its sources or its checkpoints are wrong: exit code 2
      . MissingExtra
      . InvalidSources
      . CheckpointError
      . OutputLocked
    - CatalogueError   what is on disk contradicts itself or the request
    - ArchiveUnreachable  exit code 4
    - TooManyFailures  the failure fraction of the job is exceeded: what is committed stays
    - DiskFull

Anything else is a bug and stops the run. What is committed stays committed, and the next run starts there.
"""

from __future__ import annotations

from typing import ClassVar

from pipeline.data import Status


class PipelineError(Exception):
    """Base of every error that this package raises on purpose."""


class SourceError(PipelineError):
    """One source cannot be processed; the message says what and where."""

    status: ClassVar[Status]


class NoCoverage(SourceError):
    status = Status.NO_COVERAGE


class BadImage(SourceError):
    status = Status.BAD_IMAGE


class ArchiveError(SourceError):
    status = Status.ARCHIVE_ERROR


class ArchiveRefused(ArchiveError):
    """The archive says no, and would say so again."""


class RenderingFailed(ArchiveError):
    """A service that makes its answers on demand failed twice at the same one: often it has no image there."""


class ArchiveChanged(ArchiveError):
    """The file at the archive is another one than when its first part was read."""


class UnitError(PipelineError):
    """A work unit cannot be completed now."""


class RunError(PipelineError):
    """The run cannot start or go on."""


class JobError(RunError):
    """The job as written cannot run."""


class MissingExtra(JobError):
    """A library of an extra that is not installed; the message names both."""


class InvalidSources(JobError):
    """Rows of the source table are wrong; the message gives their row numbers."""


class CheckpointError(JobError):
    """A checkpoint cannot be read or does not fit the job."""


class OutputLocked(JobError):
    """Another run writes to this output; the message names it."""


class CatalogueError(RunError):
    """The catalogue on disk contradicts itself or the request."""


class ArchiveUnreachable(RunError):
    """Nothing can be read from the archive."""


class TooManyFailures(RunError):
    """More sources failed than the job allows."""


class DiskFull(RunError):
    """The output has no room for what the run would write."""
