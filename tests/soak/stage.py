"""The mock sky of a soak behind an archive that fails, the job over it, and its catalogue when nothing fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.executors.runner import run
from pipeline.job import Job
from pipeline.mock import MockSky, write_mock
from tests.faults import SETTINGS
from tests.runs import mock_job, tiny_checkpoint
from tests.skies import scattered
from tests.standins.faults import FaultProxy, Plan, fault_proxy, transient
from tests.standins.nginx import nginx

SHARE = 0.1  # of all requests that fail
SOURCES = 240
CACHE = 0.001  # GB: a third of the sky's 3.4 MB, so that files come and go


@dataclass
class Stage:
    """What a soak runs over."""

    folder: Path
    undisturbed: Path  # the catalogue of a run to which nothing happens
    proxy: FaultProxy
    plan: Plan

    @property
    def requests(self) -> int:
        return len(self.proxy.log)

    @property
    def faults(self) -> int:
        return sum(logged.fault is not None for logged in self.proxy.log)


@contextmanager
def stage(folder: Path, address: str, seed: int) -> Iterator[Stage]:
    sky = MockSky(columns=2, rows=2, brick_pixels=500, galaxies=24, stars=16, max_radius=5.0)
    tree = write_mock(folder / "sky", sky=sky).root
    checkpoint, sources = tiny_checkpoint(folder), scattered(tree, folder / "sources.parquet", SOURCES)
    settings = (f"sources.table={sources}", "sources.columns.radius=radius", "units.sources=16", "units.chunk=8")
    run(mock_job(tree, checkpoint, *settings), str(folder / "undisturbed"))
    (folder / "done").mkdir()
    (folder / "clock").write_text("0")
    (folder / "nginx").mkdir()
    plan = transient(seed, SHARE)
    with nginx(tree, folder / "nginx") as files, fault_proxy({"/": files.url}, plan) as proxy:
        job = _faulty(mock_job(Path(proxy.url), checkpoint, *settings, f"mirror={proxy.url}"), folder, address)
        (folder / "job.json").write_text(json.dumps(job.model_dump(mode="json")))
        yield Stage(folder, folder / "undisturbed", proxy, plan)


def _faulty(job: Job, folder: Path, address: str) -> Job:
    """On Ray, with a cache that is too small, and little patience."""
    cache = SETTINGS.cache.model_copy(update={"url": str(folder / "cache"), "gigabytes": CACHE})
    engine = job.engine.model_copy(
        update={
            "executor": "ray", "address": address, "actors": 2, "cpus_per_actor": 0.5, "loads": 3,
            "unit_deadline": 120.0, "failure_fraction": 1.0, "grace": 20.0,
        }
    )  # fmt: skip
    return job.model_copy(update={"archives": SETTINGS.model_copy(update={"cache": cache}), "engine": engine})
