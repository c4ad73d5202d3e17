"""A driver to be ended: `python -m tests.chaos.driver FOLDER UNITS [SIGNAL ROWS]` runs what is not committed.

It sends itself the signal as soon as so many rows are predicted. Exit code 0 when all units are committed, 75
when a signal stopped it before.
"""

from __future__ import annotations

import os
import signal
import sys

from pipeline.executors.ray.cluster import LocalRay, ray_session
from pipeline.executors.ray.engine import run_engine
from pipeline.executors.watch import StopRequest
from tests.chaos.fake_work import FakeWatch, FakeWork, fake_settings, fake_units


def main(folder: str, count: str, name: str = "SIGTERM", rows: str = "0") -> int:
    def strike(predicted: int) -> None:
        if 0 < int(rows) <= predicted:
            os.kill(os.getpid(), signal.Signals[name])

    work = FakeWork(folder)
    units = fake_units(int(count))
    done = work.catalogue()
    left = [unit for unit in units if f"units/{unit.unit_id}.json" not in done]
    stop = StopRequest()
    watch = FakeWatch(stop=stop, on_classified=strike)
    with stop.listening(), ray_session(None, LocalRay(cpus=4, store_bytes=100_000_000)):
        for _ in run_engine(work, left, fake_settings(), watch):
            pass
    return 0 if len(work.catalogue()) == len(units) else 75


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
