"""Which way is chosen for a tile, and that what it is thought to cost is what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pytest

from pipeline.archives.heads import FIRST, Head, PlainPixels, head_of, merged
from pipeline.data import Layout, Way
from pipeline.planner.kinds import TileKind
from pipeline.planner.link import Link
from pipeline.planner.touched import touched
from pipeline.planner.ways import WAYS, TileCosts

IMAGE = Layout((3600, 3600), (100, 100), 13.72e6, 0.262, margin=82)
MASK = Layout((3600, 3600), (100, 100), 0.06e6, 0.262, "hcompress", 82)
BRICK = TileKind((IMAGE, IMAGE, IMAGE, MASK), 3, (128.0,), (3 * 256 * 256 * 4.0,), count=4)
STORE = Link(in_flight=64, rate=500.0)


def _best(link: Link, kind: TileKind = BRICK, among: tuple[Way, ...] = WAYS) -> list[Way]:
    costs = TileCosts.of(kind, dict.fromkeys(WAYS, link), cores=16)
    return [costs.best(sources, among) for sources in (1, 2, 29, 100, 250)]


def test_a_polite_host_is_asked_for_files_but_where_sources_are_few() -> None:
    """Five requests a second bind: whole bricks from a handful of sources on, the service below (archives.md 3.3)."""
    assert _best(Link()) == ["cutout", "cutout", "file", "file", "file"]
    assert _best(Link(), among=("file", "ranges")) == ["file"] * 5
    costs = TileCosts.of(BRICK, dict.fromkeys(WAYS, Link()), cores=16)
    turn = next(sources for sources in range(1, 100) if costs.best(sources, WAYS) == "file")
    assert 3 <= turn <= 8


def test_a_store_without_such_a_limit_is_asked_for_ranges() -> None:
    assert _best(STORE, among=("file", "ranges")) == ["ranges"] * 5
    assert _best(replace(STORE, in_flight=4, latency=2.0), among=("file", "ranges"))[-1] == "file"
    mosaic = Layout((19200, 19200), (1, 19200), 1.47e9, 0.1, "plain")
    assert _best(Link(), TileKind((mosaic,), 1, (128.0,), count=1, chunk=8), ("file", "ranges"))[0] == "ranges"


def test_the_time_of_a_link_is_what_binds_it() -> None:
    link = Link(latency=0.1, bandwidth=1e6, in_flight=4, rate=5.0)
    assert link.seconds(10, 0) == 2.0  # the rate
    assert link.seconds(1, 8e6) == pytest.approx(2.025)  # the connections
    assert link.gap == 800_000
    assert replace(link, rate=1000.0).gap == 100_000


def test_one_more_source_never_costs_less() -> None:
    costs = TileCosts.of(BRICK, dict.fromkeys(WAYS, STORE), cores=16)
    for way in WAYS:
        bills = [costs.at(way, sources) for sources in range(1, 257)]
        for one, more in zip(bills, bills[8:], strict=False):
            assert more.bytes > 0.98 * one.bytes
            assert more.cpu_seconds > one.cpu_seconds
    assert costs.at("cutout", 7).requests == 7
    assert costs.at("file", 1).bytes == pytest.approx(3 * 13.72e6 + 6e4, rel=0.02)


def test_a_cache_saves_the_neighbours() -> None:
    link = dict.fromkeys(WAYS, Link())
    fresh, kept = TileCosts.of(BRICK, link, 16), TileCosts.of(replace(BRICK, kept=True), link, 16)
    assert kept.at("file", 100).requests == 4
    assert fresh.at("file", 100).requests > 5


def _compressed(folder: Path) -> tuple[Layout, bytes]:
    """A brick of the survey's kind, smaller, and how its pixels lie."""
    rng = np.random.default_rng(1)
    flux = (0.01 * rng.standard_normal((1500, 1500))).astype(np.float32)
    path = folder / "r.fits.fz"
    with fitsio.FITS(path, "rw") as file:
        file.write(flux, compress="RICE", qlevel=-1e-4, qmethod="SUBTRACTIVE_DITHER_2", tile_dims=(100, 100))
    data = path.read_bytes()
    return Layout((1500, 1500), (100, 100), len(data), 0.262, margin=82), data


@pytest.mark.parametrize("gap", [0, 60_000])
@pytest.mark.parametrize("sources", [1, 6, 25])
def test_ranges_that_are_planned_are_those_that_were_estimated(gap: int, sources: int, tmp_path: Path) -> None:
    """Over real tiles, whose sizes differ, for other positions than the estimate drew: within 15 %."""
    layout, data = _compressed(tmp_path)
    head = head_of(data[:FIRST], "r")
    assert isinstance(head, Head)
    rng, half, requests, size, tries = np.random.default_rng(7), 60, 0, 0, 600 // sources
    for _ in range(tries):
        centres = rng.integers(82, 1418, (sources, 2))
        boxes = [
            (max(0, y - half), min(1500, y + half + 1), max(0, x - half), min(1500, x + half + 1)) for y, x in centres
        ]
        pieces = head.places.pieces(boxes)
        spans = merged(pieces[pieces[:, 1] > FIRST], gap)
        requests += 1 + len(spans)
        size += FIRST + sum(stop - start for start, stop in spans)
    expected = touched(layout, (float(half),), sources, gap)
    assert expected.ranges == pytest.approx(requests / tries, rel=0.15)
    assert expected.bytes == pytest.approx(size / tries, rel=0.15)


def test_a_plain_mosaic_is_asked_for_rows_or_for_the_block_between_them() -> None:
    mosaic = Layout((4000, 5000), (1, 5000), 4 * 2e7, 0.1, "plain")
    assert touched(mosaic, (50.0,), 1, 0).ranges == pytest.approx(102, abs=2)
    merged_rows = touched(mosaic, (50.0,), 1, 20_000)
    assert merged_rows.ranges == pytest.approx(2, abs=0.1)
    assert merged_rows.bytes == pytest.approx(100 * 20_000, rel=0.1)
    assert PlainPixels((4000, 5000), 0, 4).pieces([(0, 2, 0, 5000)]).tolist() == [[0, 20_000], [20_000, 40_000]]
