"""What must hold after every event, and at the end of a run, whatever has happened. Told from the accounts alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.data import WorkUnit
from pipeline.executors import events as ev
from tests.scheduler_accounts import Accounts


def check(accounts: Accounts) -> None:
    """Raises AssertionError, naming the rule, where one is broken between two events."""
    assert not accounts.late, f"results that nobody waits for are not dropped: {accounts.late}"
    may_cancel = isinstance(accounts.event, ev.DeadlinePassed) or accounts.gave_up
    assert may_cancel or not accounts.cancelled_commits, "a commit was cancelled without a reason"
    assert len(accounts.open) <= accounts.limits.open_units, "too many units are open"
    if accounts.over:
        assert not accounts.running and not accounts.held, "the run is over and something is still held"
        return
    bytes_stay_under_the_cap(accounts)
    actors_are_fed(accounts)
    loads_go_on(accounts)
    tasks_belong_to_a_live_attempt(accounts)
    slots_are_filled(accounts)
    something_will_happen(accounts)


def bytes_stay_under_the_cap(accounts: Accounts) -> None:
    """But for what loads took beyond their reservation, and for one chunk that is alone."""
    images = accounts.images()
    surprise = sum(max(0, held.bytes - held.reserved) for held in images.values())
    in_use = accounts.bytes_in_use()
    alone = sum(held.bytes > 0 for held in images.values()) + len(accounts.under_way(ev.StartLoad)) <= 1
    assert alone or in_use <= accounts.limits.bytes_cap + surprise, f"{in_use} bytes are in use"


def actors_are_fed(accounts: Accounts) -> None:
    """No actor has room while a loaded chunk waits; and an image that waits for ever would be a leak."""
    busy = {task.load for task in accounts.under_way(ev.StartPredict)}
    waiting = accounts.images().keys() - busy
    room = [s for s in accounts.up if len(accounts.queues[s]) < accounts.limits.in_flight_per_actor]
    assert not (waiting and room), f"actors {room} have room while {waiting} wait"


def loads_go_on(accounts: Accounts) -> None:
    """No load slot is free while the bytes suffice for any chunk that waits."""
    if len(accounts.under_way(ev.StartLoad)) >= accounts.limits.loads:
        return
    under_way = accounts.chunks_under_way()
    waiting = [
        rows
        for unit_id in accounts.open
        if not accounts.committing(unit_id)
        for chunk, rows in enumerate(accounts.units[unit_id].chunks)
        if (unit_id, chunk) not in under_way
    ]
    if waiting and not accounts.abandoned:
        in_use = accounts.bytes_in_use()
        reserve = max(1, math.ceil(max(waiting) * accounts.bytes_row))
        assert in_use and in_use + reserve > accounts.limits.bytes_cap, "a load slot stands idle"


def tasks_belong_to_a_live_attempt(accounts: Accounts) -> None:
    """Its unit is open, its deadline is set and its actor is up."""
    for task in accounts.running.values():
        unit_id = task.unit.unit_id
        assert unit_id in accounts.open, f"{unit_id} is not open and has {task}"
        assert accounts.deadlines.get(unit_id) == task.attempt, f"no deadline ends {task}"
    for slot, queue in accounts.queues.items():
        assert slot in accounts.up or not queue, f"slot {slot} is down and keeps {queue}"
    for held in accounts.held.values():
        assert held.unit_id in accounts.open, f"{held} is kept of a unit that is closed"


def slots_are_filled(accounts: Accounts) -> None:
    """A slot has an actor or waits for one, unless too many of its actors failed to start."""
    for slot in accounts.queues.keys() - accounts.up - accounts.starting:
        failed = accounts.failed_starts[slot]
        assert failed >= accounts.limits.max_actor_starts, f"slot {slot} is left empty"


def something_will_happen(accounts: Accounts) -> None:
    """Never a stall: with units open, a task runs (and has a deadline) or an actor starts; else units are asked."""
    waits = accounts.running or accounts.starting or accounts.asked
    assert waits, "nothing runs, nothing is asked for, and the run is not over"
    assert not accounts.open or accounts.running or accounts.starting, "open units wait for nothing"


def check_end(accounts: Accounts, unplanned: Sequence[WorkUnit]) -> None:
    """Every unit exactly once, and nothing left behind. Raises AssertionError."""
    assert accounts.committed.keys() <= accounts.effects, "a unit counts as committed and is not on disk"
    for unit_id, kills in accounts.poisoned.items():
        assert kills <= accounts.limits.max_actor_deaths, f"{unit_id} killed {kills} actors"
    if accounts.gave_up or accounts.abandoned:
        return
    given = accounts.begun if accounts.stopped else accounts.units.keys()
    assert accounts.committed.keys() == given, f"{given ^ accounts.committed.keys()} are lost"
    assert accounts.stopped or not unplanned, "finished before the plan was"
