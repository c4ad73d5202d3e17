"""`pipeline cutouts`: the images that a run would classify, written as Parquet files to train on.

The load stage of a run and nothing else draws them, so that what is trained on is what is served:

    <output>/cutouts/<unit>.parquet   a unit's rows: object_id, ra, dec, status, reason, flags, fov_arcsec, `image`
                                      (PNG bytes, null where there is none) and the columns of the source table
    <output>/plan/                    which rows, as of any run

A unit's file is created once. What is there is not drawn again.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data import CLASSIFIED, Chunk, WorkUnit
from pipeline.errors import CatalogueError, JobError
from pipeline.executors.lock import OutputLock
from pipeline.executors.prepare import prepare
from pipeline.executors.publishing import new_run_id
from pipeline.executors.watch import OnLog, StopRequest
from pipeline.job import Job
from pipeline.planner.plan import Plan
from pipeline.stages import Work, load
from pipeline.storage import Storage

FOLDER = "cutouts"
MODES = {1: "L", 3: "RGB"}  # of a PNG, by the number of planes
PLANNED = ("object_id", "ra", "dec", "radius", "tile")  # columns of a plan that come first

OnUnit = Callable[[int, int], None]  # rows written so far, rows in all


@dataclass(frozen=True)
class CutoutSummary:
    """What lies in the output."""

    folder: str
    rows: int  # written, by this call and by earlier ones
    drawn: int  # of these, by this call
    sources: int  # rows of the plan
    images: int
    statuses: dict[str, int]
    stopped: str = ""  # why rows are missing, "" where none is


def write_cutouts(job: Job, output: str, on_log: OnLog, on_unit: OnUnit, stop: StopRequest) -> CutoutSummary:
    """Draw the cutouts of every source of the job; every row is in exactly one file.

    `engine.loads` processes draw, None as many as there are processors. Raises JobError where the image contract has
    neither one nor three planes, and as a run does.
    """
    job, storage = job.anywhere(), Storage(output)
    run_id = new_run_id()
    with OutputLock(storage, run_id):
        prepared = prepare(job, output, run_id, on_log)
        work, plan = prepared.work, prepared.plan
        if len(work.image.planes) not in MODES:
            raise JobError(f"a picture has one or three planes, the networks want {', '.join(work.image.planes)}")
        with _workers(job) as pool:
            drawn = _draw_all(work, plan, pool, on_unit, stop)
        return _summary(storage, plan, drawn, stop)


def cutout_table(rows: pa.Table, chunks: Sequence[Chunk], work: Work) -> pa.Table:
    """The rows of a plan (N) with their images. Raises CatalogueError where the chunks have other rows."""
    status = np.concatenate([chunk.status for chunk in chunks])
    if len(status) != rows.num_rows:
        raise CatalogueError(f"expected the cutouts of {rows.num_rows} rows, got {len(status)}")
    reason = np.concatenate([chunk.reason for chunk in chunks])
    drawn = {
        "status": pa.array(status.tolist(), pa.string()),
        "reason": pa.array(reason.tolist(), pa.string()),
        "flags": np.concatenate([chunk.flags for chunk in chunks]),
        "fov_arcsec": pa.array(np.concatenate([chunk.fov_arcsec for chunk in chunks]), from_pandas=True),
        "image": pa.array([image for chunk in chunks for image in _pictures(chunk)], pa.binary()),
    }
    passing = [name for name in rows.column_names if name not in PLANNED]
    if taken := sorted(set(passing) & set(drawn)):
        raise JobError(f"the source table has columns that cutouts have too: {', '.join(taken)}")
    columns = {name: rows[name] for name in PLANNED} | drawn | {name: rows[name] for name in passing}
    facts = {"survey": work.provenance.survey, "release": work.provenance.release, "contract": asdict(work.image)}
    return pa.table(columns).replace_schema_metadata({"pipeline": json.dumps(facts)})


def _draw_all(work: Work, plan: Plan, pool: ProcessPoolExecutor | None, on_unit: OnUnit, stop: StopRequest) -> int:
    """Every unit that has no file yet, until `stop` says so; the rows that were drawn."""
    written = set(work.storage.list(FOLDER))
    rows = drawn = 0
    for unit in plan.units():
        if stop():
            break
        if _name(unit) not in written:
            table = cutout_table(plan.rows(unit), list(_loaded(work, unit, pool)), work)
            work.storage.create(_name(unit), _parquet(table))
            drawn += unit.rows
        rows += unit.rows
        on_unit(rows, plan.summary.sources)
    return drawn


def _workers(job: Job) -> Any:
    """A pool of processes, or None where one is enough."""
    count = job.engine.loads or os.cpu_count() or 1
    return ProcessPoolExecutor(count, mp_context=get_context("spawn")) if count > 1 else nullcontext()


def _loaded(work: Work, unit: WorkUnit, pool: ProcessPoolExecutor | None) -> Iterator[Chunk]:
    count = len(unit.chunks)
    if pool is None:
        return (load(work, unit, chunk) for chunk in range(count))
    return pool.map(load, [work] * count, [unit] * count, range(count))


def _pictures(chunk: Chunk) -> Iterator[bytes | None]:
    """PNG bytes of every row, None where it has no image."""
    images = iter(chunk.images)
    for has in chunk.with_image:
        yield _png(next(images)) if has else None


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels, MODES[len(image)]).save(data, "PNG")
    return data.getvalue()


def _parquet(table: pa.Table) -> bytes:
    # PNG bytes do not get smaller.
    how = {name: "none" if name == "image" else "zstd" for name in table.column_names}
    data = io.BytesIO()
    pq.write_table(table, data, compression=how)
    return data.getvalue()


def _name(unit: WorkUnit) -> str:
    return f"{FOLDER}/{unit.unit_id}.parquet"


def _summary(storage: Storage, plan: Plan, drawn: int, stop: StopRequest) -> CutoutSummary:
    """Counted from the files, not from what was done. Raises CatalogueError where rows lack or are too many."""
    statuses: Counter[str] = Counter()
    units = {_name(unit) for unit in plan.units()}
    for name in storage.list(FOLDER):
        if name not in units:
            raise CatalogueError(f"{storage.shown}: {PurePath(name).name} is of no unit of the plan")
        with storage.open(name) as file:
            statuses.update(pq.read_table(file, columns=["status"])["status"].to_pylist())
    rows, sources = statuses.total(), plan.summary.sources
    if rows != sources and not stop.reason:
        raise CatalogueError(f"{storage.shown}: cutouts of {rows} of {sources} sources")
    images = sum(statuses[status.value] for status in CLASSIFIED)
    folder = f"{storage.shown}/{FOLDER}"
    return CutoutSummary(folder, rows, drawn, sources, images, dict(sorted(statuses.items())), stop.reason or "")
