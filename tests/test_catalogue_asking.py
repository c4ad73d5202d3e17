"""Parts of a catalogue: by box, coverage map, identifier, condition and crossmatch, here and over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalogue.hats import finalise
from pipeline.catalogue.query import Catalogue, open_catalogue
from pipeline.catalogue.regions import Box, PixelSet, intersection
from pipeline.catalogue.sky import healpix29
from pipeline.errors import CatalogueError
from pipeline.storage import Storage
from tests.catalogue_rows import commit_pole, commit_sky
from tests.standins.scripted import scripted


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four units along a strip across RA 0 and one around the north pole, in several files."""
    folder = tmp_path_factory.mktemp("asking")
    storage = Storage(str(folder))
    commit_sky(storage, units=4)
    commit_pole(storage, "90unit", first_id=1000, seed=5)
    finalise(storage, name="demo", max_rows=120)
    return folder


@pytest.fixture(scope="module")
def catalogue(output: Path) -> Catalogue:
    return open_catalogue(str(output))


@pytest.fixture(scope="module")
def everything(catalogue: Catalogue) -> pa.Table:
    return catalogue.to_table()


def ids_of(part: Catalogue) -> list[int]:
    found: list[int] = part.select("object_id").to_table()["object_id"].to_pylist()
    return found


EDGES = st.tuples(
    st.sampled_from([0.0, 0.5, 10.0, 180.0, 357.6, 359.9, 360.0]) | st.floats(0, 360),
    st.sampled_from([0.0, 0.4, 10.0, 180.0, 358.9, 360.0]) | st.floats(0, 360),
    st.lists(st.sampled_from([-90.0, -0.3, 0.0, 0.1, 88.0, 89.5, 90.0]) | st.floats(-1, 90), min_size=2, max_size=2),
)


@settings(max_examples=40, deadline=None)
@given(EDGES)
def test_a_box_is_the_rows_between_its_edges(
    catalogue: Catalogue, everything: pa.Table, edges: tuple[float, float, list[float]]
) -> None:
    ra1, ra2, (dec1, dec2) = edges[0], edges[1], sorted(edges[2])
    ra, dec = everything["ra"].to_numpy(), everything["dec"].to_numpy()
    across = (ra >= ra1) | (ra <= ra2) if ra1 > ra2 else (ra >= ra1) & (ra <= ra2)
    expected = everything["object_id"].to_numpy()[across & (dec >= dec1) & (dec <= dec2)]
    assert ids_of(catalogue.box(ra1, ra2, dec1, dec2)) == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(EDGES, st.integers(0, 10_000))
def test_the_pixels_of_a_box_hold_every_position_in_it(edges: tuple[float, float, list[float]], seed: int) -> None:
    box = Box(edges[0], edges[1], *sorted(edges[2]))
    random = np.random.default_rng(seed)
    width = 360.0 if box.ra2 - box.ra1 == 360 else (box.ra2 - box.ra1) % 360
    ra = np.concatenate([(box.ra1 + width * random.random(200)) % 360, [box.ra1, box.ra2]])
    dec = np.concatenate([random.uniform(box.dec1, box.dec2, 200), [box.dec1, box.dec2]])
    pixels = healpix29(ra, dec)
    assert PixelSet(box.ranges).contains(ra, dec, pixels).all()
    assert len(box.ranges) <= 4 * 256


