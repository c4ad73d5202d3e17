"""The dry run's numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.data import Layout, Way
from pipeline.planner.estimate import estimate
from pipeline.planner.kinds import TileKind, tile_kind
from pipeline.planner.link import Link
from pipeline.planner.planning import Division, UnitSize
from pipeline.planner.ways import Cost, TileCosts
from tests.plans import SMALL, Squares, planned, sky

IMAGE = Layout((3600, 3600), (100, 100), 13.72e6, 0.262, margin=82)
KIND = TileKind((IMAGE, IMAGE, IMAGE), 3, (128.0, 100.0), (800_000.0,), count=3, chunk=20)
LINKS: dict[Way, Link] = {"file": Link(), "ranges": Link(), "cutout": Link(rate=2.0)}


def test_the_estimate_is_the_sum_over_the_tiles_that_chunks_open(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path)
    assert made.summary.openings > made.summary.tiles
    costs = TileCosts.of(KIND, LINKS, 16)
    found = estimate(made, costs, network_bytes=300.0, gflops=4.839)
    inside = made.summary.sources - made.summary.outside
    assert sum(rows * count for rows, count in made.summary.pieces["file"].items()) == inside
    by_hand: dict[Way, Cost] = {way: Cost() for way in LINKS}
    for unit in made.units():
        for chunk in range(len(unit.chunks)):
            tiles = Counter(tile for tile in made.rows(unit, chunk)["tile"].to_pylist() if tile)
            for way in by_hand:
                by_hand[way] += sum((costs.at(way, count) for count in tiles.values()), Cost())
    for way, cost in by_hand.items():
        assert found.alone[way].cost.requests == pytest.approx(cost.requests)
        assert found.alone[way].cost.bytes == pytest.approx(cost.bytes)
        assert found.alone[way].cost.cpu_seconds == pytest.approx(cost.cpu_seconds)
        assert found.alone[way].tiles == made.summary.openings
    assert list(found.chosen) == ["file"]
    assert found.cost == found.chosen["file"].cost == found.alone["file"].cost
    assert found.alone["cutout"].cost.requests == inside
    assert found.alone["cutout"].seconds == pytest.approx(inside / 2)
    assert found.gpu_seconds == pytest.approx(inside * 4.839e9 / 20e12)
    two = estimate(made, costs, network_bytes=1000.0, gflops=4.839)
    assert two.bytes_out - found.bytes_out == pytest.approx(2 * 700 * made.summary.sources, abs=1)


def test_the_way_of_every_tile_is_stored_with_the_plan(tmp_path: Path) -> None:
    def way(sources: int) -> Way:
        return "cutout" if sources < 20 else "ranges" if sources < 26 else "file"

    made = planned(sky(), tmp_path / "mixed", division=Division(SMALL.size, lambda sample: way))
    plain = planned(sky(), tmp_path / "plain")
    assert [unit.unit_id for unit in made.units()] == [unit.unit_id for unit in plain.units()]
    counted: Counter[tuple[Way, int]] = Counter()
    for unit in made.units():
        in_unit = Counter(made.rows(unit)["tile"].to_pylist())
        for chunk in range(len(unit.chunks)):
            tiles = made.rows(unit, chunk)["tile"].to_pylist()
            expected = [way(in_unit[tile]) if tile else "file" for tile in tiles]
            assert unit.chunk_ways(chunk) == expected
            counted.update((way(in_unit[tile]), rows) for tile, rows in Counter(tiles).items() if tile)
    stored = {(way, rows): count for way, counts in made.summary.pieces.items() for rows, count in counts.items()}
    assert stored == dict(counted)
    assert len(made.summary.pieces) == 3
    costs = TileCosts.of(KIND, LINKS, 16)
    found = estimate(made, costs, network_bytes=300.0, gflops=1)
    assert found.cost == sum((part.cost for part in found.chosen.values()), Cost())
    assert found.seconds == max(part.seconds for part in found.chosen.values())
    assert found.cost.bytes < found.alone["file"].cost.bytes


def test_the_sample_of_a_plan_stands_for_the_radii_of_its_sources(tmp_path: Path) -> None:
    table = sky(2000)
    radii = sorted(table.filter(table["dec"].to_numpy() >= 0)["radius"].to_pylist())
    sample = planned(table, tmp_path, division=Division(UnitSize())).summary.sample
    assert len(sample) == 16 and len({source.object_id for source in sample}) == 1
    found = [source.radius for source in sample]
    assert found == pytest.approx([radii[int((i + 0.5) / 16 * len(radii))] for i in range(16)], rel=0.02)
    without = planned(table.drop_columns(["radius"]), tmp_path / "b").summary.sample
    assert [source.radius for source in without] == [None] * 16
    outside = table.filter(table["dec"].to_numpy() < 0)
    assert planned(outside, tmp_path / "c").summary.sample == ()


def test_files_on_this_disk_count_with_their_own_size(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path / "output")
    (source, *_) = made.summary.sample
    for product in Squares().products(source.tile):
        path = tmp_path / "mirror" / product.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    local = tile_kind(Squares(), source, [60.0], str(tmp_path / "mirror"))
    remote = tile_kind(Squares(), source, [60.0, None], "https://archive/dr10")
    assert [layout.bytes for layout in local.files] == [1000.0] * 4
    assert [layout.bytes for layout in remote.files] == [13.72e6] * 3 + [6e4]
    assert (local.images, local.count, len(remote.halves)) == (3, 4, 2)
