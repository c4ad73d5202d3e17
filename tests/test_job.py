"""A job file is read exactly, and what is wrong with it is said by name."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.job import Job, job_names, job_schema, load_job
from pipeline.storage import without_credentials


def decals(*overrides: str, environment: dict[str, str] | None = None) -> Job:
    return load_job("decals", overrides, environment=environment or {})


@pytest.mark.parametrize("name", job_names())
def test_every_job_of_the_package_loads(name: str) -> None:
    job = load_job(name, ["sources.table=x.parquet"], environment={})
    assert job.name == name


def test_set_wins_over_the_environment_which_wins_over_the_file() -> None:
    environment = {"PIPELINE_JOB__ENGINE__ACTORS": "3", "PIPELINE_JOB__UNITS__CHUNK": "64"}
    job = decals("engine.actors=5", environment=environment)
    assert (job.engine.actors, job.units.chunk, job.survey.kind) == (5, 64, "legacy")


def test_a_flag_wins_over_set() -> None:
    job = load_job("decals", ["sources.limit=5"], environment={}, values={"sources.limit": 7})
    assert job.sources.limit == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("engine.actor=5", "engine.actor: unknown key; did you mean actors?"),
        ("survey.relase=dr9", "did you mean release?"),
        ("networks.dmagnet.chekpoint=x", "did you mean checkpoint?"),
        ("sorces.limit=5", "did you mean sources?"),
        ("engine.zzz=5", "valid keys: actors, address"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_valid_one_named(override: str, message: str) -> None:
    with pytest.raises(JobError) as error:
        decals(override)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("units.chunk=0", "units.chunk: Input should be greater than 0, got 0"),
        ("engine.executor=spark", "engine.executor: Input should be 'ray' or 'local', got 'spark'"),
        ("units", "expected section.key=value"),
        ("units.chunk=[1", "not YAML"),
        ("networks.Bad-Name.checkpoint=x", "networks.Bad-Name"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_given(override: str, message: str) -> None:
    with pytest.raises(JobError) as error:
        decals(override)
    assert message in str(error.value)


def test_a_job_of_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(JobError, match="did you mean decals"):
        load_job("decal", environment={})


def test_a_job_file_of_the_user_is_read(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text((files("jobs") / "decals.yaml").read_text().replace("name: decals", "name: mine"))
    assert load_job(str(mine), environment={}).name == "mine"


def test_a_job_of_files_needs_a_table() -> None:
    with pytest.raises(JobError, match=r"it needs sources\.table"):
        load_job("files", environment={})


def test_the_digest_follows_what_decides_the_results_and_nothing_else() -> None:
    checkpoints = {"dmagnet": "0" * 64}
    base = decals().digest(checkpoints)
    assert decals("engine.actors=7", "mirror=/elsewhere").digest(checkpoints) == base
    assert decals("sources.limit=7").digest(checkpoints) != base
    assert decals("survey.bands=[g,r]").digest(checkpoints) != base
    assert decals().digest({"dmagnet": "1" * 64}) != base


def test_credentials_never_reach_what_is_written() -> None:
    job = decals("mirror=https://me:secret@host/tree?token=hidden")
    text = json.dumps(job.public())
    assert "https://host/tree" in text
    assert "secret" not in text and "hidden" not in text and "me:" not in text


def test_credentials_do_not_make_another_job() -> None:
    url, same = "https://host/a.csv", "https://me:secret@host/a.csv?token=hidden"
    digests = {decals(f"sources.table={table}").digest({"dmagnet": "0" * 64}) for table in (url, same)}
    assert len(digests) == 1


def test_every_url_of_a_chain_loses_its_credentials() -> None:
    assert without_credentials("simplecache::https://me:se@cret@host/a?token=1#b") == "simplecache::https://host/a"


def test_a_plain_path_is_left_as_it_is() -> None:
    assert without_credentials("/data/a@b?c") == "/data/a@b?c"


def test_the_exported_schema_is_in_step() -> None:
    stored = (files("schemas") / "job.schema.json").read_text()
    assert stored == job_schema(), "run: pipeline schema job > schemas/job.schema.json"


def test_local_paths_mean_the_same_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["mirror=sky", "sources.table=s3://bucket/t.parquet", "networks.other.checkpoint=w.safetensors"]
    job = decals(*settings).anywhere()
    assert job.mirror == str(tmp_path / "sky")
    assert job.sources.table == "s3://bucket/t.parquet"
    assert job.networks["other"].checkpoint == str(tmp_path / "w.safetensors")
    assert job.networks["dmagnet"].checkpoint == "shipped:dmagnet_f"
