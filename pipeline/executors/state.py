"""How far a run is and whether its files are sound, from its output alone: on any machine, while it goes on."""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from heapq import nlargest

from pipeline.catalogue.commits import Manifest, each_latest
from pipeline.catalogue.verify import VerifyReport, verify
from pipeline.errors import CatalogueError
from pipeline.executors import lock
from pipeline.executors.before import Before
from pipeline.executors.claim import RUN, read_claim
from pipeline.executors.journal import EVERY, Live, logged_runs, read_live
from pipeline.executors.summary import RunSummary, read_summary
from pipeline.metrics import COMMIT_AGE, IMAGES_PER_SECOND
from pipeline.planner.plan import open_plan
from pipeline.storage import Storage

FRESH = 6 * EVERY  # s: readings that are older are history
RECENT = 900.0  # s over which commits are counted for the time left
SLOWEST = 5  # tiles
COMMONEST = 5  # causes


@dataclass(frozen=True)
class SlowTile:
    """One of the tiles that took longest, and why."""

    tile: str
    unit: str
    seconds: float
    why: str


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
    run_id: str | None = None  # the newest that left a log
    images_per_second: float | None = None  # through the networks, while a run goes on
    sources_per_second: float | None = None  # committed, of late
    seconds_left: float | None = None
    last_commit_age: float | None = None  # s
    causes: dict[str, int] = field(default_factory=dict)  # why sources have no answer
    slow: tuple[SlowTile, ...] = ()  # of all committed units
    live: Live | None = None  # the newest run's own readings

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def run_state(storage: Storage) -> RunState:
    """The state of the run that writes to `storage`. Raises CatalogueError where there is no plan."""
    plan = open_plan(storage)
    if plan is None:
        raise CatalogueError(f"{storage.shown} holds no plan: no run has started here")
    seen = _Seen()
    committed = Before.of(seen.passing(each_latest(storage)))
    runs, writer = logged_runs(storage), _writer(storage)
    live = read_live(storage, runs[-1]) if runs else None
    now = live is not None and time.time() - live.written_at < FRESH and writer is not None
    rate = seen.rate(_began(runs[-1]) if runs else 0.0)
    left = plan.summary.sources - committed.rows
    speed = live.value(IMAGES_PER_SECOND.name) if live is not None and now else None
    return RunState(
        sources=plan.summary.sources,
        committed=committed.rows,
        units=plan.summary.units,
        units_committed=len(committed.units),
        statuses=dict(sorted(committed.statuses.items())),
        invalid=sum(plan.summary.invalid.values()),
        writer=writer,
        published=storage.pointed("latest"),
        last_run=read_summary(storage),
        run_id=runs[-1] if runs else None,
        images_per_second=speed,
        sources_per_second=rate if now else None,
        seconds_left=_seconds_left(left, rate or speed) if now else None,
        last_commit_age=live.value(COMMIT_AGE.name) if live is not None and now else None,
        causes=dict(seen.causes.most_common(COMMONEST)),
        slow=tuple(seen.slow),
        live=live,
    )


def check(storage: Storage) -> VerifyReport:
    """Every committed file against its manifest, the plan and the snapshot. Raises CatalogueError."""
    plan = open_plan(storage)
    if plan is None:
        raise CatalogueError(f"{storage.shown} holds no plan: no run has started here")
    return verify(storage, (unit.unit_id for unit in plan.units()))


def describe_run(storage: Storage) -> dict[str, object]:
    """`run.json` of an output. Raises CatalogueError where there is none, or none that this version reads."""
    if not storage.exists(RUN):
        raise CatalogueError(f"{storage.shown} is no output of a run: it has no run.json")
    facts: dict[str, object] = read_claim(storage).model_dump(mode="json")
    return facts


class _Seen:
    """What passes by of the manifests, kept small."""

    def __init__(self) -> None:
        self.slow: list[SlowTile] = []
        self.causes: Counter[str] = Counter()
        self._recent: list[tuple[float, int]] = []  # committed at (Unix s), rows

    def passing(self, manifests: Iterable[Manifest]) -> Iterator[Manifest]:
        since = time.time() - RECENT
        for manifest in manifests:
            self.causes.update(manifest.causes)
            tiles = (SlowTile(tile.tile, manifest.unit_id, round(tile.seconds, 3), tile.why) for tile in manifest.slow)
            self.slow = nlargest(SLOWEST, [*self.slow, *tiles], key=lambda tile: tile.seconds)
            if manifest.committed_at is not None and manifest.committed_at > since:
                self._recent.append((manifest.committed_at, manifest.rows))
            yield manifest

    def rate(self, began: float) -> float | None:
        """Sources committed a second of late, by the run that began then; None where there are none."""
        now = time.time()
        since = max(began, now - RECENT)
        rows = sum(rows for when, rows in self._recent if when >= since)
        return rows / max(1.0, now - since) if rows else None


def _seconds_left(left: int, rate: float | None) -> float | None:
    return left / rate if rate else None


def _began(run_id: str) -> float:
    """Unix s when a run began, as its id says."""
    return float(calendar.timegm(time.strptime(run_id.split("-")[0], "%Y%m%dT%H%M%SZ")))


def _writer(storage: Storage) -> str | None:
    _, holder, last_sign = lock.newest(storage)
    if holder is None or not holder.alive(last_sign):
        return None
    silent = time.time() - last_sign
    return f"run {holder.run_id}, process {holder.pid} on {holder.host_name}, last sign {silent:.0f} s ago"
