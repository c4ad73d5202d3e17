"""The three stages of a work unit, as plain functions: they know nothing of Ray and run anywhere.

    WorkUnit --load--> Chunk --predict--> Predictions --commit--> Manifest
    (CPU, archive)     (GPU)              (CPU, storage)

`load` never imports torch: its workers stay small.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archives.access import Access
from pipeline.archives.arrival import arriving
from pipeline.archives.opener import Opener
from pipeline.catalogue.commits import UnitFacts, commit_unit, committed_table
from pipeline.catalogue.contract import NetworkColumns
from pipeline.catalogue.rows import Provenance, quarantined_table, replace_rows, unit_table
from pipeline.checkpoints import job_checkpoints
from pipeline.data import (
    CLASSIFIED,
    NOVEL,
    TRANSIENT,
    Chunk,
    ImageContract,
    Integrity,
    NetworkOutput,
    Predictions,
    Product,
    RowFlag,
    Source,
    Status,
    Way,
    WorkUnit,
)
from pipeline.errors import CatalogueError, CheckpointError, SourceError
from pipeline.job import Job
from pipeline.planner.plan import Plan, open_plan
from pipeline.preprocess import contract_image, field_of_view, frame_width, judge, width_to_cut
from pipeline.storage import Storage
from pipeline.surveys import Survey, TileImage
from pipeline.tail import TileTime, slowest

if TYPE_CHECKING:
    from pipeline.catalogue.commits import Manifest
    from pipeline.inference import Predictor

_WAY = "_way"  # of a row, for as long as it is loaded
MASKED_LIMIT = 0.1  # of the cutout, from which the row is flagged


@dataclass(frozen=True)
class Work:
    """What every stage needs to know of the run. Small and picklable: it travels to each worker by value."""

    job: Job
    output: str
    run_id: str
    digest: str
    image: ImageContract
    networks: tuple[NetworkColumns, ...]

    @property
    def storage(self) -> Storage:
        return Storage(self.output)

    @property
    def provenance(self) -> Provenance:
        survey = self.job.survey
        return Provenance(survey=survey.kind, release=survey.release, run_id=self.run_id, networks=self.networks)


def load(work: Work, unit: WorkUnit, chunk: int, access: Access | None = None) -> Chunk:
    """Fetch, cut and draw every source of one chunk. What fails for one source becomes its status.

    `access` is how the process gets at archives, for all its chunks; None: only this chunk counts.
    """
    started = time.perf_counter()
    plan, survey = _opened(work)
    ways = pa.array(unit.chunk_ways(chunk), pa.string())
    rows = pending_rows(work, unit, plan.rows(unit, chunk).append_column(_WAY, ways))
    drawn, bytes_read, slow = _drawn_by_ways(work, survey, access, rows)
    images = [row.image for row in drawn if row.image is not None]
    size = work.image.size
    return Chunk(
        status=np.array([row.status.value for row in drawn], dtype=np.str_),
        reason=np.array([row.reason for row in drawn], dtype=object),
        integrity=np.array([row.integrity for row in drawn], dtype=object),
        flags=np.array([int(row.flags) for row in drawn], dtype=np.int32),
        fov_arcsec=np.array([row.fov_arcsec for row in drawn], dtype=np.float32),
        pixel_scale=np.array([row.pixel_scale for row in drawn], dtype=np.float32),
        masked_fraction=np.array([row.masked_fraction for row in drawn], dtype=np.float32),
        images=np.stack(images) if images else np.empty((0, len(work.image.planes), size, size), np.uint8),
        bytes_read=bytes_read,
        load_seconds=time.perf_counter() - started,
        slow=slow,
    )


def predict(
    networks: Callable[[NDArray[np.uint8]], dict[str, NetworkOutput]], chunk: Chunk, choice: str = ""
) -> Predictions:
    """Run every network of the job over the images of a chunk; images that are novel to one of them are flagged.

    `choice` says how the networks run, for the manifest.
    """
    started = time.perf_counter()
    outputs = networks(chunk.images)
    novel = np.zeros(chunk.rows, dtype=np.bool_)
    novel[chunk.with_image] = np.any([output.novelty >= NOVEL for output in outputs.values()], axis=0)
    return Predictions(
        status=chunk.status,
        reason=chunk.reason,
        integrity=chunk.integrity,
        flags=np.where(novel, chunk.flags | int(RowFlag.OUT_OF_DISTRIBUTION), chunk.flags).astype(np.int32),
        fov_arcsec=chunk.fov_arcsec,
        pixel_scale=chunk.pixel_scale,
        masked_fraction=chunk.masked_fraction,
        with_image=chunk.with_image,
        networks=outputs,
        bytes_read=chunk.bytes_read,
        load_seconds=chunk.load_seconds,
        predict_seconds=time.perf_counter() - started,
        slow=chunk.slow,
        choice=choice,
    )


def commit(work: Work, unit: WorkUnit, parts: Sequence[Predictions]) -> Manifest:
    """Publish the rows of a unit: one Parquet file, then its manifest. A second call changes nothing."""
    return _publish(work, unit, unit_table(_unit_rows(work, unit), parts, work.provenance), parts)


def quarantine(work: Work, unit: WorkUnit, reason: str) -> Manifest:
    """Publish the rows of a unit that failed too often, with the status quarantined."""
    return _publish(work, unit, quarantined_table(_unit_rows(work, unit), reason, work.provenance), ())


def pending_rows(work: Work, unit: WorkUnit, rows: pa.Table) -> pa.Table:
    """The rows that this attempt computes: all in the first, those that failed transiently in later ones."""
    if unit.attempt == 1:
        return rows
    before = committed_table(work.storage, unit.unit_id, unit.attempt - 1, columns=("object_id", "status"))
    transient = pa.array([status.value for status in TRANSIENT])
    failed = before.filter(pa.compute.is_in(before["status"].cast(pa.string()), value_set=transient))
    return rows.filter(pa.compute.is_in(rows["object_id"], value_set=failed["object_id"].combine_chunks()))


def predictor(work: Work) -> Predictor:
    """The networks of the job with their weights, on this process's device.

    Raises CheckpointError where a checkpoint is not the one that the run started with.
    """
    from pipeline.inference import Predictor

    checkpoints = job_checkpoints(work.job)
    for columns in work.networks:
        found = checkpoints[columns.prefix].sha256
        if found != columns.checkpoint:
            raise CheckpointError(
                f"{work.job.networks[columns.prefix].checkpoint}: sha256 {found[:16]} is not the "
                f"{columns.checkpoint[:16]} that the run started with"
            )
    batches = [section.batch for section in work.job.networks.values() if section.batch]
    views = {prefix: section.views for prefix, section in work.job.networks.items()}
    return Predictor(checkpoints, batch=min(batches, default=None), views=views)


def open_survey(job: Job, tiles: pa.Table | None) -> Survey:
    """The survey of the job; `tiles` is the plan's copy of its tile table, None for surveys without one."""
    if tiles is None and job.survey.tile_lists:
        raise CatalogueError("the plan has no tile table")
    return job.survey.build(tiles)


