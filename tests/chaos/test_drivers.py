"""Several drivers over one plan: their processes die or fall silent, and every source comes out once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from pipeline import metrics
from pipeline.archives.limiter import Lease, Outcome, Wait
from pipeline.archives.policy import ArchivesSection, HostPolicy
from pipeline.data import WorkUnit
from pipeline.errors import CheckpointError, RunError
from pipeline.executors.ray.cluster import LocalRay, ray_session
from pipeline.executors.ray.drivers import Patience, run_drivers
from pipeline.executors.ray.engine import Settings
from pipeline.executors.ray.limits import ClusterGate, cluster_gate
from tests.chaos.fake_work import (
    CHUNK_ROWS,
    FakeChunk,
    FakeReport,
    FakeWatch,
    FakeWork,
    fake_settings,
    fake_units,
    undisturbed,
    wait_until,
)

UNITS = fake_units(16)
CHUNKS = sum(len(unit.chunks) for unit in UNITS)
QUICK = Patience(exchange=0.1)


@pytest.fixture(scope="module", autouse=True)
def ray_of_eight() -> Iterator[None]:
    with ray_session(None, LocalRay(cpus=8, store_bytes=100_000_000)):
        yield


def two_drivers() -> Settings:
    one = fake_settings(actors=2, loads=2, chunks_held=8)
    return replace(one, shares=replace(one.shares, drivers=2))


def run_two(work: FakeWork, watch: FakeWatch, patience: Patience = QUICK) -> list[FakeReport]:
    return list(run_drivers(work, UNITS, two_drivers(), watch, patience=patience))


def expect_undisturbed(work: FakeWork, reports: Sequence[FakeReport]) -> None:
    assert Counter(report.unit_id for report in reports) == {unit.unit_id: 1 for unit in UNITS}
    assert work.catalogue() == undisturbed(UNITS, Path(work.folder).parent / "undisturbed")


def living(role: str) -> list[int]:
    """The processes of this Ray that have the role."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith(f"ray::{role}"):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def once(strike: Callable[[], object], after: int) -> FakeWatch:
    """A watch that strikes when so many rows are predicted."""

    def classified(rows: int) -> None:
        if rows >= after:
            watch.on_classified = lambda rows: None
            strike()

    watch = FakeWatch(on_classified=classified)
    return watch


def test_a_killed_driver_loses_nothing_and_doubles_nothing(work: FakeWork, dice: random.Random) -> None:
    slow = replace(work, load_seconds=0.1)
    watch = once(lambda: os.kill(dice.choice(living("Driver")), signal.SIGKILL), CHUNK_ROWS * dice.randrange(1, 20))
    expect_undisturbed(work, run_two(slow, watch))
    assert sum("is lost" in line for line in watch.lines) == 1
    assert watch.telemetry.readings.value(metrics.ACTOR_RESTARTS) == 1


def test_a_driver_that_falls_silent_is_taken_for_dead(work: FakeWork) -> None:
    slow = replace(work, load_seconds=0.1)
    watch = once(lambda: os.kill(living("Driver")[0], signal.SIGSTOP), 2 * CHUNK_ROWS)
    expect_undisturbed(work, run_two(slow, watch, replace(QUICK, silence=3.0)))
    assert any("silent for 3 s" in line for line in watch.lines)


def test_a_run_whose_driver_always_dies_gives_up(work: FakeWork) -> None:
    def kill() -> bool:
        for process in living("Driver"):
            os.kill(process, signal.SIGKILL)
        return False

    with pytest.raises(RunError, match="died 3 times without a commit"):
        list(run_drivers(replace(work, load_seconds=60.0), UNITS, two_drivers(), FakeWatch(stop=kill), patience=QUICK))


def test_a_stop_finishes_what_is_open_in_both_drivers_and_another_run_does_the_rest(work: FakeWork) -> None:
    slow, watch = replace(work, load_seconds=0.1), FakeWatch()
    watch.stop = lambda: watch.rows >= 6 * CHUNK_ROWS
    reports = list(run_drivers(slow, UNITS, two_drivers(), watch, patience=QUICK))
    done = {report.unit_id for report in reports}
    assert 0 < len(done) < len(UNITS)
    assert {f"units/{unit_id}.json" for unit_id in done} == set(work.catalogue())
    left = [unit for unit in UNITS if unit.unit_id not in done]
    reports += run_drivers(work, left, two_drivers(), FakeWatch(), patience=QUICK)
    expect_undisturbed(work, reports)


def test_an_error_that_stops_the_run_ends_both_drivers_and_keeps_its_class(work: FakeWork) -> None:
    work.plant("checkpoint!", "load", "u000", 0)
    with pytest.raises(CheckpointError, match="planted"):
        run_two(replace(work, load_seconds=0.2), FakeWatch())
    wait_until(lambda: not living("Driver") and not living("PredictActor"), 20.0)


@dataclass(frozen=True)
class Asking(FakeWork):
    """Every load asks the archive once, as soon as it may."""

    gate: ClusterGate | None = None

    def load(self, unit: WorkUnit, chunk: int) -> FakeChunk:
        if self.gate is None:
            raise ValueError("expected a gate")
        answer: Lease | Wait = Wait(0.0)
        while isinstance(answer, Wait):
            answer = self.gate.ask("archive", f"{unit.unit_id}-{chunk}")
        self.note("asked", unit.unit_id, chunk)
        self.gate.done("archive", answer, Outcome.GOOD)
        return super().load(unit, chunk)


def test_two_drivers_do_everything_once_and_together_ask_an_archive_no_faster_than_its_limit(tmp_path: Path) -> None:
    policy = HostPolicy(rate=20.0, burst=2, in_flight=4)
    gate = cluster_gate(ArchivesSection(default=policy), drivers=2)
    work = Asking(str(tmp_path / "run"), gate=gate)
    watch = FakeWatch()
    expect_undisturbed(work, run_two(work, watch))
    assert (watch.rows, work.count("predicted")) == (sum(unit.rows for unit in UNITS), CHUNKS)
    assert {line[:9] for line in watch.lines} == {"driver 0:", "driver 1:"}
    times = sorted(call.seconds for call in work.journal() if call.verb == "asked")
    assert len(times) == CHUNKS
    assert times[-1] - times[0] >= (CHUNKS - policy.burst - 1) / policy.rate
