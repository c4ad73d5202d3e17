"""The parts of the Ray executor that need no Ray: shares, deadlines, and what an error stops."""

from __future__ import annotations

from typing import Any

import pytest
from ray import exceptions as rex

from pipeline.errors import ArchiveUnreachable, DiskFull, JobError, UnitError
from pipeline.executors import events as ev
from pipeline.executors.ray.actors import is_device_failure
from pipeline.executors.ray.answers import Loading, Predicting, Warming, event_of, stops_the_run
from pipeline.executors.ray.cluster import COMMIT_CPUS, DRIVER_CPUS, NODE_CPUS, share_out
from pipeline.executors.ray.deadlines import Deadlines
from pipeline.executors.ray.failures import Blame, Failure, failure
from pipeline.executors.sizing import drivers_for
from pipeline.job import EngineSection

STORE = 1_000_000_000


def test_two_cpus_are_enough_for_an_actor_two_loads_and_a_commit_at_once() -> None:
    shares = share_out(EngineSection(), {"CPU": 2.0, "object_store_memory": STORE}, 256)
    assert (shares.actors, shares.loads, shares.actor_gpus) == (1, 2, 0.0)
    assert shares.actor_cpus + 2 * shares.load_cpus + COMMIT_CPUS <= 2.0


@pytest.mark.parametrize("cpus", [1.0, 2.0, 3.0, 4.0, 7.0, 16.0, 96.0])
@pytest.mark.parametrize("gpus", [0.0, 1.0, 8.0])
def test_everything_fits_at_once_on_any_machine(cpus: float, gpus: float) -> None:
    shares = share_out(EngineSection(), {"CPU": cpus, "GPU": gpus, "object_store_memory": STORE}, 256)
    assert shares.actors == max(1, gpus)
    assert shares.actors * shares.actor_gpus == gpus
    assert shares.actors * shares.actor_cpus + shares.loads * shares.load_cpus + COMMIT_CPUS <= cpus
    assert shares.threads >= 1


def test_an_actor_without_a_gpu_never_needs_more_cpus_than_a_node_has() -> None:
    cluster = {"CPU": 8.0, NODE_CPUS: 2.0, "object_store_memory": STORE}
    shares = share_out(EngineSection(), cluster, 256)
    assert (shares.actors, shares.actor_cpus) == (4, 1.0)
    assert shares.actors * shares.actor_cpus + shares.loads * shares.load_cpus + COMMIT_CPUS <= 8.0
    assert share_out(EngineSection(actors=1), cluster, 256).actor_cpus <= 2.0


def test_images_may_fill_the_jobs_fraction_of_the_object_store() -> None:
    shares = share_out(EngineSection(store_fraction=0.2), {"CPU": 2.0, "object_store_memory": STORE}, 256)
    assert shares.bytes_cap == 2e8


@pytest.mark.parametrize(
    "wanted",
    [
        EngineSection(actors=2, cpus_per_actor=2.0),
        EngineSection(loads=100),
        EngineSection(actors=2, gpus_per_actor=1.0),
    ],
)
def test_a_job_that_asks_for_more_than_there_is_is_refused(wanted: EngineSection) -> None:
    with pytest.raises(JobError, match="there are"):
        share_out(wanted, {"CPU": 4.0, "GPU": 1.0, "object_store_memory": STORE}, 256)


def test_a_cluster_without_workers_yet_is_taken_to_grow_to_what_is_asked_of_it() -> None:
    shares = share_out(EngineSection(actors=4, gpus_per_actor=1.0), {"object_store_memory": STORE}, 256)
    assert (shares.actors, shares.actor_gpus, shares.actor_cpus) == (4, 1.0, 1.0)
    assert shares.loads > shares.actors


def test_drivers_have_a_cpu_each_and_share_the_rest_out_to_the_last_actor_load_and_byte() -> None:
    cluster = {"CPU": 64.0, "GPU": 7.0, "object_store_memory": STORE}
    shares = share_out(EngineSection(drivers=3), cluster, 256)
    used = shares.actors * shares.actor_cpus + shares.loads * shares.load_cpus + COMMIT_CPUS + 3 * DRIVER_CPUS
    assert used <= 64.0
    parts = shares.parts()
    assert [part.actors for part in parts] == [2, 2, 3]
    assert sum(part.loads for part in parts) == shares.loads
    assert sum(part.bytes_cap for part in parts) == shares.bytes_cap
    assert {part.drivers for part in parts} == {1}


