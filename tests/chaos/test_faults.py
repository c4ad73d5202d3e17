"""Processes die, calls fail or hang: every source comes out once, as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.data import WorkUnit
from pipeline.errors import CheckpointError, RunError
from pipeline.executors.ray.engine import Settings, run_engine
from tests.chaos.fake_work import FakeReport, FakeWatch, FakeWork, fake_settings, fake_units, undisturbed, wait_until

pytestmark = pytest.mark.usefixtures("local_ray")

UNITS = fake_units(8)
CHUNKS = [(unit.unit_id, chunk) for unit in UNITS for chunk in range(len(unit.chunks))]


def run_all(work: FakeWork, watch: FakeWatch, units: Sequence[WorkUnit] = UNITS) -> list[FakeReport]:
    return list(run_engine(work, units, fake_settings(), watch))


def expect_undisturbed(work: FakeWork, reports: Sequence[FakeReport]) -> None:
    """Every unit was reported once and the catalogue is that of a run that nothing happened to."""
    assert Counter(report.unit_id for report in reports) == {unit.unit_id: 1 for unit in UNITS}
    assert work.catalogue() == undisturbed(UNITS, Path(work.folder).parent / "undisturbed")


def test_an_undisturbed_run_reports_every_unit_and_every_row_once(work: FakeWork) -> None:
    watch = FakeWatch()
    expect_undisturbed(work, run_all(work, watch))
    assert watch.rows == sum(unit.rows for unit in UNITS)
    assert work.count("predicted") == len(CHUNKS)


def test_a_killed_actor_process_changes_nothing(work: FakeWork, dice: random.Random) -> None:
    kill_at = dice.randrange(16, 200)  # rows

    def kill_once(rows: int) -> None:
        if rows >= kill_at:
            os.kill(work.last("predict").process, signal.SIGKILL)
            watch.log("killed")
            watch.on_classified = lambda rows: None

    watch = FakeWatch(on_classified=kill_once)
    expect_undisturbed(work, run_all(work, watch))
    assert "killed" in watch.lines
    assert work.count("networks") == 3  # by the two actors, and by the one that Ray restarted


@pytest.mark.parametrize(
    ("fault", "verb"),
    [
        ("sigkill", "load"),
        ("os_exit", "predict"),
        ("sys_exit", "predict"),
        ("cuda", "predict"),
        ("unit_error", "load"),
        ("os_error", "predict"),
        ("sigkill", "commit"),
        ("os_error", "commit"),
    ],
)
def test_a_fault_anywhere_changes_nothing(work: FakeWork, dice: random.Random, fault: str, verb: str) -> None:
    unit, chunk = dice.choice(CHUNKS)
    work.plant(fault, verb, unit, 0 if verb == "commit" else chunk)
    reports = run_all(work, FakeWatch())
    assert not list((Path(work.folder) / "faults").iterdir())
    expect_undisturbed(work, reports)


def hasty(kill_after: float = 10.0) -> Settings:
    """A deadline that a unit on a busy machine may miss now and then, and attempts enough to allow for it."""
    return fake_settings(unit_deadline=2.0, unit_attempts=20, kill_after=kill_after)


def test_a_hanging_load_is_tried_again_after_the_deadline_of_its_unit(work: FakeWork) -> None:
    work.plant("hang", "load", "u001", 1)
    expect_undisturbed(work, list(run_engine(work, UNITS, hasty(), FakeWatch())))


def test_a_load_that_hangs_where_nothing_reaches_it_is_killed(work: FakeWork) -> None:
    work.plant("deaf", "load", "u001", 1)
    expect_undisturbed(work, list(run_engine(work, UNITS, hasty(kill_after=0.0), FakeWatch())))
    hung = next(call.process for call in work.journal() if (call.verb, call.unit_id, call.chunk) == ("load", "u001", 1))
    wait_until(lambda: not Path(f"/proc/{hung}").exists(), seconds=20.0)


def test_a_commit_that_answers_after_its_deadline_is_not_reported_twice(work: FakeWork) -> None:
    work.plant("overtaken", "commit", "u001")
    expect_undisturbed(work, list(run_engine(work, UNITS, hasty(kill_after=60.0), FakeWatch())))
    assert work.count("committed", "u001") == 2


def test_a_unit_that_always_fails_is_quarantined_and_the_others_are_not(work: FakeWork) -> None:
    work.plant("unit_error!", "load", "u002", 1)
    reports = run_all(work, FakeWatch())
    assert {report.unit_id for report in reports if report.quarantined} == {"u002"}
    assert sorted(report.unit_id for report in reports) == [unit.unit_id for unit in UNITS]
    assert sum(call.verb == "load" and (call.unit_id, call.chunk) == ("u002", 1) for call in work.journal()) == 3


def test_a_chunk_that_kills_every_actor_costs_its_own_unit_only(work: FakeWork) -> None:
    work.plant("sys_exit!", "predict", "u003", 0)
    reports = run_all(work, FakeWatch())
    assert {report.unit_id for report in reports if report.quarantined} == {"u003"}


def test_a_bug_in_a_stage_stops_the_run_with_its_own_exception(work: FakeWork) -> None:
    work.plant("bug!", "predict", "u002", 2)
    with pytest.raises(KeyError, match="planted"):
        run_all(work, FakeWatch())


def test_a_wrong_checkpoint_stops_the_run_before_anything_is_predicted(work: FakeWork) -> None:
    work.plant("checkpoint!", "networks")
    with pytest.raises(CheckpointError, match="planted"):
        run_all(work, FakeWatch())
    assert work.count("predict") == 0


def test_a_run_whose_actors_never_start_gives_up(work: FakeWork) -> None:
    work.plant("cuda!", "networks")
    with pytest.raises(RunError, match="illegal memory access"):
        run_all(work, FakeWatch())


def test_an_actor_that_does_not_start_once_is_replaced(work: FakeWork) -> None:
    work.plant("sys_exit", "networks")
    expect_undisturbed(work, run_all(work, FakeWatch()))
