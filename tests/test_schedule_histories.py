"""The scheduler keeps its word through random histories, and the histories notice when it does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.executors.events import Action, Event
from tests.scheduler_mutants import MUTANTS
from tests.scheduler_world import Case, World

CASES = st.builds(
    Case,
    seed=st.integers(0, 2**32 - 1),
    units=st.integers(0, 25),
    actors=st.integers(1, 5),
    trouble=st.sampled_from((0.0, 0.3, 1.0)),
)


@settings(max_examples=2000, deadline=None, derandomize=True, database=None)
@given(CASES)
def test_every_rule_holds_after_every_event_of_any_history(case: Case) -> None:
    World(case).run()


def test_without_trouble_every_unit_is_committed_by_its_first_attempt() -> None:
    for seed in range(100):
        world = World(Case(seed=seed, units=20, actors=3, trouble=0.0))
        world.stop_at = -1
        accounts = world.run()
        assert list(accounts.committed.values()) == [False] * 20
        assert not accounts.failures


def test_the_same_case_gives_the_same_history() -> None:
    def history() -> list[tuple[Event | None, list[Action]]]:
        told: list[tuple[Event | None, list[Action]]] = []
        World(Case(seed=7, units=25, actors=3, trouble=0.3)).run(lambda *both: told.append(both))
        return told

    once = history()
    assert len(once) > 100
    assert once == history()


def test_the_random_histories_meet_every_kind_of_action() -> None:
    met: set[str] = set()
    for seed in range(300):
        World(Case.drawn(seed)).run(lambda _, actions: met.update(type(a).__name__ for a in actions))
    assert met == {kind.__name__ for kind in Action.__args__}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_histories_notice_when(name: str) -> None:
    broken = MUTANTS[name].load()
    for seed in range(1000):
        try:
            World(Case.drawn(seed), broken).run()
        except (AssertionError, LookupError, ValueError):
            World(Case.drawn(seed)).run()  # the same history is none to complain of when nothing is broken
            return
    pytest.fail("1,000 histories went well")
