"""What the scheduler hears (events) and answers (actions): all there is between it and an executor.

Rules of the contract, which an executor may rely on and must keep:

* Task numbers are unique and rise. A task is a load, a predict or a commit of one attempt of one unit.
  Attempts count from 1 within a run; they are not `WorkUnit.attempt`, which numbers commits across runs.
* The result of a load (the chunk's images) and of a predict (its predictions) are held by the executor under
  the task's number from the moment it reports `LoadDone` or `PredictDone` until `Drop(task)`. Every result
  that is reported is dropped once, the late ones too: `held[task] = result` and `held.pop(task)` suffice.
* `Cancel(task)`: nobody waits for the task any more. Whether it still answers does not matter.
* Events may come late, twice, or from a task or an actor that is long gone. Results may also never come: then
  `ActorLost` or `DeadlinePassed` must. Every `StartActor` is answered by `ActorUp` or `ActorLost`.
* A commit may be tried again after one that took effect without an answer: commits are create-only.
* After `Finished` or `GiveUp` nothing more is started.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.data import WorkUnit


@dataclass(frozen=True, slots=True)
class UnitsPlanned:
    """The answer to `NeedUnits`: at least one unit and at most as many as were asked for."""

    units: tuple[WorkUnit, ...]


@dataclass(frozen=True, slots=True)
class PlanExhausted:
    """There are no more units than those already given."""


@dataclass(frozen=True, slots=True)
class ActorUp:
    """The actor can predict."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class ActorLost:
    """The actor died, or could not start. What it was working on is given to others."""

    slot: int
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class LoadDone:
    """The chunk's images lie in the object store."""

    task: int
    bytes: int  # what the images take there


@dataclass(frozen=True, slots=True)
class LoadFailed:
    task: int
    reason: str


@dataclass(frozen=True, slots=True)
class PredictDone:
    """The chunk's predictions are held; its images are no longer needed."""

    task: int


@dataclass(frozen=True, slots=True)
class PredictFailed:
    task: int
    reason: str
    input_lost: bool = False  # the images are gone (their node died): the chunk must be loaded again


@dataclass(frozen=True, slots=True)
class CommitDone:
    task: int


@dataclass(frozen=True, slots=True)
class CommitFailed:
    task: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time that `StartDeadline` set running is over."""

    unit_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Open no more units, complete those that have begun; `now`: only wait for commits under way."""

    now: bool = False


Event = (
    UnitsPlanned
    | PlanExhausted
    | ActorUp
    | ActorLost
    | LoadDone
    | LoadFailed
    | PredictDone
    | PredictFailed
    | CommitDone
    | CommitFailed
    | DeadlinePassed
    | Stop
)


@dataclass(frozen=True, slots=True)
class NeedUnits:
    """Answer with `UnitsPlanned` or `PlanExhausted`. One question is open at a time."""

    count: int


@dataclass(frozen=True, slots=True)
class StartActor:
    slot: int
    generation: int  # 0 at first, one more for each replacement


@dataclass(frozen=True, slots=True)
class StopActor:
    """Kill the actor: it does not answer. Its replacement is started by a `StartActor` of its own."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class StartLoad:
    task: int
    unit: WorkUnit
    chunk: int
    attempt: int  # of the unit, from 1
    reserved: int  # bytes that are kept free for the result


@dataclass(frozen=True, slots=True)
class StartPredict:
    task: int
    slot: int
    generation: int
    unit: WorkUnit
    chunk: int
    attempt: int
    load: int  # the load task whose images these are


@dataclass(frozen=True, slots=True)
class StartCommit:
    """Commit the unit from `parts`; `quarantined`: from nothing, every row with that status and `reason`."""

    task: int
    unit: WorkUnit
    quarantined: bool
    reason: str
    attempt: int
    parts: tuple[int, ...]  # the predict tasks in chunk order; () if quarantined


@dataclass(frozen=True, slots=True)
class Drop:
    """Release what is held of this task's result: images of a load or predictions of a predict."""

    task: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this task any more: free its resources where that is possible."""

    task: int


@dataclass(frozen=True, slots=True)
class StartDeadline:
    """Send `DeadlinePassed(unit_id, attempt)` after the job's time for a unit; earlier ones are void."""

    unit_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is open and nothing more will be."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run cannot go on: the executor raises RunError with this reason."""

    reason: str


Action = (
    NeedUnits
    | StartActor
    | StopActor
    | StartLoad
    | StartPredict
    | StartCommit
    | Drop
    | Cancel
    | StartDeadline
    | Finished
    | GiveUp
)
