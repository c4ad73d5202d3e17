"""One source from the plan to the published file: what happened to it, and where it is now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalogue.commits import committed_table, manifests_of
from pipeline.catalogue.layout import PRIMARY
from pipeline.catalogue.published import PIXEL, Published
from pipeline.data import ObjectId, WorkUnit
from pipeline.errors import CatalogueError, JobError
from pipeline.executors.journal import logged_runs, read_events
from pipeline.planner.plan import UNPLACED, Plan, open_plan
from pipeline.storage import Storage


@dataclass(frozen=True)
class Step:
    """One thing that happened to a source, in order."""

    what: str  # plan, load, predict, commit, catalogue, ...
    message: str
    time: str = ""  # UTC, where it is known


def explain(storage: Storage, text: str) -> list[Step]:
    """What happened to the source with this identifier. Raises CatalogueError where the output does not know it."""
    plan = open_plan(storage)
    if plan is None:
        raise CatalogueError(f"{storage.shown} holds no plan: no run has started here")
    object_id = _identifier(plan, text)
    found = _planned(plan, object_id)
    if found is None:
        return [_unplaced(storage, object_id)]
    unit, row = found
    chunk = next(n for n in range(len(unit.chunks)) if row["row"] < unit.chunk_rows(n)[1])
    way = unit.chunk_ways(chunk)[row["row"] - unit.chunk_rows(chunk)[0]]
    tile = f"tile {row['tile']}" if row["tile"] else "outside the footprint"
    place = f"ra {row['ra']:.6f}, dec {row['dec']:.6f} deg: {tile}, by way `{way}`"
    steps = [Step("plan", f"{place}; unit {unit.unit_id}, chunk {chunk} (row {row['row']} of {unit.part})")]
    steps += _logged(storage, unit.unit_id, chunk, row["tile"])
    steps += _commits(storage, unit.unit_id, object_id)
    return steps


def _identifier(plan: Plan, text: str) -> ObjectId:
    if plan.summary.id_type == "string":
        return text
    if not text.lstrip("-").isdigit():
        raise JobError(f"--id {text}: the identifiers of this run are integers")
    return int(text)


def _planned(plan: Plan, object_id: ObjectId) -> tuple[WorkUnit, dict[str, Any]] | None:
    """The source's unit and its row in the plan. Row groups whose extremes exclude it are not read."""
    for name in plan.part_names():
        with plan.storage.open(name) as file:
            found = _in_part(pq.ParquetFile(file), object_id)
        if found is not None:
            unit = next(u for u in plan.units() if u.part == name and u.start <= found["row"] < u.stop)
            return unit, found
    return None


def _in_part(parquet: pq.ParquetFile, object_id: ObjectId) -> dict[str, Any] | None:
    column, start = parquet.schema_arrow.get_field_index("object_id"), 0
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        extremes = group.column(column).statistics
        if extremes is None or not extremes.has_min_max or extremes.min <= object_id <= extremes.max:
            rows = parquet.read_row_group(number, columns=["object_id", "ra", "dec", "tile"], use_threads=False)
            index = pc.index(rows["object_id"], pa.scalar(object_id, rows["object_id"].type)).as_py()
            if index >= 0:
                return {**rows.slice(index, 1).to_pylist()[0], "row": start + index}
        start += group.num_rows
    return None


def _unplaced(storage: Storage, object_id: ObjectId) -> Step:
    """Raises CatalogueError where no row of the sources that could not be placed has this identifier."""
    if storage.exists(UNPLACED):
        with storage.open(UNPLACED) as file:
            rows = pq.read_table(file)
        for row in rows.to_pylist():
            if row["object_id"] == str(object_id):
                return Step("plan", f"invalid: {row['reason']} (row {row['row']} of the sources)")
    raise CatalogueError(f"{storage.shown}: no source {object_id} was planned")


def _logged(storage: Storage, unit_id: str, chunk: int, tile: str) -> Iterator[Step]:
    """The events of every run that concern the unit, and not only another chunk or tile of it."""
    for run_id in logged_runs(storage):
        for event in read_events(storage, run_id):
            mine = event.get("chunk", chunk) == chunk and event.get("tile", tile) == tile
            if event.get("unit") == unit_id and mine:
                yield Step(event["kind"], _shown(event), event["time"])


def _shown(event: dict[str, Any]) -> str:
    kept = ("tile", "chunk", "attempt", "rows", "seconds", "nodes")
    facts = ", ".join(f"{name} {event[name]}" for name in kept if name in event)
    return f"{event['message']} ({facts}; run {event['run']})" if facts else f"{event['message']} (run {event['run']})"


def _commits(storage: Storage, unit_id: str, object_id: ObjectId) -> Iterator[Step]:
    """Every attempt's row of the source, and where the newest snapshot has it."""
    rows: list[dict[str, Any]] = []
    for manifest in manifests_of(storage, unit_id):
        table = committed_table(storage, unit_id, manifest.attempt)
        mine = table.filter(pc.equal(table["object_id"], pa.scalar(object_id, table["object_id"].type)))
        rows = mine.select([name for name in ("status", "reason", PIXEL) if name in mine.column_names]).to_pylist()
        said = ": ".join(str(value) for value in (rows[0]["status"], rows[0]["reason"]) if value)
        yield Step("row", f"attempt {manifest.attempt} of run {manifest.run_id}: {said} ({manifest.parquet})")
    if not rows:
        yield Step("row", "not committed yet")
        return
    snapshot = storage.pointed("latest")
    if snapshot is None:
        yield Step("catalogue", "not published yet")
        return
    published = Published(storage, f"{snapshot}/{PRIMARY}")
    inside = ((first <= rows[0][PIXEL] < stop) for first, stop in published.ranges.tolist())
    files = [name for name, is_here in zip(published.files(), inside, strict=True) if is_here]
    yield Step("catalogue", files[0] if files else f"{snapshot} has no file for its place")
