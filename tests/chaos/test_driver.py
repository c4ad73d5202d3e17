"""The driver is killed or told to stop; the same command again completes the catalogue."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.fake_work import FakeWork, fake_units, undisturbed, wait_until

UNITS = fake_units(24)
ROOT = Path(__file__).parents[2]


@contextmanager
def driver(work: FakeWork) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.chaos.driver", work.folder, str(len(UNITS))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_driver_ended_anywhere_is_completed_by_the_next(work: FakeWork, dice: random.Random, how: str) -> None:
    end_at = dice.randrange(1, len(UNITS) - 8)  # commits
    with driver(work) as first:
        wait_until(lambda: len(work.catalogue()) >= end_at, seconds=60.0)
        getattr(first, how)()
        assert first.wait(60.0) == (75 if how == "terminate" else -9)
    committed = work.catalogue()
    assert end_at <= len(committed) < len(UNITS)
    calls = len(work.journal())
    with driver(work) as second:
        assert second.wait(60.0) == 0
    loaded_again = {f"units/{call.unit_id}.json" for call in work.journal()[calls:] if call.verb == "load"}
    assert loaded_again.isdisjoint(committed)
    assert work.catalogue() == undisturbed(UNITS, Path(work.folder).parent / "undisturbed")
