"""The scheduler by example: units, bytes and actors. `test_schedule_failures.py` has what goes wrong."""

from __future__ import annotations

from pipeline.executors import events as ev
from pipeline.executors.schedule import Counts
from tests.scheduled_run import Run, only, where


def test_an_empty_plan_finishes_at_once() -> None:
    assert Run().actions == [ev.StartActor(0, 0), ev.NeedUnits(64), ev.Finished()]


def test_units_are_asked_for_as_others_are_committed() -> None:
    run = Run((1,), (1,), (1,), open_units=2)
    assert [need.count for need in run.all(ev.NeedUnits)] == [2]
    run.load_all()
    run.predict_all()
    run.tell(ev.CommitDone(run.all(ev.StartCommit)[0].task))
    assert [need.count for need in run.all(ev.NeedUnits)] == [2, 1]
    run.finish()
    assert run.scheduler.counts == Counts(committed=3)
    assert len(run.all(ev.StartLoad)) == len(run.all(ev.StartCommit)) == 3


def test_the_oldest_unit_is_loaded_and_predicted_first() -> None:
    run = Run((1, 1), (1, 1), loads=1, up=False)
    for load in range(4):
        task = run.all(ev.StartLoad)[load]
        run.tell(ev.LoadDone(task.task, 1))
    oldest_first = [("u0", 0), ("u0", 1), ("u1", 0), ("u1", 1)]
    assert where(run.all(ev.StartLoad)) == oldest_first
    run.tell(ev.ActorUp(0, 0))
    run.predict_all()
    assert where(run.all(ev.StartPredict)) == oldest_first


def test_no_more_loads_run_than_there_are_slots() -> None:
    run = Run((1, 1, 1), loads=2)
    assert len(run.all(ev.StartLoad)) == 2
    assert len(only(ev.StartLoad, run.tell(ev.LoadDone(1, 1)))) == 1


def test_images_are_dropped_when_predicted_and_predictions_when_committed() -> None:
    run = Run((1, 1))
    run.tell(ev.LoadDone(2, 1), ev.LoadDone(1, 1))
    (late, early) = run.all(ev.StartPredict)
    assert run.tell(ev.PredictDone(late.task)) == [ev.Drop(late.load)]
    assert run.tell(ev.PredictDone(early.task))[0] == ev.Drop(early.load)
    (commit,) = run.all(ev.StartCommit)
    assert commit.parts == (early.task, late.task)  # in chunk order, not in the order of arrival
    assert not commit.quarantined
    last = run.tell(ev.CommitDone(commit.task))
    assert set(last) == {ev.Drop(early.task), ev.Drop(late.task), ev.Finished()}


def test_loads_wait_until_the_bytes_of_others_are_free() -> None:
    run = Run((40, 40, 40), bytes_cap=100)
    assert where(run.all(ev.StartLoad)) == [("u0", 0), ("u0", 1)]
    run.tell(ev.LoadDone(1, 40))
    assert len(run.all(ev.StartLoad)) == 2
    run.tell(ev.PredictDone(run.all(ev.StartPredict)[0].task))
    assert len(run.all(ev.StartLoad)) == 3


def test_a_load_smaller_than_reserved_makes_room() -> None:
    run = Run((40, 40, 40), bytes_cap=100)
    run.tell(ev.LoadDone(1, 20))
    assert len(run.all(ev.StartLoad)) == 3


def test_a_load_larger_than_reserved_raises_what_later_ones_reserve() -> None:
    run = Run((10, 10, 10, 10), loads=1, bytes_cap=100)
    run.tell(ev.LoadDone(1, 35))
    assert [load.reserved for load in run.all(ev.StartLoad)] == [10, 35]
    run.tell(ev.LoadDone(run.all(ev.StartLoad)[1].task, 5))
    assert [load.reserved for load in run.all(ev.StartLoad)] == [10, 35, 35]


def test_a_chunk_larger_than_the_cap_goes_through_alone() -> None:
    run = Run((5,), (500,), (5,), bytes_cap=100)
    assert where(run.all(ev.StartLoad)) == [("u0", 0)]
    run.tell(ev.LoadDone(1, 5))
    assert len(run.all(ev.StartLoad)) == 1  # the large one is next and must wait
    run.tell(ev.PredictDone(run.all(ev.StartPredict)[0].task))
    assert where(run.all(ev.StartLoad)) == [("u0", 0), ("u1", 0)]
    run.finish()
    assert run.scheduler.counts.committed == 3


def test_a_chunk_goes_to_the_actor_with_the_fewest_tasks() -> None:
    run = Run((1,) * 6, actors=2)
    run.load_all()
    assert [predict.slot for predict in run.all(ev.StartPredict)] == [0, 1, 0, 1]
    (more,) = only(ev.StartPredict, run.tell(ev.PredictDone(run.all(ev.StartPredict)[1].task)))
    assert more.slot == 1


