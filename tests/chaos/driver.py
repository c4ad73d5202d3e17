"""A driver to be killed: `python -m tests.chaos.driver FOLDER UNITS` runs the units that are not committed.

Exit code 0 when all are, 75 when a signal stopped it before.
"""

from __future__ import annotations

import sys

from pipeline.executors.ray.cluster import LocalRay, ray_session
from pipeline.executors.ray.engine import run_engine
from pipeline.executors.watch import StopRequest
from tests.chaos.fake_work import FakeWatch, FakeWork, fake_settings, fake_units


def main(folder: str, count: str) -> int:
    work = FakeWork(folder, load_seconds=0.01, predict_seconds=0.02)
    units = fake_units(int(count))
    done = work.catalogue()
    left = [unit for unit in units if f"units/{unit.unit_id}.json" not in done]
    stop = StopRequest()
    with stop.listening(), ray_session(None, LocalRay(cpus=4, store_bytes=100_000_000)):
        for _ in run_engine(work, left, fake_settings(grace=20.0), FakeWatch(stop=stop)):
            pass
    return 0 if len(work.catalogue()) == len(units) else 75


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
