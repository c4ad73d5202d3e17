"""The driver is killed or told to stop; the same command again completes the catalogue."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from tests.chaos.fake_work import CHUNK_ROWS, FakeWork, fake_units, undisturbed

UNITS = fake_units(24)
ROOT = Path(__file__).parents[2]


def drive(work: FakeWork, *strike: str) -> int:
    """The exit code of a driver in a process of its own."""
    command = [sys.executable, "-m", "tests.chaos.driver", work.folder, str(len(UNITS)), *strike]
    return subprocess.run(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=150
    ).returncode


def test_a_driver_that_is_killed_and_then_stopped_is_completed_by_the_next(work: FakeWork, dice: random.Random) -> None:
    kill_at, stop_at = (str(CHUNK_ROWS * dice.randrange(3, 24)) for _ in range(2))
    assert drive(work, "SIGKILL", kill_at) == -9
    assert drive(work, "SIGTERM", stop_at) == 75
    committed = work.catalogue()
    assert 0 < len(committed) < len(UNITS)
    calls = len(work.journal())
    assert drive(work) == 0
    loaded_again = {f"units/{call.unit_id}.json" for call in work.journal()[calls:] if call.verb == "load"}
    assert loaded_again.isdisjoint(committed)
    assert work.catalogue() == undisturbed(UNITS, Path(work.folder).parent / "undisturbed")


def test_a_driver_listens_to_sigterm_after_its_ray_is_down_too() -> None:
    code = (
        "import os, signal, sys\n"
        "from pipeline.executors.ray.cluster import LocalRay, ray_session\n"
        "from pipeline.executors.watch import StopRequest\n"
        "stop = StopRequest()\n"
        "with stop.listening():\n"
        "    with ray_session(None, LocalRay(cpus=1, store_bytes=100_000_000)):\n"
        "        pass\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(75 if stop() else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert ended.returncode == 75, ended.stderr
