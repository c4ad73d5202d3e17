"""Asking a published catalogue, with our client and with those of others."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalogue.hats import finalise
from pipeline.catalogue.published import Footer, Published
from pipeline.catalogue.query import Catalogue, open_catalogue
from pipeline.catalogue.sky import cone_ranges
from pipeline.errors import CatalogueError
from pipeline.storage import Storage
from tests.catalogue_rows import commit_pole, commit_sky


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six units along a strip across RA 0, one around each pole, published in files of at most 150 rows."""
    folder = tmp_path_factory.mktemp("asked")
    storage = Storage(str(folder))
    commit_sky(storage)
    for index in range(2):
        commit_pole(storage, f"9{index}unit", first_id=1000 + 100 * index, south=bool(index), seed=index)
    finalise(storage, name="demo", max_rows=150)
    return folder


@pytest.fixture(scope="module")
def catalogue(output: Path) -> Catalogue:
    return open_catalogue(str(output))


@pytest.fixture(scope="module")
def everything(catalogue: Catalogue) -> pa.Table:
    return catalogue.sql("SELECT * FROM catalogue ORDER BY object_id")


def brute_force(everything: pa.Table, ra: float, dec: float, radius: float) -> set[int]:
    """Identifiers within `radius` arcsec, by astropy."""
    from astropy.coordinates import SkyCoord

    sources = SkyCoord(everything["ra"].to_numpy(), everything["dec"].to_numpy(), unit="deg")
    inside = sources.separation(SkyCoord(ra, dec, unit="deg")).arcsec <= radius
    return set(everything["object_id"].to_numpy()[inside].tolist())


CENTRES = st.one_of(
    st.tuples(st.floats(357, 360) | st.floats(0, 3), st.floats(-1, 1)),
    st.tuples(st.floats(0, 360), st.floats(87, 90) | st.floats(-90, -87)),
    st.sampled_from([(0.0, 90.0), (360.0, -90.0), (0.0, 0.0), (359.999, 0.1)]),
)


@settings(max_examples=40, deadline=None)
@given(CENTRES, st.floats(0, 5).map(lambda power: 10**power))
def test_a_cone_is_the_brute_force_rows_across_ra_0_and_at_the_poles(
    catalogue: Catalogue, everything: pa.Table, centre: tuple[float, float], radius: float
) -> None:
    found = catalogue.cone(*centre, radius).select("object_id").to_table()
    ids = found["object_id"].to_pylist()
    assert found.column_names == ["object_id"]
    assert len(ids) == len(set(ids))
    assert set(ids) == brute_force(everything, *centre, radius)


def test_a_cone_opens_only_the_files_that_it_touches(catalogue: Catalogue) -> None:
    table = catalogue.table
    touched = table.overlapping(cone_ranges(0.5, 0.0, 0.1))
    assert 0 < len(touched) <= 4 < len(table.partitions)
    asked: list[int] = []

    class Watched(Published):
        """Notes which files are asked for; those that the cone does not touch are not there."""

        def files(self) -> list[str]:
            return [name if index in touched else "gone" for index, name in enumerate(super().files())]

        def footer(self, index: int) -> Footer:
            if index not in asked:
                asked.append(index)
            return super().footer(index)

    part = Catalogue(Watched(table.storage, table.folder), None)
    assert part.cone(0.5, 0.0, 360).to_table().equals(catalogue.cone(0.5, 0.0, 360).to_table())
    assert sorted(asked) == sorted(touched)
    with pytest.raises(FileNotFoundError):
        part.cone(0.5, 0.0, 648_000).to_table()


