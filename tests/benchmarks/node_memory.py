"""What the sizing function counts with, measured: `python -m tests.benchmarks.node_memory [--sources 512]`.

The networks of the job `decals` on a Ray of this machine, without a GPU: the bytes of a chunk as it lies in the object
store, and the most memory that a worker that loads, an actor, the driver and Ray's own processes together had. Resident
without the shared memory of the store; code that several processes map counts in each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

from pipeline.data import ImageContract
from pipeline.executors.prepare import prepare
from pipeline.executors.sizing import ACTOR_MEMORY, DRIVER_MEMORY, LOAD_MEMORY, RAY_MEMORY, chunk_bytes
from pipeline.job import UnitsSection, load_job
from pipeline.mock import write_mock
from pipeline.stages import load
from tests.benchmarks.rows import Row
from tests.skies import scattered

LOOK = 0.1  # s between two looks
WORKERS = {"load_chunk": "a load", "PredictActor": "an actor on the CPU"}
RAYS_OWN, DRIVER = "Ray's own processes", "the driver"
COUNTED = {"a load": LOAD_MEMORY, "an actor on the CPU": ACTOR_MEMORY, RAYS_OWN: RAY_MEMORY, DRIVER: DRIVER_MEMORY}


def resident(process: psutil.Process) -> int:
    """Bytes of RAM besides shared memory (man proc, /proc/PID/status: RssAnon, RssFile), 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssFile")))


def role_of(process: psutil.Process) -> str:
    """What a process of a run is, "" for a worker that has not done anything yet."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    if not title.startswith("ray::") or title.startswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent")):
        return RAYS_OWN
    return next((role for name, role in WORKERS.items() if name in title), "")


def most(run: subprocess.Popen[bytes]) -> dict[str, int]:
    """The most that each part had at any time while `run` goes on, in bytes."""
    peak: dict[str, int] = defaultdict(int)
    roles: dict[int, str] = {}  # a worker that is idle again is what it was
    while run.poll() is None:
        now: dict[str, list[int]] = defaultdict(list)
        for process in psutil.Process(run.pid).children(recursive=True):
            role = roles[process.pid] = role_of(process) or roles.get(process.pid, "")
            now[role].append(resident(process))
        now[RAYS_OWN] = [sum(now[RAYS_OWN])]
        now[DRIVER] = [resident(psutil.Process(run.pid))]
        for role, sizes in now.items():
            peak[role] = max(peak[role], *sizes)
        time.sleep(LOOK)
    return peak


def measured_chunk(line: list[str], folder: Path) -> int:
    """Bytes of the first chunk, loaded in this process."""
    work = prepare(load_job("decals", line), str(folder / "planned"), "run", lambda message: None)
    unit = next(work.plan.units())
    return load(work.work, unit, 0).nbytes


def rows(sources: int = 512) -> list[Row]:
    image, units = ImageContract(), UnitsSection()
    with tempfile.TemporaryDirectory(prefix="node-memory-") as name:
        folder = Path(name)
        sky = write_mock(folder / "sky").root
        table = scattered(sky, folder / "sources.parquet", sources)
        line = [f"mirror={sky}", f"sources.table={table}", "sources.columns.radius=radius", f"units.sources={sources}"]
        chunk = measured_chunk(line, folder)
        words = [word for setting in (*line, "engine.executor=ray") for word in ("--set", setting)]
        command = [sys.executable, "-m", "pipeline", "run", "--survey", "decals", "--output", f"{folder}/out", *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
            peak = most(run)
        if run.returncode:
            raise SystemExit(f"the run ended with {run.returncode}")
    made = Row(f"a chunk of {min(units.chunk, sources)}", chunk / 1e6, "MB", chunk_bytes(image, units) / 1e6, "counted")
    return [made, *(Row(what, peak[what] / 1e6, "MB", of / 1e6, "counted") for what, of in COUNTED.items())]


if __name__ == "__main__":
    from tests.benchmarks.__main__ import show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=512)
    show(rows(parser.parse_args().sources))
