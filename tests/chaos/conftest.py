"""One Ray of 4 CPUs a module, and seeded points at which to strike."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.executors.ray.cluster import LocalRay, ray_session
from tests.chaos.fake_work import FakeWork

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_session(None, LocalRay(cpus=4, store_bytes=100_000_000)):
        yield


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Where to strike. A failure shows the seed; CHAOS_SEED=... gives other points."""
    request.node.add_report_section("setup", "chaos", f"CHAOS_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def work(tmp_path: Path) -> FakeWork:
    return FakeWork(str(tmp_path / "run"))
