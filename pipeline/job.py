"""A job: everything that decides what a run computes and how, in one frozen object read from one YAML file.

Precedence: the job file, then PIPELINE_JOB__SECTION__KEY environment variables, then `--set section.key=value`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.archives.policy import ArchivesSection, host_of
from pipeline.catalogue.documents import Publication
from pipeline.errors import JobError
from pipeline.job_faults import explain
from pipeline.plain_yaml import plain_yaml
from pipeline.planner.link import Link, WaysSection
from pipeline.sources.batches import Columns, Region, Selection, TapQuery
from pipeline.storage import without_credentials
from pipeline.surveys.euclid import EuclidConfig
from pipeline.surveys.files import FilesConfig
from pipeline.surveys.first import FirstConfig
from pipeline.surveys.hips import HipsConfig
from pipeline.surveys.legacy import LegacyConfig
from pipeline.surveys.panstarrs import PanstarrsConfig
from pipeline.surveys.sdss import SdssConfig
from pipeline.surveys.tiles import TilesConfig

ENVIRONMENT_PREFIX = "PIPELINE_JOB__"
UNDECISIVE = ("archives", "engine", "mirror", "name", "publication")  # keys that change nothing of what is computed


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourcesSection(_Section):
    """Which galaxies, and what of their table goes through to the catalogue."""

    table: str | None = None  # a table of the user's; None: the survey tree's own sweep tables
    tap: TapQuery | None = None  # instead of a table: a query to a TAP service
    columns: Columns = Columns()
    pass_through: tuple[str, ...] | None = None  # None: the survey's own default, all other columns of a table
    selection: Selection = Selection()  # for sweep tables only
    region: Region | None = None
    limit: Annotated[int, Field(gt=0)] | None = None  # sources
    skip_invalid: bool = False  # wrong rows become `invalid` instead of stopping the run


class NetworkSection(_Section):
    """One network of the job; its key in `networks` is the prefix of its columns."""

    checkpoint: str  # path or URL of a safetensors file, or `untrained:NETWORK:SEED`
    batch: Annotated[int, Field(gt=0)] | None = None  # images; None: chosen for the device
    views: Literal[1, 8] = 1  # 8: each image in its flips and quarter turns, for `spread`, at eight times the cost


class UnitsSection(_Section):
    """The size of what is loaded, committed and retried together."""

    sources: Annotated[int, Field(gt=0)] = 4096
    chunk: Annotated[int, Field(gt=0)] = 256  # sources a load task: 50 MB of 3x256x256 images


class EngineSection(_Section):
    """Where and how fast. Nothing here changes what is computed."""

    executor: Literal["ray", "local"] = "ray"
    address: str | None = None  # of a running Ray cluster; None: a Ray of our own on this machine
    actors: Annotated[int, Field(gt=0)] | None = None  # None: one a GPU, or one where there is none
    gpus_per_actor: Annotated[float, Field(ge=0)] | None = None  # None: 1 where there are GPUs, else 0
    cpus_per_actor: Annotated[float, Field(gt=0)] | None = None  # None: what the loads leave
    loads: Annotated[int, Field(gt=0)] | None = None  # load tasks at once; None: one a CPU
    drivers: Annotated[int, Field(gt=0)] | None = None  # None: as many as the loads need (executors/sizing.py)
    store_fraction: Annotated[float, Field(gt=0, le=0.8)] = 0.33  # of the object store that images may fill
    unit_deadline: Annotated[float, Field(gt=0)] = 3600.0  # s, then the unit is tried again
    unit_attempts: Annotated[int, Field(gt=0)] = 3  # then it is quarantined
    failure_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5  # of the sources, then the run stops
    grace: Annotated[float, Field(ge=0)] = 120.0  # s that open units get to finish when the run is stopped


class Job(_Section):
    """What to run. `run` adds where the survey is (`mirror`) and where the catalogue goes."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    survey: Annotated[
        LegacyConfig
        | SdssConfig
        | FirstConfig
        | PanstarrsConfig
        | EuclidConfig
        | HipsConfig
        | TilesConfig
        | FilesConfig,
        Field(discriminator="kind"),
    ]
    mirror: str | None = None  # root of the survey's tree, or of relative paths: folder or fsspec URL
    sources: SourcesSection = SourcesSection()
    networks: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], NetworkSection] = Field(min_length=1)
    units: UnitsSection = UnitsSection()
    archives: ArchivesSection = ArchivesSection()
    ways: WaysSection = WaysSection()
    engine: EngineSection = EngineSection()
    publication: Publication = Publication()  # how the catalogue is titled, cited and licensed

    @model_validator(mode="after")
    def _sources_exist(self) -> Job:
        if self.sources.table is not None and self.sources.tap is not None:
            raise ValueError("sources.table and sources.tap are two answers to one question: give one of them")
        if self.sources.table is None and self.sources.tap is None and not self.survey.sweeps:
            survey = f"{self.survey.kind} {self.survey.release}".strip()
            raise ValueError(
                f"the survey {survey} has no source table of its own: "
                "it needs sources.table (--sources TABLE) or sources.tap"
            )
        return self

    def digest(self, checkpoints: Mapping[str, str]) -> str:
        """Hash of what decides the results: the job without its `UNDECISIVE` keys, and the checkpoints' sha256.

        Credentials do not count: they change, and `retry` knows only the job as it was stored.
        """
        decisive = {key: value for key, value in self.public().items() if key not in UNDECISIVE}
        decisive["ways"] = {"cutouts": "cutout" in self.ways.use}
        decisive["networks"] = dict(sorted(checkpoints.items()))
        if views := {prefix: section.views for prefix, section in sorted(self.networks.items()) if section.views != 1}:
            decisive["views"] = views
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def link(self, url: str) -> Link:
        """The way to the host of `url`: what its policy allows, and what is assumed of the line."""
        return self.ways.link(self.archives.policy(host_of(url)))

    @property
    def gap(self) -> int:
        """Bytes that cost as much as a request to the mirror, for whoever reads it by ranges."""
        return self.link(self.mirror or "").gap

    def archive_hosts(self) -> tuple[str, ...]:
        """The hosts that the job itself names, as `host_of` has them: those of its mirror and its survey."""
        asked = "" if self.sources.tap is None else self.sources.tap.url
        urls = (self.mirror or "", asked, *self.survey.hosts, *(wanted.path for wanted in self.survey.tile_lists))
        return tuple(sorted({host_of(url) for url in urls if "://" in url}))

    def anywhere(self) -> Job:
        """The job with its local paths absolute: workers, and a later retry, have other working directories."""
        networks = {
            prefix: section.model_copy(update={"checkpoint": _absolute(section.checkpoint)})
            for prefix, section in self.networks.items()
        }
        table = None if self.sources.table is None else _absolute(self.sources.table)
        return self.model_copy(
            update={
                "mirror": None if self.mirror is None else _absolute(self.mirror),
                "sources": self.sources.model_copy(update={"table": table}),
                "networks": networks,
                "archives": self.archives.anywhere(),
            }
        )

    def public(self, *, given: bool = False) -> dict[str, Any]:
        """The job as it may be written to disk: without credentials in its URLs. `given`: without the defaults."""
        return _without_credentials(self.model_dump(mode="json", exclude_defaults=given))


