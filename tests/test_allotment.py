"""Units among the drivers of a run: each with one at a time, each committed once, whoever dies."""

from __future__ import annotations

from random import Random

from pipeline.data import WorkUnit
from pipeline.executors.allotment import Allotment


def plan(count: int, chunks: int = 2) -> list[WorkUnit]:
    return [WorkUnit(f"u{number:03d}", "", number, number + chunks, (1,) * chunks) for number in range(count)]


def ids(units: tuple[WorkUnit, ...]) -> list[str]:
    return [unit.unit_id for unit in units]


def test_a_driver_gets_units_until_its_room_is_full_and_more_as_it_commits() -> None:
    allotment = Allotment(iter(plan(5)), room=[4, 4])
    assert ids(allotment.take(0)) == ["u000", "u001"]
    assert allotment.take(0) == ()
    assert ids(allotment.take(1)) == ["u002", "u003"]
    assert allotment.committed(0, "u001")
    assert ids(allotment.take(0)) == ["u004"]


def test_a_unit_larger_than_the_room_is_given_alone() -> None:
    allotment = Allotment(iter(plan(2, chunks=9)), room=[4])
    assert ids(allotment.take(0)) == ["u000"]
    assert allotment.take(0) == ()


def test_what_a_dead_driver_had_is_the_next_to_be_handed_out() -> None:
    allotment = Allotment(iter(plan(6)), room=[4, 8])
    allotment.take(0)
    assert allotment.lost(0) == 2
    assert ids(allotment.take(1)) == ["u000", "u001", "u002", "u003"]


def test_a_commit_counts_once_and_only_from_who_has_the_unit() -> None:
    allotment = Allotment(iter(plan(1)), room=[4, 4])
    allotment.take(0)
    assert not allotment.committed(1, "u000")
    assert allotment.committed(0, "u000")
    assert not allotment.committed(0, "u000")


def test_a_plan_is_complete_only_once_the_last_unit_is_committed() -> None:
    allotment = Allotment(iter(plan(1)), room=[4, 4])
    allotment.take(0)
    assert allotment.take(1) == () and not allotment.complete
    allotment.lost(0)
    assert not allotment.complete
    allotment.take(1)
    allotment.committed(1, "u000")
    assert allotment.complete


def play(seed: int) -> tuple[list[str], list[str]]:
    """One history to its end: the ids of the plan, and those committed."""
    draw = Random(seed)
    units, drivers = plan(draw.randint(0, 40), draw.randint(1, 4)), draw.randint(1, 5)
    allotment = Allotment(iter(units), [draw.randint(1, 10) for _ in range(drivers)])
    held: list[set[str]] = [set() for _ in range(drivers)]
    committed: list[str] = []
    for _ in range(10_000):
        if allotment.complete:
            break
        driver = draw.randrange(drivers)
        for unit in allotment.take(driver):
            assert not any(unit.unit_id in having for having in held) and unit.unit_id not in committed
            held[driver].add(unit.unit_id)
        if draw.random() < 0.1:
            assert allotment.lost(driver) == len(held[driver])
            held[driver].clear()
        elif held[driver]:
            unit_id = draw.choice(sorted(held[driver]))
            teller = draw.randrange(drivers)  # now and then one who does not have it any more
            if allotment.committed(teller, unit_id):
                assert teller == driver
                committed.append(unit_id)
                held[driver].remove(unit_id)
    return [unit.unit_id for unit in units], committed


def test_in_any_history_each_unit_is_with_one_driver_and_committed_once() -> None:
    for seed in range(300):
        planned, committed = play(seed)
        assert sorted(committed) == planned, f"seed {seed}"
