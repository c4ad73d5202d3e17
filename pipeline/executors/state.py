"""How far a run is and whether its files are sound, from its output alone."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from pipeline.catalogue.commits import each_latest
from pipeline.catalogue.verify import VerifyReport, verify
from pipeline.errors import CatalogueError
from pipeline.executors import lock
from pipeline.executors.before import Before
from pipeline.executors.summary import RunSummary, read_summary
from pipeline.planner.plan import open_plan
from pipeline.storage import Storage


@dataclass(frozen=True)
class RunState:
    """Where a run is."""

    sources: int
    committed: int  # sources
    units: int
    units_committed: int
    statuses: dict[str, int]
    invalid: int
    writer: str | None  # who writes now
    published: str | None  # the newest snapshot, below the output
    last_run: RunSummary | None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def lines(self) -> dict[str, object]:
        """For a reader."""
        share = self.committed / self.sources if self.sources else 1.0
        shown: dict[str, object] = {
            "sources": f"{self.committed} of {self.sources} committed ({share:.1%})",
            "units": f"{self.units_committed} of {self.units}",
            "by status": ", ".join(f"{count} {status}" for status, count in self.statuses.items()) or "none yet",
            "written by": self.writer or "nobody now",
        }
        if self.invalid:
            shown["invalid"] = f"{self.invalid} source rows, in unplaced.parquet"
        if self.last_run is not None:
            ending = self.last_run.reason or "all committed"
            shown["last run"] = f"{self.last_run.run_id}, exit code {self.last_run.exit_code}: {ending}"
            shown["catalogue"] = self.published or "not published"
        return shown


def run_state(storage: Storage) -> RunState:
    """The state of the run that writes to `storage`. Raises CatalogueError where there is no plan."""
    plan = open_plan(storage)
    if plan is None:
        raise CatalogueError(f"{storage.shown} holds no plan: no run has started here")
    committed = Before.of(each_latest(storage))
    return RunState(
        sources=plan.summary.sources,
        committed=committed.rows,
        units=plan.summary.units,
        units_committed=len(committed.units),
        statuses=dict(sorted(committed.statuses.items())),
        invalid=sum(plan.summary.invalid.values()),
        writer=_writer(storage),
        published=storage.pointed("latest"),
        last_run=read_summary(storage),
    )


def check(storage: Storage) -> VerifyReport:
    """Every committed file against its manifest, the plan and the snapshot. Raises CatalogueError."""
    plan = open_plan(storage)
    if plan is None:
        raise CatalogueError(f"{storage.shown} holds no plan: no run has started here")
    return verify(storage, (unit.unit_id for unit in plan.units()))


def _writer(storage: Storage) -> str | None:
    _, holder, last_sign = lock.newest(storage)
    if holder is None or not holder.alive(last_sign):
        return None
    silent = time.time() - last_sign
    return f"run {holder.run_id}, process {holder.pid} on {holder.host_name}, last sign {silent:.0f} s ago"


def describe_run(storage: Storage) -> dict[str, object]:
    """`run.json` of an output. Raises CatalogueError where there is none."""
    if not storage.exists("run.json"):
        raise CatalogueError(f"{storage.shown} is no output of a run: it has no run.json")
    facts: dict[str, object] = json.loads(storage.read("run.json"))
    return facts