def test_a_large_cluster_gets_several_drivers_by_itself_and_a_small_one_does_not() -> None:
    def drivers(gpus: int) -> int:
        return share_out(EngineSection(), {"CPU": 17.0 * gpus, "GPU": float(gpus), NODE_CPUS: 17.0}, 256).drivers

    assert (drivers(1), drivers(8)) == (1, 1)
    assert drivers(1000) == drivers_for(16_000, 256) > 1


def test_more_drivers_than_actors_or_loads_are_refused() -> None:
    with pytest.raises(JobError, match=r"engine\.drivers: 3 drivers need as many actors and loads, there are 2"):
        share_out(EngineSection(drivers=3, actors=2), {"CPU": 64.0, "object_store_memory": STORE}, 256)


def test_a_deadline_passes_once_and_a_new_attempt_moves_it() -> None:
    deadlines = Deadlines(10.0)
    deadlines.start("a", 1, now=0.0)
    deadlines.start("b", 1, now=2.0)
    deadlines.start("a", 2, now=5.0)
    assert deadlines.next(now=6.0) == 6.0
    assert deadlines.passed(now=11.9) == []
    assert deadlines.passed(now=15.0) == [ev.DeadlinePassed("a", 2), ev.DeadlinePassed("b", 1)]
    assert deadlines.passed(now=99.0) == []
    assert deadlines.next(now=99.0) is None


def test_the_deadline_of_a_committed_unit_is_forgotten() -> None:
    deadlines = Deadlines(10.0)
    deadlines.start("a", 1, now=0.0)
    deadlines.forget("a")
    assert deadlines.passed(now=99.0) == []


def wrapped(error: Exception) -> Exception:
    """As Ray hands it to the driver: an exception that is a RayTaskError and the task's own error in one."""
    task_error: Any = rex.RayTaskError
    dual: Exception = task_error("load_chunk", "traceback", error).as_instanceof_cause()
    return dual


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (UnitError("x"), Blame.UNIT),
        (ConnectionError("x"), Blame.UNIT),
        (MemoryError("x"), Blame.UNIT),
        (DiskFull("x"), Blame.RUN),
        (ArchiveUnreachable("x"), Blame.RUN),
        (ValueError("x"), Blame.BUG),
    ],
)
def test_an_error_of_a_stage_stops_what_its_class_says(error: Exception, blame: Blame) -> None:
    found = failure(wrapped(error))
    assert found.blame is blame
    assert found.reason == f"{type(error).__name__}: x"


def test_what_stops_the_run_is_raised_as_the_stage_raised_it() -> None:
    error = DiskFull("no room")
    assert failure(wrapped(error)).error is error


def test_images_lost_on_the_way_to_an_actor_are_the_inputs_fault() -> None:
    lost = failure(wrapped(rex.ObjectLostError("ab", None, "stack")))
    assert lost.blame is Blame.INPUT
    event = event_of(Predicting(7, 0, 0, None), lost)  # type: ignore[arg-type]
    assert isinstance(event, ev.PredictFailed)
    assert event.input_lost


def test_only_an_actor_that_is_dead_for_good_counts_as_lost() -> None:
    task = Predicting(7, 1, 3, None)  # type: ignore[arg-type]
    assert isinstance(event_of(task, failure(rex.ActorDiedError())), ev.ActorLost)
    restarting = failure(rex.ActorUnavailableError("restarting", b"0" * 16))
    assert isinstance(event_of(task, restarting), ev.PredictFailed)


def test_a_bug_stops_the_run_but_a_device_that_fails_one_actors_start_does_not() -> None:
    bug = Failure(Blame.BUG, "RuntimeError: no device", RuntimeError("no device"))
    assert stops_the_run(Loading(1, None), bug)  # type: ignore[arg-type]
    assert not stops_the_run(Warming(0, 0), bug)
    assert stops_the_run(Warming(0, 0), failure(wrapped(DiskFull("x"))))


def test_running_out_of_memory_does_not_end_an_actor_but_a_broken_device_does() -> None:
    class OutOfMemoryError(RuntimeError): ...

    class AcceleratorError(RuntimeError): ...

    assert is_device_failure(AcceleratorError("an illegal memory access was encountered"))
    assert is_device_failure(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_device_failure(OutOfMemoryError("CUDA out of memory. CUDA error: ..."))
    assert not is_device_failure(RuntimeError("shapes (3, 4) and (5, 6)"))
