"""What one version began or published, the next goes on with and opens, or says clearly that it cannot."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from pipeline.catalogue.commits import each_latest, manifest_name
from pipeline.catalogue.contract import catalogue_document
from pipeline.catalogue.hats import finalise
from pipeline.catalogue.query import open_catalogue
from pipeline.catalogue.verify import verify
from pipeline.errors import CatalogueError, JobError
from pipeline.executors.claim import RUN, claim
from pipeline.executors.state import describe_run
from pipeline.job import Job, load_job
from pipeline.planner.plan import open_plan
from pipeline.storage import Storage
from tests.catalogue_rows import commit, plan_rows, table_of
from tests.plans import planned, sky

KEPT = sorted((Path(__file__).parent / "published").glob("contract-*.tar.gz"))
CHECKPOINTS = {"dmagnet": "ab" * 32}


def test_an_output_of_today_s_contract_is_kept() -> None:
    """A new version of schemas/catalogue.yaml needs `python -m tests.published`, once."""
    assert f"contract-{catalogue_document().version}.tar.gz" in [path.name for path in KEPT]


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_an_output_of_every_published_contract_opens_answers_and_verifies(kept: Path, tmp_path: Path) -> None:
    with tarfile.open(kept) as archive:
        archive.extractall(tmp_path, filter="data")
    storage, catalogue = Storage(str(tmp_path)), open_catalogue(str(tmp_path))
    assert verify(storage).problems == ()
    assert catalogue.rows == sum(manifest.rows for manifest in each_latest(storage)) == 40
    assert set(catalogue.select("object_id").to_table()["object_id"].to_pylist()) == set(range(40))
    (row,) = catalogue.limit(1).select("object_id", "ra", "dec").to_table().to_pylist()
    near = catalogue.cone(row["ra"], row["dec"], 1.0).where("status IS NOT NULL").to_table()
    assert row["object_id"] in near["object_id"].to_pylist()
    made = open_plan(storage)
    assert made is not None and sum(made.rows(unit).num_rows for unit in made.units()) == 20
    finalise(storage, name="kept")
    assert verify(storage).problems == ()


@pytest.fixture
def job() -> Job:
    return load_job("decals", ["mirror=/sky"], environment={})


@pytest.fixture
def begun(tmp_path: Path, job: Job) -> Storage:
    """An output that this version has planned."""
    storage = Storage(str(tmp_path))
    claim(storage, job, CHECKPOINTS)
    planned(sky(20), tmp_path)
    return storage


def changed(storage: Storage, name: str, **facts: object) -> None:
    storage.replace(name, json.dumps(json.loads(storage.read(name)) | facts).encode())


def test_a_run_goes_on_under_a_version_whose_job_has_a_key_more(begun: Storage, job: Job) -> None:
    """The older version's job lacks the key, and its digest was made without it."""
    older = json.loads(begun.read(RUN))["job"]
    del older["units"]["chunk"], older["engine"]["grace"]
    changed(begun, RUN, job=older, digest="of-older-words", version="0.0.9")
    assert claim(begun, job, CHECKPOINTS) == "of-older-words"  # as in the manifests that are there


@pytest.mark.parametrize("difference", ["default", "checkpoint", "nothing known"])
def test_a_run_of_another_version_that_means_something_else_is_refused(
    begun: Storage, job: Job, difference: str
) -> None:
    older = json.loads(begun.read(RUN))["job"]
    checkpoints = CHECKPOINTS
    if difference == "default":
        older["units"]["chunk"] = 99
    elif difference == "checkpoint":
        checkpoints = {"dmagnet": "cd" * 32}
    else:
        older["units"]["colour"] = "red"
    changed(begun, RUN, job=older, digest="of-older-words", version="0.0.9")
    with pytest.raises(JobError, match=r"another job, begun by version 0\.0\.9 .*go on with that version"):
        claim(begun, job, checkpoints)


def test_what_a_later_version_wrote_is_refused_with_what_to_do(begun: Storage, job: Job) -> None:
    hint = "go on with the version that began the run, or use another --output"
    changed(begun, "plan/plan.json", version=2)
    with pytest.raises(CatalogueError, match=f"plan.json is of format 2, which this version does not read: {hint}"):
        open_plan(begun)
    changed(begun, RUN, colour="red")
    with pytest.raises(
        CatalogueError, match=f"run.json has the key 'colour', which this version does not know: {hint}"
    ):
        claim(begun, job, CHECKPOINTS)
    with pytest.raises(CatalogueError, match=hint):
        describe_run(begun)


def test_a_manifest_of_a_later_format_is_refused_with_what_to_do(begun: Storage) -> None:
    commit(begun, table_of(plan_rows(5)), "ab12")
    changed(begun, manifest_name("ab12", 1), version=2)
    with pytest.raises(CatalogueError, match="is no manifest: it is of format 2, which this version does not read"):
        list(each_latest(begun))
