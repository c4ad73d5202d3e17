"""The job `files` over real DECaLS cutouts, whole, cut short, half empty and of one band."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data import RowFlag
from pipeline.executors.runner import run
from pipeline.job import load_job
from tests.runs import committed_rows

DATA = Path(os.environ.get("GALAXY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no survey data at {DATA} (GALAXY_SHARED_DATA)")


def _table(folder: Path) -> Path:
    """A row for each FITS file of decals_fits, with the position of its manifest."""
    with (DATA / "fits_manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("decals_fits/")]
    rows = [row for row in rows if row["file"].endswith(".fits")]
    table = pa.table(
        {
            "object_id": [Path(row["file"]).stem for row in rows],
            "ra": [float(row["ra"] or 147.0) for row in rows],  # the file cut short has no position
            "dec": [float(row["dec"] or 1.0) for row in rows],
            "path": [str(DATA / row["file"]) for row in rows],
        }
    )
    path = folder / "files.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> dict[str, dict[str, object]]:
    """object_id -> its catalogue row."""
    folder = tmp_path_factory.mktemp("real")
    settings = [
        f"sources.table={_table(folder)}",
        f"networks.dmagnet.checkpoint={checkpoint}",
        "engine.executor=local",
        "engine.failure_fraction=1",
    ]
    summary = run(load_job("files", settings, environment={}), str(folder / "out"))
    assert summary.exit_code == 0
    return {str(row["object_id"]): row for row in committed_rows(folder / "out").to_pylist()}


def test_every_file_has_a_row(rows: dict[str, dict[str, object]]) -> None:
    names = {path.stem for path in (DATA / "decals_fits").rglob("*.fits")}
    assert set(rows) == names


def test_the_grz_cutouts_are_classified(rows: dict[str, dict[str, object]]) -> None:
    whole = [name for name in rows if name.startswith("decals_") and "bad_pix" not in name]
    assert len(whole) == 6
    for name in whole:
        assert (rows[name]["status"], rows[name]["flags"]) == ("ok", 0), name
        assert rows[name]["dmagnet_label"] is not None


def test_the_three_quarters_empty_cutout_is_partial_and_flagged(rows: dict[str, dict[str, object]]) -> None:
    (row,) = (row for name, row in rows.items() if "bad_pix" in name)
    assert row["status"] == "partial"
    assert row["flags"] == RowFlag.PARTIAL_COVERAGE
    assert "g" in str(row["reason"]) and "r" in str(row["reason"])
    assert row["dmagnet_label"] is not None


def test_a_file_cut_short_is_a_bad_image_that_is_named(rows: dict[str, dict[str, object]]) -> None:
    row = rows["truncated_download"]
    assert row["status"] == "bad_image"
    assert "truncated_download.fits" in str(row["reason"])
    assert row["dmagnet_p_spiral"] is None


def test_the_files_of_one_band_are_bad_images_that_name_file_and_fault(rows: dict[str, dict[str, object]]) -> None:
    single = {name: row for name, row in rows.items() if "band" in name}
    assert len(single) == 7
    for name, row in single.items():
        assert row["status"] == "bad_image", name
        reason = str(row["reason"])
        assert f"{name}.fits" in reason
        assert "contradict their DATASUM" in reason  # astropy says so too; their bands are looked at after that
