"""A world that carries out what a Scheduler asks for, badly, and checks after every event that it keeps its word.

Everything that happens follows from a `Case`: results come in random order, late, twice or never, actors die and
fail to start, loads are larger than expected, commits fail or take effect unheard. The world keeps its own accounts
and looks at nothing but the actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pipeline.data import WorkUnit
from pipeline.executors import events as ev
from pipeline.executors.events import Action, Event
from pipeline.executors.schedule import Limits, Scheduler
from tests.scheduler_accounts import Accounts
from tests.scheduler_rules import check, check_end

MOST_EVENTS = 20_000  # of one history: more means that it would never end
RATES = (0.0, 0.0, 0.03, 0.1, 0.3)
FAULTS = (
    "load_fails",
    "predict_fails",
    "images_lost",
    "commit_fails",
    "commit_unheard",
    "crash",
    "start_fails",
    "oversize",
    "early_deadline",
    "lost",
    "late",
    "twice",
)


@dataclass(frozen=True)
class Case:
    """One history: with the same case, the same events in the same order."""

    seed: int
    units: int
    actors: int
    trouble: float  # 0: nothing goes wrong; 1: a lot

    @classmethod
    def drawn(cls, seed: int) -> Case:
        draw = Random(seed)
        trouble = draw.choice((0.0, 0.3, 1.0, 1.0))
        return cls(seed=seed, units=draw.choice((0, 1, 3, 6, 10, 20, 40)), actors=draw.randint(1, 5), trouble=trouble)


class World:
    """The executor that a scheduler would have on the worst of days."""

    def __init__(self, case: Case, scheduler: Callable[[Limits], Scheduler] = Scheduler) -> None:
        self.case = case
        self.random = draw = Random(case.seed)
        largest = draw.choice((1, 5, 20))
        self.limits = Limits(
            actors=case.actors,
            loads=draw.randint(1, 6),
            bytes_cap=draw.choice((5, 40, 100, 400)),
            bytes_row=draw.choice((1, 2, 5)),
            in_flight_per_actor=draw.randint(1, 3),
            open_units=draw.randint(1, 4),
            max_attempts=draw.randint(1, 3),
            max_actor_deaths=draw.randint(1, 3),
            max_reloads=draw.randint(1, 2),
            max_actor_starts=draw.randint(1, 4),
            max_actor_timeouts=draw.randint(1, 2),
        )
        self.rates = {fault: draw.choice(RATES) * case.trouble for fault in FAULTS}
        for ending in ("start_fails", "commit_fails", "commit_unheard"):
            self.rates[ending] /= 3  # these end the run when they come in a row: keep most histories long
        units = [_unit(number, draw, largest) for number in range(case.units)]
        self.plan = list(reversed(units))
        rare = 0.05 * case.trouble
        self.poison = {unit.unit_id for unit in units if draw.random() < 2 * rare}
        self.uncommittable = {unit.unit_id for unit in units[:1] if draw.random() < rare}
        self.doomed = {slot for slot in range(case.actors) if draw.random() < 2 * rare}
        self.stop_at = draw.randint(0, 8 * case.units) if draw.random() < 0.25 else -1
        self.accounts = Accounts(self.limits, units)
        self.scheduler = scheduler(self.limits)
        self.silent: set[int] = set()  # tasks that will never answer
        self.late: list[Event] = []
        self.events = 0

    def run(self, tell: Callable[[Event | None, list[Action]], None] = lambda event, actions: None) -> Accounts:
        """Play the history to its end. Raises AssertionError where the scheduler breaks its word."""
        actions = self.scheduler.start()
        tell(None, actions)
        self._carry_out(actions)
        check(self.accounts)
        while not self.accounts.over:
            self._deliver(self._next_event(), tell)
        for event in self.late:  # what comes after the end must change nothing
            self._deliver(event, tell)
        check_end(self.accounts, self.plan)
        counts, quarantined = self.scheduler.counts, sum(self.accounts.committed.values())
        assert counts.quarantined == quarantined
        assert counts.committed == len(self.accounts.committed) - quarantined
        return self.accounts

    def _deliver(self, event: Event, tell: Callable[[Event | None, list[Action]], None]) -> None:
        self.events += 1
        assert self.events < MOST_EVENTS, "the history does not end"
        self.accounts.happened(event)
        actions = self.scheduler.handle(event)
        tell(event, actions)
        self._carry_out(actions)
        check(self.accounts)
        if self._fate("twice") and not self.accounts.over and not isinstance(event, ev.UnitsPlanned | ev.Stop):
            self.late.append(event)

    def _fate(self, fault: str) -> bool:
        return self.random.random() < self.rates[fault]

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, ev.Cancel) and action.task not in self.silent and self._fate("late"):
                self._answer_late(self.accounts.running[action.task])
            self.accounts.done(action)
            if isinstance(action, ev.StartLoad | ev.StartPredict | ev.StartCommit) and self._fate("lost"):
                self.silent.add(action.task)

    def _next_event(self) -> Event:
        accounts, draw = self.accounts, self.random
        if self.events == self.stop_at:
            return ev.Stop(now=draw.random() < 0.5)
        if accounts.up and self._fate("crash") and draw.random() < 0.2:
            slot = draw.choice(sorted(accounts.up))
            return ev.ActorLost(slot, accounts.generation[slot], "crashed")
        if accounts.deadlines and self._fate("early_deadline") and draw.random() < 0.1:
            return self._deadline()
        return self._next_answer()

    def _next_answer(self) -> Event:
        """One of all the things that may be heard now, each as likely; the deadlines only if there is no other."""
        accounts = self.accounts
        answers = [task for number, task in accounts.running.items() if number not in self.silent]
        starting = sorted(accounts.starting)
        choices = len(answers) + len(starting) + len(self.late) + bool(accounts.asked)
        pick = self.random.randrange(choices) if choices else 0
        if pick < len(answers):
            return self._answer(answers[pick])
        pick -= len(answers)
        if pick < len(starting):
            return self._start_actor(starting[pick])
        pick -= len(starting)
        if pick < len(self.late):
            return self.late.pop(pick)
        return self._units() if accounts.asked else self._deadline()

    def _deadline(self) -> Event:
        assert self.accounts.deadlines, "a stall: nothing runs and no deadline is set"
        return ev.DeadlinePassed(*self.random.choice(sorted(self.accounts.deadlines.items())))

    def _units(self) -> Event:
        if not self.plan:
            return ev.PlanExhausted()
        count = self.random.randint(1, min(self.accounts.asked, len(self.plan)))
        return ev.UnitsPlanned(tuple(self.plan.pop() for _ in range(count)))

    def _start_actor(self, slot: int) -> Event:
        generation = self.accounts.generation[slot]
        if slot in self.doomed or self._fate("start_fails"):
            return ev.ActorLost(slot, generation, "did not start")
        return ev.ActorUp(slot, generation)

    def _answer(self, task: ev.StartLoad | ev.StartPredict | ev.StartCommit) -> Event:
        if isinstance(task, ev.StartLoad):
            return self._load(task)
        if isinstance(task, ev.StartPredict):
            return self._predict(task)
        return self._commit(task)

    def _answer_late(self, task: ev.StartLoad | ev.StartPredict | ev.StartCommit) -> None:
        if task.unit.unit_id not in self.poison:
            self.late.append(self._answer(task))

    def _load(self, task: ev.StartLoad) -> Event:
        if self._fate("load_fails"):
            return ev.LoadFailed(task.task, "the archive is silent")
        rows = task.unit.chunks[task.chunk]
        planned = rows * self.limits.bytes_row
        most = 3 * planned if self._fate("oversize") else planned
        return ev.LoadDone(task.task, self.random.randint(0, most))

    def _predict(self, task: ev.StartPredict) -> Event:
        if task.unit.unit_id in self.poison and self.accounts.queues[task.slot][:1] == [task.task]:
            self.accounts.poisoned[task.unit.unit_id] += 1
            return ev.ActorLost(task.slot, task.generation, "poisoned")
        if self._fate("images_lost"):
            return ev.PredictFailed(task.task, "the node is gone", input_lost=True)
        if self._fate("predict_fails"):
            return ev.PredictFailed(task.task, "not a number")
        return ev.PredictDone(task.task)

    def _commit(self, task: ev.StartCommit) -> Event:
        if task.unit.unit_id in self.uncommittable or self._fate("commit_fails"):
            return ev.CommitFailed(task.task, "no room")
        self.accounts.effects.add(task.unit.unit_id)
        if self._fate("commit_unheard"):
            return ev.CommitFailed(task.task, "the connection broke")
        return ev.CommitDone(task.task)


def _unit(number: int, draw: Random, largest: int) -> WorkUnit:
    chunks = tuple(draw.randint(1, largest) for _ in range(draw.choice((1, 1, 2, 3, 4))))
    return WorkUnit(f"unit-{number}", "part", 0, sum(chunks), chunks)
