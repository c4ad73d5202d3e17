"""The driver of a soak: `python -m tests.soak.driver FOLDER` makes one catalogue after the other.

Once there is `FOLDER/stop` it ends with the one that is open. What an earlier driver has begun is completed first;
`FOLDER/done/ROUND` says that one is whole.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pipeline.data import TRANSIENT
from pipeline.errors import CatalogueError, PipelineError
from pipeline.executors.runner import run
from pipeline.executors.session import Reporter
from pipeline.executors.summary import RunSummary
from pipeline.executors.watch import StopRequest
from pipeline.job import Job

PAUSE = 1.0  # s after a run that an error ended


def main(folder: Path) -> int:
    job = Job.model_validate(json.loads((folder / "job.json").read_text()))
    stop = StopRequest()
    with stop.listening():
        while not stop():
            if _next(job, folder, stop) and (folder / "stop").exists():
                return 0
    return 75


def _next(job: Job, folder: Path, stop: StopRequest) -> bool:
    """Go on with the first catalogue that is not whole; whether it is now."""
    number = len(list((folder / "done").iterdir()))
    whole = _whole(job, folder / "disk" / f"round-{number:04d}", stop, folder / "driver.log")
    if whole:
        (folder / "done" / f"{number:04d}").touch()
    return whole


def _whole(job: Job, output: Path, stop: StopRequest, journal: Path) -> bool:
    """Run, and try again what failed transiently, once. Whether all is as good as it can be."""

    def log(line: str) -> None:
        with journal.open("a") as file:
            file.write(f"{output.name} {' '.join(line.split())[:300]}\n")

    try:
        summary = run(job, str(output), stop=stop, reporter=Reporter(on_log=log))
        if summary.exit_code in (0, 3) and _transient(summary):
            summary = run(job, str(output), stop=stop, reporter=Reporter(on_log=log), task="retry")
    except (PipelineError, OSError) as error:
        log(f"{type(error).__name__}: {error}")
        if isinstance(error, CatalogueError):
            raise
        time.sleep(PAUSE)
        return False
    log(f"exit code {summary.exit_code}, {summary.statuses}, {summary.seconds:.0f} s")
    return summary.exit_code in (0, 3) and not _transient(summary)


def _transient(summary: RunSummary) -> int:
    return sum(summary.statuses.get(status.value, 0) for status in TRANSIENT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
