"""Images in the object store stay below the cap, however slow the actors are and however late they start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.executors.ray.engine import run_engine
from pipeline.executors.ray.hands import Pressure
from tests.chaos.fake_work import CHUNK_BYTES, ROW_BYTES, Call, FakeWatch, FakeWork, fake_settings, fake_units

pytestmark = pytest.mark.usefixtures("local_ray")

HELD = 5  # chunks


def chunks_in_store(journal: list[Call]) -> Iterator[int]:
    """After each call, the chunks that are loaded and not predicted yet."""
    held = 0
    for call in sorted(journal, key=lambda call: call.seconds):
        held += (call.verb == "loaded") - (call.verb == "predicted")
        yield held


def test_the_store_never_holds_more_than_the_cap(work: FakeWork) -> None:
    slow = FakeWork(work.folder, predict_seconds=0.04)
    pressures: list[Pressure] = []
    reports = list(
        run_engine(slow, fake_units(8), fake_settings(chunks_held=HELD, loads=4), FakeWatch(), pressures.append)
    )
    assert len(reports) == 8
    assert max(chunks_in_store(slow.journal())) <= HELD
    assert max(pressure.ready_bytes for pressure in pressures) <= HELD * CHUNK_BYTES
    assert max(pressure.loading + pressure.ready for pressure in pressures) <= HELD


def test_an_actor_that_starts_late_finds_a_full_store_and_not_a_flood(work: FakeWork) -> None:
    """Ray issue 65540: a fast upstream stage floods the store before a slow-starting one is up."""
    late = FakeWork(work.folder, warm_loads=HELD, warm_up=0.5)
    reports = list(run_engine(late, fake_units(8), fake_settings(chunks_held=HELD, loads=4), FakeWatch()))
    assert len(reports) == 8
    journal = sorted(late.journal(), key=lambda call: call.seconds)
    before_first = journal[: [call.verb for call in journal].index("predict")]
    assert sum(call.verb == "loaded" for call in before_first) == HELD


def test_results_larger_than_planned_hold_the_next_loads_back(work: FakeWork) -> None:
    """The plan says a quarter of what a row takes; after the first result the engine knows better."""
    settings = replace(fake_settings(chunks_held=HELD, loads=2), bytes_row=ROW_BYTES // 4)
    late = FakeWork(work.folder, warm_loads=HELD, warm_up=0.5)
    assert len(list(run_engine(late, fake_units(8), settings, FakeWatch()))) == 8
    assert max(chunks_in_store(late.journal())) <= HELD + 1  # two loads were under way at the first result


def test_when_a_run_ends_nothing_is_held_any_more(work: FakeWork) -> None:
    pressures: list[Pressure] = []
    list(run_engine(work, fake_units(2), fake_settings(), FakeWatch(), pressures.append))
    last = pressures[-1]
    assert (last.loading, last.ready, last.ready_bytes, last.predicting, last.committing) == (0, 0, 0, 0, 0)