@given(st.lists(st.integers(0, 100), unique=True, max_size=12).map(sorted), st.sets(st.integers(0, 24)))
def test_the_overlapping_files_are_those_that_share_a_pixel(edges: list[int], pixels: set[int]) -> None:
    ranges = np.array(edges[: len(edges) // 2 * 2], dtype=np.int64).reshape(-1, 2)
    table = Published(Storage("memory://none"), "")
    table.__dict__["ranges"] = np.array([(4 * pixel, 4 * pixel + 4) for pixel in sorted(pixels)]).reshape(-1, 2)
    wanted = {point for first, stop in ranges.tolist() for point in range(first, stop)}
    expected = [index for index, (first, stop) in enumerate(table.ranges.tolist()) if wanted & set(range(first, stop))]
    assert table.overlapping(ranges) == expected


def test_a_cone_of_the_whole_sky_is_the_catalogue(catalogue: Catalogue) -> None:
    rows = catalogue.cone(10, 20, 648_000).to_table()
    assert rows.num_rows == catalogue.rows == 800
    assert tuple(rows.column_names) == catalogue.columns
    assert catalogue.cone(180, 45, 60).count() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((float("nan"), 0, 60), "is no position on the sky"),
        ((0, 91, 60), "is no position on the sky"),
        ((0, 0, -1), "expected 0 to 648000"),
        ((0, 0, float("nan")), "expected 0 to 648000"),
    ],
)
def test_a_cone_that_is_none_is_refused(
    catalogue: Catalogue, arguments: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(CatalogueError, match=message):
        catalogue.cone(*arguments)


def test_a_column_that_is_not_there_is_named(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match=r"no column net_lable in the catalogue; did you mean net_label"):
        catalogue.select("object_id", "net_lable")


def test_a_catalogue_says_what_it_holds(catalogue: Catalogue, everything: pa.Table) -> None:
    statuses = everything["status"].to_pylist()
    assert catalogue.statuses() == {status: statuses.count(status) for status in sorted(set(statuses))}
    assert catalogue.untrained == ()
    assert catalogue.schema.field("ra").metadata[b"unit"] == b"deg"


def test_sql_answers_from_the_view(catalogue: Catalogue, everything: pa.Table) -> None:
    query = "SELECT net_label, count(*) AS n FROM catalogue WHERE net_p_spiral > 0.5 GROUP BY 1"
    spirals = [value for value in everything["net_p_spiral"].to_pylist() if value is not None and value > 0.5]
    assert catalogue.sql(query).to_pylist() == [{"net_label": "spiral", "n": len(spirals)}]


ATTACKS = [
    "COPY (SELECT * FROM catalogue) TO '{target}'",
    "EXPORT DATABASE '{target}'",
    "ATTACH '{target}' AS other",
    "SET enable_external_access = true",
    "PRAGMA enable_profiling = 'json'; PRAGMA profiling_output = '{target}'; SELECT 1",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{secret}')",
    "INSTALL httpfs",
    "SET threads = 1; SELECT 1",
    "CALL enable_logging(storage = 'file', storage_path = '{target}')",
    "SELECT * FROM everything",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_sql_of_a_stranger_reaches_no_file_and_no_variable(
    catalogue: Catalogue, everything: pa.Table, tmp_path: Path, attack: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("password\nx\n")
    target = tmp_path / "target"
    with pytest.raises(CatalogueError, match=r"the query failed|a catalogue is only read"):
        catalogue.sql(attack.format(target=target, secret=secret))
    assert list(tmp_path.iterdir()) == [secret]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DROP VIEW catalogue", "DROP"),
        ("DELETE FROM catalogue", "DELETE"),
        ("SELECT 1; CREATE TABLE mine AS SELECT 1 AS one", "CREATE"),
        ("WITH new AS (SELECT 1) INSERT INTO catalogue SELECT * FROM new", "INSERT"),
    ],
)
def test_sql_that_would_change_something_is_refused_by_name(catalogue: Catalogue, statement: str, kind: str) -> None:
    with pytest.raises(CatalogueError, match=f"a catalogue is only read: {kind} is refused, ask by SELECT"):
        catalogue.sql(statement)
    assert catalogue.sql("SELECT count(*) AS n FROM catalogue").to_pylist() == [{"n": 800}]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("-- nothing", "there is no query in '-- nothing'"),
        ("SELECT 1; SELECT 2", "one query at a time, got 2"),
        ("SELECT net_lable FROM catalogue", "did you mean net_label"),
    ],
)
def test_a_query_that_is_none_is_refused(catalogue: Catalogue, query: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        catalogue.sql(query)


def test_maps_are_found_by_identifier(catalogue: Catalogue, everything: pa.Table, output: Path) -> None:
    classified = [row["object_id"] for row in everything.to_pylist() if row["net_label"]]
    failed = next(row["object_id"] for row in everything.to_pylist() if not row["net_label"])
    maps = catalogue.maps([classified[3], classified[500], failed, 99_999])
    assert set(maps) == {classified[3], classified[500], failed}
    assert maps[failed] == {}
    image = maps[classified[500]]["net"]
    stored = pa.concat_tables(
        pq.read_table(path) for path in sorted(output.glob("latest/attention_maps/dataset/*/*/*.parquet"))
    )
    cells = {row["object_id"]: row["net_att_map"] for row in stored.to_pylist()}
    assert image.shape == (16, 16)
    assert image.tobytes() == cells[classified[500]]


def test_identifiers_of_another_type_are_refused(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="object_id is int64 here"):
        catalogue.maps(["J0001"])


@pytest.mark.parametrize("part", ["", "latest", "snapshots/0001", "latest/catalogue"])
def test_a_catalogue_opens_from_the_output_a_snapshot_or_itself(output: Path, part: str) -> None:
    assert open_catalogue(str(output / part)).rows == 800


def test_where_nothing_is_published_there_is_no_catalogue(tmp_path: Path) -> None:
    commit_sky(Storage(str(tmp_path)), units=1)
    with pytest.raises(CatalogueError, match="no published catalogue here"):
        open_catalogue(str(tmp_path))


def test_the_query_client_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'astropy', 'fitsio', 'cdshealpix', 'hats', 'lsdb'}"
    code = f"import sys, pipeline.catalogue.query; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_hats_and_lsdb_and_duckdb_read_the_published_catalogue(
    output: Path, catalogue: Catalogue, everything: pa.Table
) -> None:
    """One test for three readers: importing lsdb takes seconds."""
    collection = str(output / "latest")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of pandas, inside lsdb and nested-pandas
        hats: Any = import_module("hats")
        lsdb: Any = import_module("lsdb")
        validation: Any = import_module("hats.io.validation")
        found = hats.read_hats(collection)
        extension = hats.read_hats(found.get_extension_path("attention_maps"))
        assert validation.is_valid_catalog(collection, strict=True)
        assert validation.is_valid_catalog(f"{collection}/attention_maps", strict=True)
        shown = lsdb.open_catalog(collection)
        cone = shown.cone_search(ra=0.2, dec=0.1, radius_arcsec=1800).compute()
        moved = everything.select(["object_id", "ra", "dec"]).to_pandas().assign(dec=lambda rows: rows["dec"] * 0.99999)
        other = lsdb.from_dataframe(moved, ra_column="ra", dec_column="dec", margin_threshold=10)
        matched = shown.crossmatch(
            other, radius_arcsec=1.0, suffixes=("", "_moved"), suffix_method="overlapping_columns"
        ).compute()
    assert found.main_catalog.catalog_info.total_rows == extension.catalog.catalog_info.total_rows == 800
    assert set(cone["object_id"]) == brute_force(everything, 0.2, 0.1, 1800)
    assert 10 < len(cone) == catalogue.cone(0.2, 0.1, 1800).count()
    assert "net_p_spiral" in cone.columns
    near = np.abs(everything["dec"].to_numpy()) * 1e-5 * 3600 < 0.999
    assert set(everything["object_id"].to_numpy()[near]) <= set(matched["object_id"])
    assert (matched["object_id"] == matched["object_id_moved"]).mean() > 0.99
    files = f"{collection}/catalogue/dataset/*/*/*.parquet"
    with duckdb.connect() as connection:
        counted = connection.execute(f"SELECT count(*), count(DISTINCT object_id) FROM '{files}'").fetchall()
    assert counted == [(800, 800)]
