"""A stop request: no further unit begins, those that have begun are finished; a rerun does the rest."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from pipeline.executors.ray.engine import COMMIT_GRACE, run_engine
from tests.chaos.fake_work import CHUNK_ROWS, FakeWatch, FakeWork, fake_settings, fake_units, undisturbed

pytestmark = pytest.mark.usefixtures("local_ray")

UNITS = fake_units(20)


def test_a_stopped_run_finishes_what_it_began_and_a_rerun_does_the_rest(work: FakeWork, dice: random.Random) -> None:
    stop_at = dice.randrange(1, 20) * CHUNK_ROWS
    watch = FakeWatch()
    watch.stop = lambda: watch.rows >= stop_at
    slow = FakeWork(work.folder, predict_seconds=0.02)
    first = list(run_engine(slow, UNITS, fake_settings(), watch))
    begun = {call.unit_id for call in slow.journal() if call.verb == "load"}
    assert {report.unit_id for report in first} == begun
    assert 0 < len(first) < len(UNITS)
    left = [unit for unit in UNITS if unit.unit_id not in begun]
    second = list(run_engine(slow, left, fake_settings(), FakeWatch()))
    assert len(first) + len(second) == len(UNITS)
    assert work.catalogue() == undisturbed(UNITS, Path(work.folder).parent / "undisturbed")


def test_after_its_grace_a_stopped_run_leaves_what_is_not_committed(work: FakeWork) -> None:
    work.plant("hang", "predict", "u001", 1)
    asked: list[float] = []

    def stop() -> bool:
        if work.count("predict", "u001") == 2:
            asked.append(time.monotonic())
        return bool(asked)

    reports = list(run_engine(work, UNITS, fake_settings(actors=1, grace=1.0), FakeWatch(stop=stop)))
    assert time.monotonic() - asked[0] < COMMIT_GRACE  # when even commits are left; the call hangs for 600 s
    assert "u001" not in {report.unit_id for report in reports}
    assert set(work.catalogue()) == {f"units/{report.unit_id}.json" for report in reports}