def survey_kinds() -> tuple[type[BaseModel], ...]:
    """The configs that the section `survey:` may be."""
    return get_args(Job.model_fields["survey"].annotation)


def job_names() -> list[str]:
    """The jobs that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in files("jobs").iterdir() if file.name.endswith(".yaml"))


def load_job(
    name_or_path: str,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Job:
    """The job `name_or_path`: a name of `job_names()` or a YAML file.

    `overrides` are "section.key=value" with YAML values; `values` are dotted keys that win over everything.
    Raises JobError, naming the key and the nearest valid one.
    """
    tree = read_tree(name_or_path)
    for variable, text in sorted((os.environ if environment is None else environment).items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            _set(tree, key, _yaml_value(text, variable))
    return job_from(override(tree, overrides, values or {}), name_or_path)


def override(tree: Mapping[str, Any], overrides: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a job's tree with `overrides` ("section.key=value") and then `values` (dotted keys) set."""
    changed = dict(tree)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise JobError(f"--set {text}: expected section.key=value")
        _set(changed, key.strip(), _yaml_value(value, f"--set {key}"))
    for key, value in values.items():
        _set(changed, key, value)
    return changed


def job_from(tree: Mapping[str, Any], origin: str) -> Job:
    """A job from a tree of plain values. Raises JobError with every fault, one a line."""
    try:
        return Job.model_validate(tree)
    except ValidationError as error:
        faults = "\n  ".join(explain(dict(fault), Job.model_json_schema()) for fault in error.errors(include_url=False))
        raise JobError(f"{origin}:\n  {faults}") from None


def job_schema() -> str:
    """The JSON Schema of a job file, as stored in schemas/job.schema.json."""
    return json.dumps(Job.model_json_schema(), indent=2, sort_keys=True) + "\n"


def read_tree(name_or_path: str) -> dict[str, Any]:
    """The plain values of a job of the package or of a YAML file. Raises JobError."""
    if name_or_path in job_names():
        text = (files("jobs") / f"{name_or_path}.yaml").read_text()
    elif Path(name_or_path).is_file():
        text = _text(Path(name_or_path))
    else:
        near = difflib.get_close_matches(name_or_path, job_names(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise JobError(f"no job {name_or_path!r}: neither a file nor one of {', '.join(job_names())}{hint}")
    tree = _yaml_value(text, name_or_path)
    if not isinstance(tree, dict):
        raise JobError(f"{name_or_path}: expected a mapping of keys, got {type(tree).__name__}")
    return tree


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except ValueError as error:
        raise JobError(f"{path}: not YAML: {error}") from None


def _yaml_value(text: str, origin: str) -> Any:
    try:
        return plain_yaml(text)
    except ValueError as error:
        raise JobError(f"{origin}: not YAML: {error}") from None


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        below = tree.get(section)
        below = dict(below) if isinstance(below, Mapping) else {}
        tree[section] = below
        tree = below
    tree[last] = value


def _absolute(address: str) -> str:
    """A path on this machine's disk made absolute; anything with a scheme as it is."""
    return address if re.match(r"[a-z0-9+]+:", address) else str(Path(address).absolute())


def _without_credentials(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_credentials(below) for key, below in value.items()}
    return without_credentials(value) if isinstance(value, str) else value