def _unit_rows(work: Work, unit: WorkUnit) -> pa.Table:
    plan, _ = _opened(work)
    return pending_rows(work, unit, plan.rows(unit))


def _publish(work: Work, unit: WorkUnit, table: pa.Table, parts: Sequence[Predictions]) -> Manifest:
    """Commit what this attempt computed, with the rows of the attempt before that it did not touch."""
    if unit.attempt > 1:
        table = replace_rows(committed_table(work.storage, unit.unit_id, unit.attempt - 1), table)
    facts = UnitFacts(
        run_id=work.run_id,
        job_digest=work.digest,
        bytes_read=sum(part.bytes_read for part in parts),
        load_seconds=sum((part.load_seconds for part in parts), 0.0),
        predict_seconds=sum((part.predict_seconds for part in parts), 0.0),
        committed_at=time.time(),
        choices=tuple(sorted({part.choice for part in parts})),
        slow=slowest(tile for part in parts for tile in part.slow),
    )
    return commit_unit(work.storage, unit, table, facts, work.networks)


@dataclass(frozen=True, slots=True)
class DrawnSource:
    """What became of one source: its status, and the image that the networks see where there is one."""

    status: Status
    reason: str = ""
    integrity: Integrity | None = None
    flags: RowFlag = RowFlag(0)
    fov_arcsec: float = float("nan")
    pixel_scale: float = float("nan")
    masked_fraction: float = 0.0
    image: NDArray[np.uint8] | None = None


