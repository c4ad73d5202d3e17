"""Carries the scheduler's actions out, and holds what they lead to until the scheduler drops it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef

from pipeline.executors import events as ev
from pipeline.executors.ray.actors import ActorPool
from pipeline.executors.ray.answers import Awaited, Committing, Loading, Predicting, Warming
from pipeline.executors.ray.cluster import Shares
from pipeline.executors.ray.failures import Blame, Failure, failure
from pipeline.executors.ray.tasks import Tasks
from pipeline.executors.ray.work import AnyWork


@dataclass(frozen=True, slots=True)
class Pressure:
    """What is under way."""

    loading: int  # chunks
    ready: int  # chunks that wait for an actor or are predicted
    ready_bytes: int
    predicting: int  # chunks, queued ones included
    starved: int  # actors that are up and have nothing to do
    up: int  # actors
    free_loads: int  # places for loads
    committing: int  # units


class Hands:
    """References only: images and predictions stay in the object store of the node that made them."""

    def __init__(self, work: AnyWork, shares: Shares, kill_after: float) -> None:
        self._kill_after, self._loads = kill_after, shares.loads
        self._avoid: dict[str, tuple[str, ...]] = {}  # unit -> nodes where it exceeded its deadline
        self._tasks = Tasks(work, shares.load_cpus)
        self._pool = ActorPool(work, shares)
        self._awaited: dict[ObjectRef[Any], Awaited] = {}  # by the small answer that comes with the result
        self._answers: dict[int, ObjectRef[Any]] = {}  # task -> answer, while it is awaited
        self._chunks: dict[int, tuple[ObjectRef[Any], int]] = {}  # load task -> images and bytes, until dropped
        self._parts: dict[int, ObjectRef[Any]] = {}  # predict task -> predictions, until dropped
        self._cancelled: dict[int, float] = {}  # task -> when its worker is killed, in s of time.monotonic
        self._up: set[int] = set()  # slots

    # actions

    def start_actor(self, slot: int, generation: int) -> None:
        answer = self._pool.start(slot, generation)
        self._awaited[answer] = Warming(slot, generation)

    def stop_actor(self, slot: int, generation: int) -> None:
        if self._pool.stop(slot, generation):
            self._up.discard(slot)

    def avoid(self, unit_id: str, nodes: tuple[str, ...]) -> None:
        """Load the unit on other nodes from now on, where there are any."""
        self._avoid[unit_id] = nodes

    def start_load(self, action: ev.StartLoad) -> None:
        avoid = self._avoid.get(action.unit.unit_id, ())
        chunk, size = self._tasks.load(action.unit, action.chunk, avoid)
        self._await(action.task, size, Loading(action.task, chunk))

    def start_predict(self, action: ev.StartPredict) -> bool:
        """Queue the chunk at its actor; False where that actor is gone already."""
        chunk, _ = self._chunks[action.load]
        started = self._pool.predict(action.slot, action.generation, chunk)
        if started is not None:
            parts, life = started
            self._await(action.task, life, Predicting(action.task, action.slot, action.generation, parts))
        return started is not None

    def start_commit(self, action: ev.StartCommit) -> None:
        self._avoid.pop(action.unit.unit_id, None)
        if action.quarantined:
            report = self._tasks.quarantine(action.unit, action.reason)
        else:
            report = self._tasks.commit(action.unit, [self._parts[task] for task in action.parts])
        self._await(action.task, report, Committing(action.task, action.unit.unit_id))

    def drop(self, task: int) -> None:
        self._chunks.pop(task, None)
        self._parts.pop(task, None)

    def cancel(self, task: int) -> None:
        """Ask the task to end; its answer is not told any more. A running prediction goes on to its end."""
        answer = self._answers.get(task)
        if answer is not None:
            self._cancelled[task] = time.monotonic() + self._kill_after
            ray.cancel(answer)

    # answers

    def wait(self, seconds: float) -> Iterator[tuple[Awaited, Any]]:
        """What has been answered, waiting at most `seconds` for the first: its value, or a Failure."""
        self._kill_stuck()
        for answer in self._answered(seconds):
            awaited, value = self._awaited.pop(answer), value_of(answer)
            if isinstance(awaited, Warming):
                if not isinstance(value, Failure):
                    self._up.add(awaited.slot)
            else:
                del self._answers[awaited.task]
                late = self._cancelled.pop(awaited.task, None) is not None
                if late and not (isinstance(value, Failure) and value.blame is Blame.ACTOR):
                    continue
                self._hold(awaited, value)
            yield awaited, value

    def pressure(self) -> Pressure:
        """What is under way now."""
        predicting = [awaited.slot for awaited in self._awaited.values() if isinstance(awaited, Predicting)]
        loading = sum(isinstance(awaited, Loading) for awaited in self._awaited.values())
        return Pressure(
            loading=loading,
            ready=len(self._chunks),
            ready_bytes=sum(size for _, size in self._chunks.values()),
            predicting=len(predicting),
            starved=len(self._up - set(predicting)),
            up=len(self._up),
            free_loads=max(0, self._loads - loading),
            committing=sum(isinstance(awaited, Committing) for awaited in self._awaited.values()),
        )

    def close(self) -> None:
        """Let go of everything: on a shared cluster nothing of the run may go on, but for commits."""
        for answer, awaited in self._awaited.items():
            if isinstance(awaited, Loading):
                ray.cancel(answer, force=True)
        self._pool.stop_all()
        self._awaited.clear()
        self._chunks.clear()
        self._parts.clear()

    def _await(self, task: int, answer: ObjectRef[Any], awaited: Awaited) -> None:
        self._awaited[answer] = awaited
        self._answers[task] = answer

    def _answered(self, seconds: float) -> list[ObjectRef[Any]]:
        waiting = list(self._awaited)
        if not waiting:
            time.sleep(seconds)
            return []
        first, rest = ray.wait(waiting, num_returns=1, timeout=seconds, fetch_local=False)
        if not first or not rest:
            return first
        return first + ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]

    def _hold(self, awaited: Awaited, value: Any) -> None:
        if isinstance(value, Failure):
            return
        if isinstance(awaited, Loading):
            self._chunks[awaited.task] = (awaited.chunk, value)
        elif isinstance(awaited, Predicting):
            self._parts[awaited.task] = awaited.parts

    def _kill_stuck(self) -> None:
        now = time.monotonic()
        for task in [task for task, when in self._cancelled.items() if when <= now]:
            self._cancelled[task] = float("inf")
            answer = self._answers[task]
            if not isinstance(self._awaited[answer], Predicting):  # Ray kills no actor for a task
                ray.cancel(answer, force=True)


def value_of(answer: ObjectRef[Any]) -> Any:
    """What a task returned, or the Failure that it became."""
    try:
        return ray.get(answer)
    except Exception as error:  # noqa: BLE001 the executor's edge: what a task raised comes out here
        return failure(error)
