"""A cluster whose nodes do not share the output is refused before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.executors.ray.cluster import LocalRay, ray_session
from pipeline.executors.ray.shared import check_shared
from pipeline.storage import Storage


def test_a_folder_that_only_the_driver_sees_is_refused(tmp_path: Path) -> None:
    """Through a file descriptor of the driver, which the workers do not have."""
    Storage(str(tmp_path)).create("run.json", b"{}")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with ray_session(size=LocalRay(cpus=1, store_bytes=100_000_000)):
            check_shared(Storage(str(tmp_path)), "run.json")
            dead = {"NodeID": "ab" * 28, "NodeManagerAddress": "192.0.2.9", "Alive": True}  # when it was listed
            check_shared(Storage(str(tmp_path)), "run.json", [dead])
            with pytest.raises(JobError, match="is not the same folder on the nodes"):
                check_shared(Storage(f"/proc/self/fd/{descriptor}"), "run.json")
    finally:
        os.close(descriptor)
