"""What is in a published snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.catalogue.commits import commit_unit, latest_manifests, unit_rows
from pipeline.catalogue.contract import recommended_fields, unit_schema
from pipeline.catalogue.documents import Publication
from pipeline.catalogue.hats import finalise
from pipeline.catalogue.properties import parsed_properties, properties_bytes
from pipeline.catalogue.published import Published
from pipeline.catalogue.query import open_catalogue
from pipeline.catalogue.recommended import recommended
from pipeline.catalogue.rows import quarantined_table, replace_rows
from pipeline.catalogue.snapshots import Snapshot
from pipeline.catalogue.verify import verify
from pipeline.errors import CatalogueError
from pipeline.storage import Storage
from tests.catalogue_rows import FACTS, NETWORK, commit, commit_sky, plan_rows, provenance, table_of, unit_of

ROWS = 600


def published_rows(storage: Storage, folder: str) -> pa.Table:
    published = Published(storage, folder)
    return pa.concat_tables(pq.read_table(pa.BufferReader(storage.read(name))) for name in published.files())


def committed_rows(storage: Storage) -> pa.Table:
    tables = [unit_rows(storage, manifest) for manifest in latest_manifests(storage).values()]
    return pa.concat_tables(tables).sort_by([("_healpix_29", "ascending"), ("object_id", "ascending")])


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Storage, Snapshot]]:
    """Six units of 100 rows along a strip across RA 0, published in files of at most 150 rows."""
    storage = Storage(str(tmp_path_factory.mktemp("published")))
    commit_sky(storage)
    yield storage, finalise(storage, name="demo", max_rows=150)


def test_the_published_rows_are_the_committed_rows_in_the_order_of_the_sky(output: tuple[Storage, Snapshot]) -> None:
    storage, snapshot = output
    committed = committed_rows(storage)
    catalogue = published_rows(storage, f"{snapshot.folder}/catalogue")
    maps = published_rows(storage, f"{snapshot.folder}/attention_maps")
    assert catalogue.num_rows == snapshot.rows == ROWS
    own = [name for name in catalogue.column_names if not name.startswith("recommended_")]
    assert catalogue.select(own).equals(committed.select(own))
    for name, column in recommended(committed, "net").items():
        assert catalogue[f"recommended_{name}"].to_pylist() == column.to_pylist()
    assert maps.equals(committed.select(maps.column_names))
    assert set(committed.column_names) == {*own, "net_att_map"}
    friendly = published_rows(storage, f"{snapshot.folder}/friendly")
    assert friendly.equals(catalogue.select(friendly.column_names))
    assert snapshot.statuses == {
        status: committed["status"].to_pylist().count(status) for status in set(committed["status"].to_pylist())
    }


def test_every_file_holds_the_rows_of_its_pixel_and_no_more_than_it_may(output: tuple[Storage, Snapshot]) -> None:
    storage, snapshot = output
    published = Published(storage, f"{snapshot.folder}/catalogue")
    assert len({order for order, _ in published.partitions}) > 1  # adaptive: dense sky is divided further
    for name, (first, stop) in zip(published.files(), published.ranges, strict=True):
        rows = pq.read_table(pa.BufferReader(storage.read(name)))
        pixels = rows["_healpix_29"].to_numpy()
        assert ((pixels >= first) & (pixels < stop)).all()
        assert (np.diff(pixels) >= 0).all()
        assert 0 < rows.num_rows <= 150


def test_a_second_finalise_without_news_returns_the_snapshot_there_is(output: tuple[Storage, Snapshot]) -> None:
    storage, snapshot = output
    before = storage.list("snapshots")
    assert finalise(storage, name="demo", max_rows=150) == snapshot
    assert storage.list("snapshots") == before


def test_the_footer_reads_back_as_a_votable_with_units_and_ucds(output: tuple[Storage, Snapshot]) -> None:
    from astropy.table import Table

    storage, snapshot = output
    assert storage.local is not None
    published = Published(storage, f"{snapshot.folder}/catalogue")
    name = published.files()[0]
    table = Table.read(storage.local / name, format="parquet.votable")
    rows = pq.read_table(pa.BufferReader(storage.read(name)))
    assert str(table["ra"].unit) == "deg"
    assert table["dec"].meta["ucd"] == "pos.eq.dec;meta.main"
    assert table["fov_arcsec"].unit == "arcsec"
    assert "spiral" in table["net_p_spiral"].description
    assert table.colnames == rows.column_names
    for column in ("object_id", "ra", "status", "reason", "TYPE", "run_id", "flags"):
        assert table[column].tolist() == rows[column].to_pylist(), column
    np.testing.assert_array_equal(table["net_p_round"], rows["net_p_round"].to_numpy(zero_copy_only=False))


def test_every_column_of_every_file_and_of_the_common_metadata_has_its_meaning(
    output: tuple[Storage, Snapshot],
) -> None:
    storage, snapshot = output
    published = Published(storage, f"{snapshot.folder}/catalogue")
    expected = unit_schema([NETWORK], pa.int64(), pa.schema([]))
    expected = pa.schema([*expected, *recommended_fields("net", NETWORK.classes)])
    for name in (*published.files(), published.name("dataset/_common_metadata")):
        schema = pq.read_schema(pa.BufferReader(storage.read(name)))
        assert b"IVOA.VOTable-Parquet.content" in schema.metadata
        for field in schema:
            if field.name != "TYPE":
                assert field.equals(expected.field(field.name), check_metadata=True)


def test_a_new_commit_makes_a_new_snapshot_and_leaves_the_old_one(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit_sky(storage, units=2)
    first = finalise(storage, name="demo")
    old = {name: storage.read(name) for name in storage.list(first.folder)}
    commit(storage, table_of(plan_rows(10, first_id=5000)), "99unit")
    second = finalise(storage, name="demo")
    assert (first.number, second.number, second.rows) == (1, 2, 210)
    assert storage.pointed("latest") == "snapshots/0002"
    assert {name: storage.read(name) for name in storage.list(first.folder)} == old
    assert open_catalogue(first.path).rows == 200
    assert finalise(storage, name="other").number == 3


def test_the_latest_attempt_of_a_unit_is_the_one_that_is_published(tmp_path: Path) -> None:
    storage, rows = Storage(str(tmp_path)), plan_rows(20)
    before = quarantined_table(rows, "died", provenance())
    commit(storage, before, "0unit")
    assert finalise(storage, name="demo").statuses == {"quarantined": 20}
    after = replace_rows(before, table_of(rows.slice(0, 15)))
    commit(storage, after, "0unit", attempt=2)
    snapshot = finalise(storage, name="demo")
    assert snapshot.rows == 20
    assert snapshot.statuses["quarantined"] == 5


def test_text_identifiers_are_published_and_found(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    rows = plan_rows(8).set_column(0, "object_id", pa.array([f"J{index}" for index in range(8)]))
    commit(storage, table_of(rows), "0unit")
    finalise(storage, name="demo")
    catalogue = open_catalogue(str(tmp_path))
    assert list(catalogue.maps(["J3"])) == ["J3"]
    assert catalogue.sql("SELECT count(*) AS n FROM catalogue WHERE object_id = 'J3'").to_pylist() == [{"n": 1}]


def test_an_untrained_checkpoint_is_said_in_every_properties_file(tmp_path: Path) -> None:
    storage, untrained = Storage(str(tmp_path)), replace(NETWORK, untrained=True)
    commit(storage, table_of(plan_rows(5), network=untrained), "0unit", network=untrained)
    snapshot = finalise(storage, name="demo", publication=Publication(description="A test"))
    assert snapshot.untrained == ("net",)
    for name in ("collection.properties", "catalogue/hats.properties", "attention_maps/hats.properties"):
        values = parsed_properties(storage.read(f"{snapshot.folder}/{name}"))
        assert values["pipeline_untrained"] == "net"
        assert values["obs_description"].startswith("UNTRAINED: net had random weights")
        assert values["obs_description"].endswith("A test")
    assert open_catalogue(str(tmp_path)).untrained == ("net",)


def test_a_catalogue_is_published_and_asked_in_an_object_store() -> None:
    storage = Storage("memory://published")
    commit_sky(storage)
    snapshot = finalise(storage, name="demo", max_rows=150)
    assert storage.read("latest") == b"snapshots/0001"
    catalogue = open_catalogue("memory://published")
    assert (catalogue.rows, sum(catalogue.statuses().values())) == (ROWS, ROWS)
    assert 0 < catalogue.cone(0.5, 0.0, 1800).count() < ROWS
    assert list(catalogue.maps([7])) == [7]
    assert verify(storage).problems == ()
    assert finalise(storage, name="demo", max_rows=150) == snapshot


def test_a_catalogue_without_networks_has_no_maps(tmp_path: Path) -> None:
    storage, rows = Storage(str(tmp_path)), plan_rows(5)
    table = quarantined_table(rows, "died", replace(provenance(), networks=()))
    commit_unit(storage, unit_of(table, "0unit"), table, FACTS, ())
    finalise(storage, name="demo")
    with pytest.raises(CatalogueError, match="catalogue demo has no attention maps"):
        open_catalogue(str(tmp_path)).maps([1])


@pytest.mark.parametrize("text", ["two\nlines", " spaces ", "back\\slash"])
def test_a_property_that_one_line_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(CatalogueError, match=r"title: .* does not fit on a line"):
        properties_bytes("HATS", {"title": text})


def test_properties_are_read_back() -> None:
    values = {"a": "x=y: z", "b": "", "c": 3}
    assert parsed_properties(properties_bytes("HATS", values)) == {"a": "x=y: z", "b": "", "c": "3"}
