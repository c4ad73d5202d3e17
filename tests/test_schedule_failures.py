"""The scheduler by example: attempts, quarantine, deadlines and stops."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.data import WorkUnit
from pipeline.executors import events as ev
from pipeline.executors.schedule import Counts, Limits, Scheduler
from tests.scheduled_run import Run, only, where


def test_a_failed_load_drops_and_cancels_all_of_its_unit_and_tries_again_behind_the_others() -> None:
    run = Run((1, 1, 1), (1,), loads=3)
    run.tell(ev.LoadDone(1, 1))
    (predict,) = run.all(ev.StartPredict)
    actions = run.tell(ev.PredictDone(predict.task), ev.LoadFailed(2, "no answer"))
    assert only(ev.Drop, actions) == [ev.Drop(1), ev.Drop(predict.task)]
    assert only(ev.Cancel, actions) == [ev.Cancel(3)]
    assert where(run.all(ev.StartLoad))[3:] == [("u1", 0), ("u0", 0), ("u0", 1)]
    assert [load.attempt for load in run.all(ev.StartLoad)] == [1, 1, 1, 1, 2, 2]
    run.finish()
    assert run.scheduler.counts == Counts(committed=2, failed_attempts=1)


def test_a_failed_prediction_and_a_failed_commit_fail_the_attempt_too() -> None:
    run = Run((1,))
    run.load_all()
    run.tell(ev.PredictFailed(run.all(ev.StartPredict)[0].task, "not a number"))
    run.load_all()
    run.predict_all()
    run.tell(ev.CommitFailed(run.all(ev.StartCommit)[0].task, "no room"))
    assert [load.attempt for load in run.all(ev.StartLoad)] == [1, 2, 3]
    run.finish()
    assert run.scheduler.counts == Counts(committed=1, failed_attempts=2)


def test_results_of_an_older_attempt_are_dropped_and_change_nothing() -> None:
    run = Run((1, 1))
    run.tell(ev.LoadFailed(2, "no answer"))
    assert run.tell(ev.LoadDone(1, 1)) == [ev.Drop(1)]
    assert run.tell(ev.LoadFailed(1, "late")) == []
    assert not run.all(ev.StartPredict)


def test_after_the_last_attempt_the_unit_is_committed_as_quarantined() -> None:
    run = Run((1,), max_attempts=2)
    for load in (0, 1):
        run.tell(ev.LoadFailed(run.all(ev.StartLoad)[load].task, f"no answer {load}"))
    (commit,) = run.all(ev.StartCommit)
    assert commit.quarantined and commit.parts == ()
    assert commit.reason == "2 attempts failed; the last: no answer 1"
    assert run.tell(ev.CommitDone(commit.task)) == [ev.Finished()]
    assert run.scheduler.counts == Counts(quarantined=1, failed_attempts=2)


def test_a_quarantine_that_cannot_be_committed_ends_the_run() -> None:
    run = Run((1,), (1,), max_attempts=2)
    for load in (1, 3):
        run.tell(ev.LoadFailed(load, "no answer"))
    run.tell(ev.CommitFailed(run.all(ev.StartCommit)[0].task, "no room"))
    assert run.all(ev.StartCommit)[1].quarantined
    actions = run.tell(ev.CommitFailed(run.all(ev.StartCommit)[1].task, "no room"))
    assert actions == [ev.Cancel(2), ev.GiveUp("unit u0 cannot even be quarantined: no room")]


def test_lost_images_are_loaded_again_within_the_attempt() -> None:
    run = Run((1,))
    run.tell(ev.LoadDone(1, 1))
    actions = run.tell(ev.PredictFailed(run.all(ev.StartPredict)[0].task, "node gone", input_lost=True))
    assert actions[0] == ev.Drop(1)
    assert [(load.chunk, load.attempt) for load in only(ev.StartLoad, actions)] == [(0, 1)]
    run.finish()
    assert run.scheduler.counts == Counts(committed=1, reloads=1)


def test_images_that_are_lost_too_often_fail_the_attempt() -> None:
    run = Run((1,), max_reloads=1)
    for n in range(2):
        run.load_all()
        run.tell(ev.PredictFailed(run.all(ev.StartPredict)[n].task, "node gone", input_lost=True))
    assert [load.attempt for load in run.all(ev.StartLoad)] == [1, 1, 2]


def test_a_deadline_runs_from_the_first_load_of_an_attempt() -> None:
    run = Run((1, 1), (1,), loads=2)
    assert run.all(ev.StartDeadline) == [ev.StartDeadline("u0", 1)]
    run.tell(ev.LoadDone(1, 1))
    assert run.all(ev.StartDeadline) == [ev.StartDeadline("u0", 1), ev.StartDeadline("u1", 1)]


def test_a_passed_deadline_ends_the_attempt_and_an_old_one_does_nothing() -> None:
    run = Run((1,))
    actions = run.tell(ev.DeadlinePassed("u0", 1))
    assert actions[:2] == [ev.Cancel(1), ev.StartDeadline("u0", 2)]
    assert run.tell(ev.DeadlinePassed("u0", 1), ev.DeadlinePassed("u9", 1)) == []
    run.finish()
    assert run.tell(ev.DeadlinePassed("u0", 2)) == []
    assert run.scheduler.counts == Counts(committed=1, failed_attempts=1)


def test_a_deadline_that_passes_while_no_actor_is_up_is_set_anew() -> None:
    run = Run((1,), up=False)
    run.load_all()
    assert run.tell(ev.DeadlinePassed("u0", 1)) == [ev.StartDeadline("u0", 1)]
    run.tell(ev.ActorUp(0, 0))
    assert ev.StartDeadline("u0", 2) in run.tell(ev.DeadlinePassed("u0", 1))


def test_a_commit_that_hangs_is_tried_again_though_no_actor_is_up() -> None:
    run = Run((1,))
    run.load_all()
    run.predict_all()
    run.tell(ev.ActorLost(0, 0, "killed"), ev.DeadlinePassed("u0", 1))
    assert run.scheduler.counts.failed_attempts == 1


def test_an_actor_that_lets_deadlines_pass_and_predicts_nothing_is_replaced() -> None:
    run = Run((1,), (1,), (1,), max_actor_timeouts=2, in_flight_per_actor=3)
    run.load_all()
    assert not only(ev.StopActor, run.tell(ev.DeadlinePassed("u0", 1)))
    actions = run.tell(ev.DeadlinePassed("u1", 1))
    assert only(ev.StopActor, actions) == [ev.StopActor(0, 0)]
    assert only(ev.StartActor, actions) == [ev.StartActor(0, 1)]
    run.tell(ev.ActorLost(0, 0, "killed"), ev.ActorUp(0, 1))
    assert run.scheduler.counts.actor_deaths == 0
    assert where(run.all(ev.StartPredict))[3:] == [("u2", 0)]  # its images are still there


def test_a_prediction_clears_the_deadlines_that_an_actor_let_pass() -> None:
    run = Run((1,), (1,), (1,), max_actor_timeouts=2, in_flight_per_actor=3)
    run.load_all()
    run.tell(ev.DeadlinePassed("u0", 1), ev.PredictDone(run.all(ev.StartPredict)[2].task))
    run.tell(ev.DeadlinePassed("u1", 1))
    assert not run.all(ev.StopActor)


def test_a_stop_completes_what_has_begun_and_opens_nothing_more() -> None:
    run = Run((1,), (1,), (1,), loads=1, open_units=2)
    run.tell(ev.Stop())
    run.finish()
    assert where(run.all(ev.StartLoad)) == [("u0", 0)]
    assert run.scheduler.counts == Counts(committed=1)
    assert len(run.all(ev.NeedUnits)) == 1


def test_units_that_come_after_a_stop_are_not_opened() -> None:
    scheduler = Scheduler(Limits(actors=1, loads=1, bytes_cap=1, bytes_row=1))
    assert scheduler.start()[-1] == ev.NeedUnits(64)
    assert scheduler.handle(ev.Stop()) == [ev.Finished()]
    assert scheduler.handle(ev.UnitsPlanned((WorkUnit("u0", "part", 0, 1, (1,)),))) == []


def test_a_stop_at_once_waits_for_commits_alone() -> None:
    run = Run((1,), (1, 1))
    run.tell(ev.LoadDone(1, 1))
    run.predict_all()
    run.tell(ev.LoadDone(2, 1))
    predict = run.all(ev.StartPredict)[1].task
    assert set(run.tell(ev.Stop(now=True))) == {ev.Drop(2), ev.Cancel(3), ev.Cancel(predict)}
    (commit,) = run.all(ev.StartCommit)
    assert run.tell(ev.CommitDone(commit.task))[-1] == ev.Finished()


def test_a_commit_that_fails_after_a_stop_at_once_is_not_tried_again() -> None:
    run = Run((1,))
    run.load_all()
    run.predict_all()
    run.tell(ev.Stop(now=True))
    actions = run.tell(ev.CommitFailed(run.all(ev.StartCommit)[0].task, "no room"))
    assert actions[-1] == ev.Finished() and not only(ev.StartCommit, actions)


def test_after_the_end_late_results_are_dropped_and_nothing_starts() -> None:
    run = Run((1,))
    run.finish()
    assert run.tell(ev.LoadDone(1, 1), ev.PredictDone(2)) == [ev.Drop(1), ev.Drop(2)]
    assert run.tell(ev.ActorLost(0, 0, "killed"), ev.Stop(), ev.CommitDone(3)) == []


def test_units_that_nobody_asked_for_are_refused() -> None:
    unit = WorkUnit("u0", "part", 0, 1, (1,))
    scheduler = Scheduler(Limits(actors=1, loads=1, bytes_cap=1, bytes_row=1, open_units=2))
    scheduler.start()
    with pytest.raises(ValueError, match="at most 2 units, got 3"):
        scheduler.handle(ev.UnitsPlanned((unit, unit, unit)))
    with pytest.raises(ValueError, match="a new unit, got u0 again"):
        scheduler.handle(ev.UnitsPlanned((unit, unit)))


def test_a_limit_below_one_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="at least 1 for loads, open_units"):
        Limits(actors=1, loads=0, bytes_cap=1, bytes_row=1, open_units=0)


def test_the_state_does_not_grow_with_the_run() -> None:
    def largest(units: int) -> int:
        run = Run(*[(2, 1)] * units, open_units=4, actors=2)
        sizes = []
        while not run.all(ev.Finished):
            for answer in (run.load_all, run.predict_all, run.commit_all):
                answer()
                sizes.append(contents(run.scheduler))
        return max(sizes)

    assert largest(60) == largest(12)


def contents(thing: Any) -> int:
    """How many things are reachable from the attributes and containers of the scheduler's own objects."""
    if isinstance(thing, dict):
        return sum(1 + contents(value) for value in thing.values())
    if isinstance(thing, list | tuple | set):
        return sum(1 + contents(value) for value in thing)
    if type(thing).__module__.startswith("pipeline.executors") and not isinstance(thing, WorkUnit | Limits):
        names = thing.__slots__ if hasattr(thing, "__slots__") else vars(thing)
        return sum(contents(getattr(thing, name)) for name in names if name != "of")
    return 0
