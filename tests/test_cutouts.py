"""`pipeline cutouts`: the images of a run, every row in one file, ready to be trained on."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import CatalogueError, JobError, OutputLocked
from pipeline.executors.cutting import CutoutSummary, write_cutouts
from pipeline.executors.lock import OutputLock
from pipeline.executors.watch import StopRequest
from pipeline.models.checkpoint import CLASSES
from pipeline.planner.plan import open_plan
from pipeline.storage import Storage
from pipeline.training.examples import read_examples
from pipeline.training.recipe import plain
from tests.evaluated import recipe
from tests.mock_reading import truth
from tests.runs import mock_job

FAR = {"object_id": 99, "ra": 10.0, "dec": -60.0, "radius": 3.0, "class6": "round"}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, mock_tree: Path) -> Path:
    """The mock sky's galaxies with their classes, and one position outside of it."""
    rows = [
        {"object_id": i, "ra": g["ra"], "dec": g["dec"], "radius": g["radius"], "class6": g["class"]}
        for i, g in enumerate(truth(mock_tree))
    ]
    path = tmp_path_factory.mktemp("sources") / "labelled.parquet"
    pq.write_table(pa.Table.from_pylist([*rows, FAR]), path)
    return path


def written(tree: Path, checkpoint: Path, output: Path, *more: str, stop: StopRequest | None = None) -> CutoutSummary:
    job = mock_job(tree, checkpoint, "engine.loads=1", *more)
    return write_cutouts(job, str(output), lambda message: None, lambda rows, sources: None, stop or StopRequest())


def table_of(path: Path) -> tuple[str, str]:
    return f"sources.table={path}", "sources.columns.radius=radius"


def rows_of(output: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted((output / "cutouts").glob("*.parquet"))])


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, mock_tree: Path, checkpoint: Path, labelled: Path) -> Path:
    output = tmp_path_factory.mktemp("cut") / "out"
    written(mock_tree, checkpoint, output, *table_of(labelled))
    return output


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1)


def test_every_row_is_written_once_with_its_label_and_status(cut: Path, labelled: Path) -> None:
    found = rows_of(cut).select(["object_id", "class6"]).sort_by("object_id")
    assert found.equals(pq.read_table(labelled, columns=["object_id", "class6"]).sort_by("object_id"))
    rows = {row["object_id"]: row for row in rows_of(cut).to_pylist()}
    assert rows[99]["status"] == "no_coverage"
    assert rows[99]["image"] is None
    assert all((row["image"] is not None) == (row["status"] in ("ok", "partial")) for row in rows.values())
    assert sum(row["status"] == "ok" for row in rows.values()) > 10


def test_the_images_are_those_that_a_run_classifies(
    cut: Path, mock_tree: Path, checkpoint: Path, labelled: Path
) -> None:
    from pipeline.executors.prepare import prepare
    from pipeline.stages import load

    job = mock_job(mock_tree, checkpoint, "engine.loads=1", *table_of(labelled))
    work = prepare(job, str(cut), "test", lambda message: None).work
    plan = open_plan(Storage(str(cut)))
    assert plan is not None
    unit = next(plan.units())
    chunk = load(work, unit, 0)
    stored = {row["object_id"]: row for row in rows_of(cut).to_pylist()}
    ids = [row for row, has in zip(plan.rows(unit, 0)["object_id"].to_pylist(), chunk.with_image, strict=True) if has]
    assert len(ids) > 0
    for object_id, image in zip(ids, chunk.images, strict=True):
        assert np.array_equal(pixels(stored[object_id]["image"]), image)


def test_the_file_says_what_its_images_show(cut: Path) -> None:
    facts = json.loads(rows_of(cut).schema.metadata[b"pipeline"])
    assert facts["contract"]["size"] == 64
    assert facts["contract"]["bands"] == ["g", "r", "z"]
    assert facts["survey"] == "legacy"


def test_what_is_written_is_not_drawn_again_and_a_stop_is_gone_on_from(
    tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    stopped = StopRequest()
    job = mock_job(mock_tree, checkpoint, "engine.loads=1")
    first = write_cutouts(
        job, str(tmp_path), lambda message: None, lambda rows, sources: stopped.request("enough"), stopped
    )
    assert 0 < first.rows < first.sources
    assert first.stopped == "enough"
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cutouts").iterdir()}
    second = written(mock_tree, checkpoint, tmp_path)
    assert second.rows == second.sources == 24
    assert before.items() <= {file: file.stat().st_mtime_ns for file in (tmp_path / "cutouts").iterdir()}.items()
    assert (first.drawn, second.drawn) == (first.rows, 24 - first.rows)
    # Nothing is left to ask an archive for.
    assert written(tmp_path / "no_archive", checkpoint, tmp_path) == replace(second, drawn=0)


def test_processes_draw_the_same_images_as_one(
    cut: Path, tmp_path: Path, mock_tree: Path, checkpoint: Path, labelled: Path
) -> None:
    written(mock_tree, checkpoint, tmp_path, *table_of(labelled), "engine.loads=2")
    assert rows_of(tmp_path).equals(rows_of(cut))


def test_a_file_of_no_unit_is_found(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    written(mock_tree, checkpoint, tmp_path)
    files = sorted((tmp_path / "cutouts").iterdir())
    files[0].rename(files[0].with_name("stranger.parquet"))
    with pytest.raises(CatalogueError, match=r"stranger\.parquet is of no unit"):
        written(mock_tree, checkpoint, tmp_path)


def test_a_source_table_may_not_bring_an_image_of_its_own(
    tmp_path: Path, mock_tree: Path, checkpoint: Path, labelled: Path
) -> None:
    table = pq.read_table(labelled)
    pq.write_table(table.append_column("image", pa.array(["x"] * table.num_rows)), tmp_path / "odd.parquet")
    with pytest.raises(JobError, match="cutouts have too: image"):
        written(mock_tree, checkpoint, tmp_path / "out", *table_of(tmp_path / "odd.parquet"))


def test_another_writer_is_refused(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    with OutputLock(Storage(str(tmp_path)), "other"), pytest.raises(OutputLocked):
        written(mock_tree, checkpoint, tmp_path)


def test_the_verb_counts_what_it_wrote(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    line = ["--mirror", str(mock_tree), "--set", f"networks.dmagnet.checkpoint={checkpoint}", "--set", "engine.loads=1"]
    done = CliRunner().invoke(app, ["cutouts", "decals", "--output", str(tmp_path / "out"), *line])
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "out")) == 24


def test_the_trainer_reads_what_was_cut(cut: Path) -> None:
    data = plain(recipe().data) | {"images": ["cutouts"], "side": 64, "columns": {"id": "object_id"}}
    found = read_examples(recipe(data=data).data, cut, 3, {})
    rows = {str(row["object_id"]): row for row in rows_of(cut).to_pylist() if row["image"] is not None}
    assert sorted(found.ids) == sorted(rows)
    for name, image, label in zip(found.ids, found.images, found.labels, strict=True):
        assert CLASSES[label] == rows[str(name)]["class6"]
        assert np.array_equal(image, pixels(rows[str(name)]["image"]))
