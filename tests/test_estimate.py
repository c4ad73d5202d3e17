"""The dry run's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.planner.estimate import EDGE_FRACTION, IMAGE_BYTES, MASK_BYTES, estimate
from tests.plans import Squares, planned, sky


def test_the_estimate_counts_what_chunks_open(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path)
    assert made.summary.openings > made.summary.tiles
    found = estimate(made, Squares(), "nowhere", network_bytes=300.0, gflops=4.839)
    assert found.files == made.summary.tiles * 4
    inside = made.summary.sources - made.summary.outside
    neighbours = round(made.summary.openings * (1 - (1 - EDGE_FRACTION) ** (inside / made.summary.openings)))
    assert found.requests == 4 * (made.summary.openings + neighbours)
    assert found.bytes_in == round(found.requests / 4 * (3 * IMAGE_BYTES + MASK_BYTES))
    assert found.gpu_seconds == pytest.approx(inside * 4.839e9 / 20e12)
    two = estimate(made, Squares(), "nowhere", network_bytes=1000.0, gflops=4.839)
    assert two.bytes_out - found.bytes_out == pytest.approx(2 * 700 * made.summary.sources, abs=1)


def test_the_estimate_uses_the_sizes_of_files_that_are_on_this_disk(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path / "output")
    for tile in {name for unit in made.units() for name in made.rows(unit)["tile"].to_pylist() if name}:
        for product in Squares().products(tile):
            path = tmp_path / "mirror" / product.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 1000)
    found = estimate(made, Squares(), str(tmp_path / "mirror"), network_bytes=300.0, gflops=1)
    assert found.bytes_in == found.requests * 1000
