"""The published files for readers of every kind: other libraries, buckets, web servers, and who reads meanwhile."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pytest

from pipeline.catalogue.hats import finalise
from pipeline.catalogue.query import Catalogue, open_catalogue
from pipeline.storage import Storage
from tests.catalogue_rows import commit, commit_sky, plan_rows, table_of
from tests.standins.nginx import nginx
from tests.test_storage import s3_bucket

__all__ = ["s3_bucket"]  # a fixture
CONDITION = "net_p_spiral > 0.5 AND status = 'ok'"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    commit_sky(Storage(str(folder)), units=4)
    finalise(Storage(str(folder)), name="demo", max_rows=120)
    return folder


@pytest.fixture(scope="module")
def everything(output: Path) -> pa.Table:
    return open_catalogue(str(output)).to_table()


def spirals(everything: pa.Table) -> list[int]:
    rows = everything.select(["object_id", "net_p_spiral", "status"]).to_pylist()
    return sorted(row["object_id"] for row in rows if row["status"] == "ok" and row["net_p_spiral"] > 0.5)


def test_polars_pandas_and_pyarrow_open_the_files_unchanged(output: Path, everything: pa.Table) -> None:
    import pandas as pd
    import polars as pl

    files = str(output / "latest/catalogue/dataset/**/*.parquet")
    frame = pl.scan_parquet(files, hive_partitioning=False)
    chosen = frame.filter((pl.col("net_p_spiral") > 0.5) & (pl.col("status") == "ok")).select("object_id").collect()
    assert sorted(chosen["object_id"].to_list()) == spirals(everything)
    assert frame.collect_schema().names() == everything.column_names
    friendly = output / "latest/friendly/dataset"
    rows = pd.concat([pd.read_parquet(file) for file in sorted(friendly.rglob("Npix=*.parquet"))])
    assert sorted(rows.query("net_p_spiral > 0.5 and status == 'ok'")["object_id"]) == spirals(everything)
    dataset = pa.dataset.dataset(output / "latest/catalogue/dataset", format="parquet", exclude_invalid_files=True)
    assert dataset.count_rows() == everything.num_rows


def assert_answers(remote: Catalogue, everything: pa.Table, here: Catalogue) -> None:
    """Every way to ask gives what it gives on the disk."""
    assert sorted(remote.where(CONDITION).to_table()["object_id"].to_pylist()) == spirals(everything)
    near = remote.cone(0, 0, 1800)
    assert near.to_table().equals(here.cone(0, 0, 1800).to_table())
    assert 0 < near.where(CONDITION).count() < near.count()
    assert remote.ids(350).to_table()["object_id"].to_pylist() == [350]
    assert remote.sql("SELECT count(*) AS n FROM catalogue").to_pylist() == [{"n": everything.num_rows}]
    assert remote.match(everything.select(["ra", "dec"]).slice(0, 5), 1.0).num_rows == 5


def test_a_catalogue_is_published_and_asked_in_a_bucket(s3_bucket: str, output: Path, everything: pa.Table) -> None:
    storage = Storage(f"{s3_bucket}/published")
    commit_sky(storage, units=4)
    finalise(storage, name="demo", max_rows=120)
    assert_answers(open_catalogue(storage.url), everything, open_catalogue(str(output)))


def test_a_web_server_over_the_folder_is_enough(output: Path, everything: pa.Table, tmp_path: Path) -> None:
    with nginx(output, tmp_path) as server:
        assert_answers(open_catalogue(server.url), everything, open_catalogue(str(output)))
        parts = [logged for logged in server.log() if "/dataset/Norder" in logged.path]
    assert {200, 206} == {logged.status for logged in parts}  # how long a file is, and parts of it


def test_readers_keep_their_snapshot_while_a_new_one_is_published(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit_sky(storage, units=2)
    finalise(storage, name="demo", max_rows=120)
    opened, unread = open_catalogue(storage.url), open_catalogue(storage.url)
    before = opened.to_table()
    seen: list[tuple[int, int]] = []

    class Watched(Storage):
        """Asks the catalogue at every file that is created beside it."""

        def create(self, name: str, data: bytes) -> bool:
            seen.append((open_catalogue(self.url).rows, unread.where(CONDITION).count()))
            return super().create(name, data)

    commit(storage, table_of(plan_rows(10, first_id=5000)), "99unit")
    finalise(Watched(storage.url), name="demo", max_rows=120)
    assert len(seen) > 10
    assert set(seen) == {(200, len(spirals(before)))}
    assert opened.to_table().equals(before)
    assert open_catalogue(storage.url).rows == 210