def test_what_a_lost_actor_had_is_predicted_again_without_loading() -> None:
    run = Run((1, 1, 1), actors=2, in_flight_per_actor=2)
    run.load_all()
    lost = [predict for predict in run.all(ev.StartPredict) if predict.slot == 0]
    actions = run.tell(ev.ActorLost(0, 0, "killed"))
    assert ev.StartActor(0, 1) in actions
    assert {cancel.task for cancel in only(ev.Cancel, actions)} == {predict.task for predict in lost}
    run.tell(ev.ActorUp(0, 1))
    run.predict_all()
    run.commit_all()
    assert len(run.all(ev.StartLoad)) == 3
    assert run.scheduler.counts == Counts(committed=1, actor_deaths=1)


def test_an_actor_that_dies_twice_is_replaced_once() -> None:
    run = Run((1,))
    run.tell(ev.ActorLost(0, 0, "killed"), ev.ActorLost(0, 0, "killed"), ev.ActorUp(0, 0))
    assert run.all(ev.StartActor) == [ev.StartActor(0, 0), ev.StartActor(0, 1)]
    run.load_all()
    assert run.all(ev.StartPredict) == []  # generation 1 is not up yet
    run.tell(ev.ActorUp(0, 1))
    assert [predict.generation for predict in run.all(ev.StartPredict)] == [1]


def test_a_late_prediction_of_a_lost_actor_is_dropped_and_the_retry_counts() -> None:
    run = Run((1,))
    run.load_all()
    run.tell(ev.ActorLost(0, 0, "cut off"), ev.ActorUp(0, 1))
    (first, second) = run.all(ev.StartPredict)
    assert run.tell(ev.PredictDone(first.task)) == [ev.Drop(first.task)]
    run.tell(ev.PredictDone(second.task))
    assert run.all(ev.StartCommit)[0].parts == (second.task,)


def test_a_result_that_comes_twice_counts_once() -> None:
    run = Run((1, 1))
    assert run.tell(ev.LoadDone(1, 1)) != []
    assert run.tell(ev.LoadDone(1, 1)) == []
    predict = run.all(ev.StartPredict)[0].task
    assert run.tell(ev.PredictDone(predict)) == [ev.Drop(1)]
    assert run.tell(ev.PredictDone(predict), ev.PredictFailed(predict, "?"), ev.LoadFailed(1, "?")) == []
    assert run.tell(ev.LoadDone(1, 1)) == [ev.Drop(1)]  # the executor holds it again: it must go again


def test_a_death_is_blamed_on_the_oldest_task_and_the_poison_ends_in_quarantine() -> None:
    run = Run((1,), (1,), max_actor_deaths=3)
    run.load_all()
    for generation in range(3):
        assert not run.all(ev.StartCommit)
        run.tell(ev.ActorLost(0, generation, "killed by u0"), ev.ActorUp(0, generation + 1))
    (commit,) = run.all(ev.StartCommit)
    assert commit.unit.unit_id == "u0" and commit.quarantined
    assert commit.reason == "3 actors died at work on it; the last: killed by u0"
    run.finish()
    assert run.scheduler.counts == Counts(committed=1, quarantined=1, actor_deaths=3)


def test_a_slot_whose_actors_never_come_up_is_closed_and_the_others_go_on() -> None:
    run = Run((1,), actors=2, max_actor_starts=2, up=False)
    run.tell(ev.ActorUp(1, 0), ev.ActorLost(0, 0, "no GPU"), ev.ActorLost(0, 1, "no GPU"))
    assert run.all(ev.StartActor)[2:] == [ev.StartActor(0, 1)]
    run.tell(ev.ActorLost(0, 1, "again"), ev.ActorUp(0, 1))
    run.finish()
    assert {predict.slot for predict in run.all(ev.StartPredict)} == {1}


def test_the_run_gives_up_when_no_slot_can_start_an_actor() -> None:
    run = Run((1,), actors=2, max_actor_starts=2, up=False)
    run.load_all()
    run.tell(ev.ActorLost(0, 0, "no GPU"), ev.ActorLost(0, 1, "no GPU"), ev.ActorLost(1, 0, "no GPU"))
    assert not run.all(ev.GiveUp)
    actions = run.tell(ev.ActorLost(1, 1, "no driver"))
    assert actions == [ev.Drop(1), ev.GiveUp("no actor can start; the last: no driver")]
    assert run.tell(ev.ActorLost(1, 1, "again"), ev.DeadlinePassed("u0", 1)) == []


def test_an_actor_that_comes_up_clears_the_failed_starts_of_its_slot() -> None:
    run = Run((1,), max_actor_starts=2, up=False)
    for generation in (0, 2, 4):
        run.tell(ev.ActorLost(0, generation, "no GPU"), ev.ActorUp(0, generation + 1))
        run.tell(ev.ActorLost(0, generation + 1, "killed"))
    assert len(run.all(ev.StartActor)) == 7 and not run.all(ev.GiveUp)
