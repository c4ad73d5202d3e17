"""From a job to what a run needs: its checkpoints, its plan, and the proof that the output belongs to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from pipeline.archives.access import Access
from pipeline.archives.files import ArchiveFiles
from pipeline.catalogue.contract import NetworkColumns, unit_schema
from pipeline.checkpoints import common_image, job_checkpoints
from pipeline.errors import JobError
from pipeline.executors.choosing import chooser
from pipeline.executors.claim import claim
from pipeline.executors.watch import OnLog
from pipeline.job import Job
from pipeline.models.contract import StoredContract
from pipeline.models.network import NetworkConfig, attention_columns
from pipeline.planner.planning import Division, Plan, UnitSize, extend, keep_tiles, open_plan, plan
from pipeline.sources.batches import TapQuery, source_batches
from pipeline.sources.sweeps import sweep_batches
from pipeline.sources.tables import OpenTable, readable
from pipeline.sources.tile_lists import read_tile_lists
from pipeline.stages import Work, open_survey
from pipeline.storage import Storage, without_credentials

Read = Callable[[Job], Mapping[str, StoredContract]]  # the checkpoints of a job, by column prefix
STAMPED = 1_000_000  # bytes of each end of a source table by which it is known again


@dataclass(frozen=True)
class Prepared:
    """A run before its first unit."""

    work: Work
    plan: Plan
    configs: tuple[NetworkConfig, ...]  # of the networks


def prepare(
    job: Job, output: str, run_id: str, log: OnLog, update: bool = False, read: Read = job_checkpoints
) -> Prepared:
    """Read the checkpoints, plan or open the plan, and claim the output for this job.

    `update` plans the sources that are new since the output was planned. `read` reads the checkpoints: whole, so that
    damaged weights stop a run before it starts, where the caller is not content with their contracts.
    Raises JobError, CheckpointError, InvalidSources, ArchiveUnreachable.
    """
    storage = Storage(output)
    checkpoints = read(job)
    image, warnings = common_image(checkpoints, job.survey.bands)
    networks = tuple(
        NetworkColumns(
            prefix=prefix,
            classes=checkpoint.classes,
            attention=attention_columns(checkpoint.config),
            checkpoint=checkpoint.sha256,
            untrained=checkpoint.untrained,
            experimental=checkpoint.experimental,
        )
        for prefix, checkpoint in checkpoints.items()
    )
    for warning in warnings:
        log(f"warning: {warning}")
    digest = claim(storage, job, {network.prefix: network.checkpoint for network in networks})
    work = Work(job=job, output=output, run_id=run_id, digest=digest, image=image, networks=networks)
    configs = tuple(checkpoint.config for checkpoint in checkpoints.values())
    return Prepared(work, _plan(work, storage, log, update), configs)


def tile_table(job: Job) -> pa.Table | None:
    """The survey's own table of tiles, every region of the job in one; None for surveys without tiles.

    Raises JobError where the job names no mirror, ArchiveUnreachable where it does not answer.
    """
    if not job.survey.tile_lists:
        return None
    with Access(job.archives, job.archive_hosts()) as access:
        return read_tile_lists(job.survey.tile_lists, job.mirror, access)


def _plan(work: Work, storage: Storage, log: OnLog, update: bool) -> Plan:
    """The plan of the output, made where there is none; `update` adds the sources that it has not."""
    job = work.job
    stamp = _fingerprint(job)
    found = open_plan(storage)
    same = found is not None and found.summary.fingerprint == stamp
    if found is not None and not update:
        if not same:
            raise JobError(
                f"{storage.shown} was planned from sources that have changed since: classify what is new in them "
                "with --update, or use another --output"
            )
        return found
    if found is not None and same and job.sources.table is not None:
        return found  # the table is the one that was planned; what a tree or a TAP service has may have grown
    log("planning" if found is None else "planning what is new")
    tiles = tile_table(job) if found is None else found.tile_table()
    survey = open_survey(job, tiles)
    if tiles is not None and found is None:
        keep_tiles(storage, tiles)
    division = Division(UnitSize(sources=job.units.sources, chunk=job.units.chunk), chooser(job, work.image, survey))
    batches, skip = _checked(work, _batches(job)), job.sources.skip_invalid
    if found is None:
        made = plan(batches, survey, storage, division=division, skip_invalid=skip, fingerprint=stamp)
    else:
        made = extend(found, batches, survey, division=division, skip_invalid=skip, fingerprint=stamp)
        log(f"new: {made.summary.sources - found.summary.sources} sources")
    log(f"planned: {made.summary.sources} sources, {made.summary.units} unit(s), {made.summary.tiles} tile(s)")
    return made


def _batches(job: Job) -> Iterator[pa.RecordBatch]:
    sources = job.sources
    table = sources.table if sources.tap is None else partial(_asked, job, sources.tap)
    if table is not None:
        yield from source_batches(
            table,
            sources.columns,
            pass_through=sources.pass_through,
            region=sources.region,
            limit=sources.limit,
        )
        return
    with Access(job.archives, job.archive_hosts()) as access, ArchiveFiles(_mirror(job), access) as files:
        yield from sweep_batches(
            files,
            job.survey.sweeps,
            sources.selection,
            pass_through=sources.pass_through,
            region=sources.region,
            limit=sources.limit,
        )


def _asked(job: Job, query: TapQuery, folder: Path) -> OpenTable:
    from pipeline.sources.tap import tap_table  # here: `requests` is for those who ask such a service

    with Access(job.archives, job.archive_hosts()) as access:
        return tap_table(query, access, folder)


def _checked(work: Work, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, once it is sure that the catalogue has room for their columns. Raises JobError."""
    first = next(batches, None)
    if first is None:
        return
    own = {"object_id", "ra", "dec", "radius", "path", "source_row"}
    passing = pa.schema([field for field in first.schema if field.name not in own])
    unit_schema(work.networks, first.schema.field("object_id").type, passing)
    yield first
    yield from batches


def _mirror(job: Job) -> str:
    if job.mirror is None:
        raise JobError(f"the job {job.name} reads a survey tree: say where it is with --mirror ROOT")
    return job.mirror


def _fingerprint(job: Job) -> str:
    """Hash of where the sources come from, so that a plan of other sources is not taken for this one.

    Of what the job says beside the defaults: a key that a later version adds changes nothing.
    """
    facts: list[Any] = [job.public(given=True).get(section) for section in ("sources", "survey", "units")]
    if job.sources.table is not None:
        facts.append(_stamp(job.sources.table))
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _stamp(url: str) -> list[Any]:
    """What changes when the table does: its size with both ends on a disk, its size with its ETag elsewhere.

    Not the time of a file on a disk: a copy of the same table is the same table.
    """
    with readable(without_credentials(url)):
        filesystem, path = fsspec.core.url_to_fs(url)
        if isinstance(filesystem, LocalFileSystem):
            files = sorted(filesystem.find(path)) or [path]
            return [_ends(Path(file)) for file in files]
        info = filesystem.info(path)
    return [info.get(key) for key in ("size", "ETag", "LastModified")]


def _ends(path: Path) -> str:
    """Hash of a file's size, first and last megabyte: of a table of any format, something there changes with it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(STAMPED)
        file.seek(max(0, size - STAMPED))
        return hashlib.sha256(f"{size}:".encode() + head + file.read()).hexdigest()