@pytest.mark.parametrize("edges", [(-1, 5, 0, 1), (0, 5, 1, 0), (0, 361, 0, 1), (0, 5, 0, 91), (float("nan"), 5, 0, 1)])
def test_a_box_that_is_none_is_refused(catalogue: Catalogue, edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(CatalogueError, match="the lower dec first"):
        catalogue.box(*edges)


@given(*2 * [st.lists(st.integers(0, 60), unique=True, max_size=12).map(sorted)])
def test_what_two_sets_of_pixels_share_is_in_both(first: list[int], second: list[int]) -> None:
    sets = [np.array(edges[: len(edges) // 2 * 2], np.int64).reshape(-1, 2) for edges in (first, second)]
    inside = [{pixel for start, stop in ranges.tolist() for pixel in range(start, stop)} for ranges in sets]
    shared = intersection(*sets)
    assert {pixel for start, stop in shared.tolist() for pixel in range(start, stop)} == inside[0] & inside[1]
    assert (np.diff(shared.ravel()) > 0).all()


@pytest.mark.parametrize("kind", ["fits", "nuniq", "json", "ascii"])
def test_a_coverage_map_is_taken_in_every_format(
    catalogue: Catalogue, everything: pa.Table, tmp_path: Path, kind: str
) -> None:
    from astropy import units
    from astropy.coordinates import Angle, Latitude, Longitude, SkyCoord
    from mocpy import MOC

    moc = MOC.from_cone(Longitude(359.9, "deg"), Latitude(0.1, "deg"), radius=Angle(1.0, "deg"), max_depth=11)
    moc = moc.union(MOC.from_string("5/7 3/1-2"))
    file = tmp_path / "coverage.moc"
    form = {"format": "fits", "v1_compatible": True} if kind == "nuniq" else {"format": kind}
    moc.save(str(file), **form)
    inside = moc.contains_skycoords(SkyCoord(everything["ra"].to_numpy(), everything["dec"].to_numpy(), unit=units.deg))
    assert 10 < inside.sum() < 400
    assert ids_of(catalogue.moc(str(file))) == everything["object_id"].to_numpy()[inside].tolist()


@pytest.mark.parametrize("text", ["here is no map", "30/1", "3/999999", "1-2", '{"3": "x"}', "SIMPLE  = T"])
def test_what_is_no_coverage_map_is_refused(catalogue: Catalogue, tmp_path: Path, text: str) -> None:
    (tmp_path / "no.moc").write_text(text)
    with pytest.raises(CatalogueError, match=r"this is no|no binary table"):
        catalogue.moc(str(tmp_path / "no.moc"))


def test_a_row_is_found_by_its_identifier_and_few_row_groups_are_read(
    catalogue: Catalogue, everything: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [1003, 7, 350, 99_999]
    part = catalogue.ids(*wanted)
    assert sorted(ids_of(part)) == [7, 350, 1003]
    assert part.to_table().equals(everything.filter(pa.compute.is_in(everything["object_id"], pa.array(wanted))))
    assert catalogue.ids().count() == 0
    unindexed = Catalogue(catalogue.table)
    assert sorted(ids_of(unindexed.ids(*wanted))) == [7, 350, 1003]
    with pytest.raises(CatalogueError, match="object_id is int64 here"):
        catalogue.ids("J0001")


CONDITIONS = [
    "net_p_spiral > 0.5 and net_att_entropy < 0.4",
    "NET_LABEL = 'spiral' or status <> 'ok'",
    "net_confidence is null",
    "flags & 512 = 512 -- partial coverage",
    "net_p_round between 0.2 and 0.4 and not recommended_round",
    "radius > 2 * (net_p_round + 0.1)",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_is_that_of_sql(catalogue: Catalogue, everything: pa.Table, condition: str) -> None:
    expected = duckdb.from_arrow(everything).filter(f"(\n{condition}\n)").project("object_id").fetchall()
    assert everything.num_rows > len(expected) > 0
    assert ids_of(catalogue.where(condition)) == [row[0] for row in expected]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("net_p_spirall > 0.5", "no column net_p_spirall in the catalogue; did you mean net_p_spiral"),
        ("ra > 1); DROP VIEW catalogue; SELECT (1", "SELECT statements"),
        ("ra > (SELECT min(ra) FROM catalogue)", "holds a query of its own"),
        ("ra > 1) ORDER BY (2", "is more than a condition"),
        ("ra > 1) GROUP BY (ra", "is more than a condition"),
        ("ra >", "syntax error"),
    ],
)
def test_a_condition_that_is_none_is_refused(catalogue: Catalogue, condition: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        catalogue.where(condition)


def test_a_condition_of_the_wrong_type_is_refused_when_it_is_asked(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="the condition"):
        catalogue.where("status > DATE '2026-01-01' + 1 + ra").to_table()


def test_everything_that_is_asked_holds_at_once(catalogue: Catalogue, everything: pa.Table) -> None:
    part = catalogue.cone(0, 0, 5400).box(359.5, 0.9, -0.4, 0.4).where("net_label = 'spiral'").where("radius > 0.3")
    rows = part.select("object_id", "RA", "net_label", "radius").to_table()
    ra = np.array([value if value < 180 else value - 360 for value in everything["ra"].to_pylist()])
    dec = everything["dec"].to_numpy()
    label = np.array(everything["net_label"].to_pylist()) == "spiral"
    inside = (np.hypot(ra, dec) < 1.5) & (ra >= -0.5) & (ra <= 0.9) & (np.abs(dec) <= 0.4) & label
    inside &= np.nan_to_num(everything["radius"].to_numpy(zero_copy_only=False)) > 0.3
    assert rows["object_id"].to_pylist() == everything["object_id"].to_numpy()[inside].tolist()
    assert rows.column_names == ["object_id", "ra", "net_label", "radius"]
    assert rows.schema.field("ra").metadata[b"unit"] == b"deg"
    assert part.limit(2).to_table().num_rows == 2
    assert part.count() == rows.num_rows > 2


def test_a_limit_gives_the_first_rows_of_the_sky(catalogue: Catalogue, everything: pa.Table) -> None:
    for rows in (1, 130, 499, 500, 600):
        assert catalogue.limit(rows).to_table().equals(everything.slice(0, rows))
    first = [row["object_id"] for row in everything.to_pylist() if row["net_label"] == "round"][:7]
    assert ids_of(catalogue.where("net_label = 'round'").limit(7)) == first


@pytest.mark.parametrize("radius", [1.0, 60.0, 900.0])
def test_a_match_is_the_nearest_row_of_astropy(catalogue: Catalogue, everything: pa.Table, radius: float) -> None:
    from astropy.coordinates import SkyCoord, match_coordinates_sky

    random = np.random.default_rng(2)
    chosen = everything.take(random.permutation(500)[:200])
    angle = random.uniform(0, 360, 200)
    offset = random.exponential(radius, 200) / 3600
    ours = SkyCoord(chosen["ra"].to_numpy(), chosen["dec"].to_numpy(), unit="deg")
    moved = ours.directional_offset_by(angle * ours.ra.unit, offset * ours.ra.unit)
    table = pa.table({"name": [f"s{n}" for n in range(200)], "RA": moved.ra.deg, "Dec": moved.dec.deg})
    found = catalogue.select("object_id", "ra", "net_label").match(table, radius)
    theirs = SkyCoord(everything["ra"].to_numpy(), everything["dec"].to_numpy(), unit="deg")
    index, separation, _ = match_coordinates_sky(moved, theirs)
    near = separation.arcsec <= radius
    assert found.column_names == ["name", "RA", "Dec", "object_id", "ra", "net_label", "separation"]
    assert found["name"].to_pylist() == [f"s{n}" for n in np.flatnonzero(near)]
    assert found["object_id"].to_pylist() == everything["object_id"].to_numpy()[index[near]].tolist()
    np.testing.assert_allclose(found["separation"], separation.arcsec[near], atol=1e-6)
    assert 50 < found.num_rows < 200


def test_a_match_keeps_to_the_part_that_was_asked(catalogue: Catalogue, everything: pa.Table) -> None:
    table = everything.select(["object_id", "ra", "dec"])
    found = catalogue.where("net_label = 'spiral'").select("object_id").match(table, 1.0)
    assert found.column_names == ["object_id", "ra", "dec", "object_id_catalogue", "separation"]
    assert found["object_id"].equals(found["object_id_catalogue"])
    assert found.num_rows == catalogue.where("net_label = 'spiral'").count()
    assert catalogue.limit(3).match(table, 1.0).num_rows == 3
    assert catalogue.cone(120, 40, 10).match(table, 1.0).num_rows == 0


@pytest.mark.parametrize(
    ("table", "radius", "message"),
    [
        ({"x": [1.0]}, 1.0, "no ra and dec: its columns are x"),
        ({"ra": [1.0], "dec": [99.0]}, 1.0, "is no position on the sky"),
        ({"ra": [1.0], "dec": [9.0]}, 0.0, "expected more than 0"),
        ({"ra": [1.0], "dec": [9.0]}, 4000.0, "at most 3600"),
    ],
)
def test_a_match_that_cannot_be_is_refused(
    catalogue: Catalogue, table: dict[str, Any], radius: float, message: str
) -> None:
    with pytest.raises(CatalogueError, match=message):
        catalogue.match(pa.table(table), radius)


def test_rows_come_as_pandas_as_duckdb_and_as_astropy_with_units(catalogue: Catalogue) -> None:
    part = catalogue.cone(0, 0, 3600).select("object_id", "ra", "net_label", "net_p_round", "recommended_round")
    table = part.to_table()
    assert part.to_pandas()["object_id"].tolist() == table["object_id"].to_pylist()
    assert part.to_duckdb().filter("ra < 1").aggregate("count(*)").fetchall() == [
        (sum(value < 1 for value in table["ra"].to_pylist()),)
    ]
    rows = part.to_astropy()
    assert str(rows["ra"].unit) == "deg"
    assert rows["net_p_round"].meta["ucd"] == "stat.probability;src.morph.type"
    assert rows["net_label"].mask.tolist() == [value is None for value in table["net_label"].to_pylist()]
    assert rows["object_id"].tolist() == table["object_id"].to_pylist()


def test_sql_asks_the_part_that_was_chosen(catalogue: Catalogue) -> None:
    part = catalogue.cone(0, 0, 3600)
    assert part.sql("SELECT count(*) AS n FROM catalogue").to_pylist() == [{"n": part.count()}]


def test_a_catalogue_is_asked_over_http_by_ranges(output: Path, catalogue: Catalogue) -> None:
    with scripted() as server:
        server.files = {
            f"/survey/{path.relative_to(output).as_posix()}": path.read_bytes()
            for path in (*output.glob("latest/**/*"), *(output / "latest").iterdir())
            if path.is_file()
        }
        remote = open_catalogue(f"{server.url}/survey")
        question = remote.cone(0, 0, 1800).where("net_p_spiral > 0.3")
        assert question.to_table().equals(catalogue.cone(0, 0, 1800).where("net_p_spiral > 0.3").to_table())
        assert ids_of(remote.ids(350)) == [350]
        assert remote.sql("SELECT count(*) AS n FROM catalogue").to_pylist() == [{"n": 500}]
        with pytest.raises(CatalogueError, match="no published catalogue here"):
            open_catalogue(f"{server.url}/nothing")
    assert any("Range" in headers for path, headers in server.asked if path.endswith(".parquet"))