def _drawn_by_ways(
    work: Work, survey: Survey, access: Access | None, rows: pa.Table
) -> tuple[list[DrawnSource], int, tuple[TileTime, ...]]:
    """Every row in order, the bytes that they took, and the slowest tiles: each way together, as the plan has it."""
    sources, ways = _sources(rows), rows[_WAY].to_pylist()
    drawn: dict[int, DrawnSource] = {}
    times: list[TileTime] = []
    bytes_read = 0
    for way in dict.fromkeys(ways):
        numbers = [number for number, its in enumerate(ways) if its == way]
        wanted = [(sources[number], _width(work.image, sources[number])) for number in numbers]
        with Opener(work.job.mirror, access, work.job.gap if way == "ranges" else None) as opener:
            began, waited = time.perf_counter(), opener.waited
            for number, source in zip(numbers, arriving(survey, opener, wanted, way), strict=True):
                drawn[number] = draw_source(work.image, survey, opener, source, way)
                now, fetch = time.perf_counter(), opener.waited - waited
                times.append(TileTime(source.tile, 1, fetch, now - began - fetch, int(drawn[number].image is None)))
                began, waited = now, opener.waited
            bytes_read += opener.bytes_read
    return [drawn[number] for number in range(len(sources))], bytes_read, slowest(times)


def _width(contract: ImageContract, source: Source) -> float | None:
    """Arcsec of sky to cut around a source."""
    return width_to_cut(contract, field_of_view(contract.fov, source.radius)[0])


def draw_source(contract: ImageContract, survey: Survey, opener: Opener, source: Source, way: Way) -> DrawnSource:
    """Cut one source out of its survey and draw it by the contract; what fails becomes its status."""
    width, limited = field_of_view(contract.fov, source.radius)
    opened: list[Product] = []

    def recording(product: Product) -> TileImage:
        opened.append(product)
        return opener(product)

    try:
        cutout = survey.cut(recording, source, width_to_cut(contract, width), way)
    except SourceError as error:
        return DrawnSource(error.status, str(error), opener.integrity(opened))
    integrity = opener.integrity(opened)
    status, flags, reason = judge(cutout, contract, width)
    flags |= cutout.flags
    if limited:
        flags |= RowFlag.FOV_LIMITED
    if cutout.masked_fraction > MASKED_LIMIT:
        flags |= RowFlag.MASKED
    fov = frame_width(cutout) if width is None else width
    drawn = DrawnSource(status, reason, integrity, flags, fov, cutout.grid.pixel_scale, cutout.masked_fraction)
    if status not in CLASSIFIED:
        return drawn
    return replace(drawn, image=contract_image(cutout, contract, width))


def _sources(rows: pa.Table) -> list[Source]:
    columns: list[list[Any]] = [rows[name].to_pylist() for name in ("object_id", "ra", "dec", "tile", "radius")]
    return [Source(*values) for values in zip(*columns, strict=True)]


@lru_cache(maxsize=4)
def _open(job: str, output: str, run_id: str) -> tuple[Plan, Survey]:
    plan = open_plan(Storage(output))
    if plan is None:
        raise CatalogueError(f"{output} holds no plan")
    return plan, open_survey(Job.model_validate_json(job), plan.tile_table())


def _opened(work: Work) -> tuple[Plan, Survey]:
    """The plan and the survey, opened once a run and process: the next run may have planned the output anew."""
    return _open(work.job.model_dump_json(), work.output, work.run_id)
