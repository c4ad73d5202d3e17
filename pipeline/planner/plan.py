"""The plan of a run, as it lies in storage: every source in work-unit order, and what the units are.

    plan/part-00000.parquet ...  the sources, one row group a unit: object_id, ra [deg], dec [deg], radius [arcsec],
                                 tile, then the columns that pass through
    plan/units.parquet           one row a WorkUnit
    plan/tiles.parquet           the survey's own table of tiles, where it has one
    plan/plan.json               PlanSummary; written last, so a plan that has it is whole
    plan-0002/ ...               sources that were new when the output was updated: units of their own, the same files
    unplaced.parquet             rows that are no sources (see planner.py)

Reading needs the storage URL alone: a worker in another process opens the same plan. `planner.py` writes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.data import Source, Way, WorkUnit
from pipeline.errors import CatalogueError
from pipeline.storage import Storage
from pipeline.versions import unreadable

FOLDER = "plan"
TILES = f"{FOLDER}/tiles.parquet"
UNPLACED = "unplaced.parquet"
_ID, _PART = re.compile(r"[A-Za-z0-9_-]+"), re.compile(rf"{FOLDER}(-\d{{4,}})?/part-\d{{5,}}\.parquet")

UNIT_SCHEMA = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("chunks", pa.list_(pa.int32()), nullable=False),
        pa.field("tiles", pa.int32(), nullable=False),
        pa.field("ways", pa.list_(pa.struct([("way", pa.string()), ("rows", pa.int32())])), nullable=False),
    ]
)


def folder_name(number: int) -> str:
    """The folder of the plan, and of its updates from number 2 on."""
    return FOLDER if number == 1 else f"{FOLDER}-{number:04d}"


def part_name(folder: str, number: int) -> str:
    """The name of plan file `number`, from 0."""
    return f"{folder}/part-{number:05d}.parquet"


def units_name(folder: str) -> str:
    return f"{folder}/units.parquet"


def summary_name(folder: str) -> str:
    return f"{folder}/plan.json"


class UnitSize(BaseModel):
    """How much is committed together, and how much is loaded together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: int = Field(default=4096, ge=1, description="most sources of a work unit")
    chunk: int = Field(default=512, ge=1, description="most sources of one load task")


class PlanSummary(BaseModel):
    """What was planned, by counting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1  # of the plan's format
    fingerprint: str  # of the sources and the job, as the caller gave it
    size: UnitSize
    id_type: Literal["int64", "string"]
    sources: int  # rows of the plan
    outside: int  # of those, rows outside the survey's footprint
    tiles: int  # distinct tiles of the rows inside it
    units: int
    chunks: int
    pieces: Mapping[Way, Mapping[int, int]]  # way -> sources -> parts of tiles with so many that a chunk opens
    sample: tuple[Source, ...]  # of those inside: their radii stand for all
    parts: int
    invalid: Mapping[str, int] = {}  # reason -> rows of unplaced.parquet

    @property
    def rows_in(self) -> int:
        """Rows of the source table: each is a row of the plan or of unplaced.parquet."""
        return self.sources + sum(self.invalid.values())

    @property
    def openings(self) -> int:
        """Tiles that chunks open, all chunks together: a tile counts again in each chunk that it meets."""
        return sum(sum(counts.values()) for counts in self.pieces.values())


@dataclass(frozen=True)
class Plan:
    """A whole plan. Holds no rows: they are read unit by unit."""

    storage: Storage
    summary: PlanSummary  # of the plan with its updates
    updates: int = 0

    @property
    def folders(self) -> list[str]:
        """Where the plan and its updates lie."""
        return [folder_name(number) for number in range(1, self.updates + 2)]

    @property
    def schema(self) -> pa.Schema:
        """The columns of every row, in order."""
        name = part_name(FOLDER, 0)
        with self.storage.open(name) as file, _sound(name):
            return pq.read_schema(file).remove_metadata()

    def units(self) -> Iterator[WorkUnit]:
        """Every unit in plan order, then those of the updates; a thousand or so are in memory at a time.

        Raises CatalogueError where a file is damaged.
        """
        for folder in self.folders:
            yield from self._units(units_name(folder))

    def part_names(self) -> list[str]:
        """The files of the sources, in plan order."""
        return [name for folder in self.folders for name in self.storage.list(folder) if "/part-" in name]

    def object_ids(self) -> Iterator[pa.Table]:
        """The identifiers of all sources, a plan file at a time."""
        for name in self.part_names():
            with self.storage.open(name) as file, _sound(name):
                yield pq.read_table(file, columns=["object_id"])

    def _units(self, name: str) -> Iterator[WorkUnit]:
        with self.storage.open(name) as file, _sound(name):
            for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    ways = tuple((run["way"], run["rows"]) for run in row["ways"])
                    yield _named(WorkUnit(**{**row, "chunks": tuple(row["chunks"]), "ways": ways}))

    def rows(self, unit: WorkUnit, chunk: int | None = None) -> pa.Table:
        """The sources of `unit`, or of one of its chunks; nothing else of the plan is read.

        Raises CatalogueError where the plan is damaged or holds no such unit.
        """
        try:
            with self.storage.open(unit.part) as file, _sound(unit.part):
                parquet = pq.ParquetFile(file)
                table = parquet.read_row_group(_row_group(parquet.metadata, unit))
        except FileNotFoundError as error:
            raise CatalogueError(f"{unit.part} is planned but is not there") from error
        table = table.replace_schema_metadata(None)
        if chunk is None:
            return table
        start, stop = unit.chunk_rows(chunk)
        return table.slice(start - unit.start, stop - start)

    def tile_table(self) -> pa.Table | None:
        """The survey's table of tiles as `keep_tiles` stored it, None where it was not."""
        if not self.storage.exists(TILES):
            return None
        with self.storage.open(TILES) as file, _sound(TILES):
            return pq.read_table(file)


def open_plan(storage: Storage) -> Plan | None:
    """The plan in `storage` with its updates, None where there is none or its writing was cut short.

    Raises CatalogueError where plan.json is not a plan's summary.
    """
    found: list[PlanSummary] = []
    while (summary := _summary(storage, summary_name(folder_name(len(found) + 1)))) is not None:
        found.append(summary)
    return Plan(storage, merged(found), len(found) - 1) if found else None


def merged(summaries: Sequence[PlanSummary]) -> PlanSummary:
    """What a plan and its updates hold together. A tile of several counts in each; the last says what is invalid."""
    pieces: dict[Way, Counter[int]] = {}
    for summary in summaries:
        for way, counts in summary.pieces.items():
            pieces.setdefault(way, Counter()).update(counts)
    counted = ("sources", "outside", "tiles", "units", "chunks", "parts")
    return summaries[-1].model_copy(
        update={
            **{name: sum(getattr(summary, name) for summary in summaries) for name in counted},
            "pieces": {way: dict(sorted(counts.items())) for way, counts in pieces.items()},
            "sample": next((summary.sample for summary in summaries if summary.sample), ()),
        }
    )


def _summary(storage: Storage, name: str) -> PlanSummary | None:
    try:
        return PlanSummary.model_validate_json(storage.read(name))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CatalogueError(unreadable(f"{storage.shown}/{name}", error)) from None


def keep_tiles(storage: Storage, tiles: pa.Table) -> None:
    """Store the survey's table of tiles beside the plan, so that workers need not ask the archive for it."""
    sink = pa.BufferOutputStream()
    pq.write_table(tiles, sink, compression="zstd")
    storage.replace(TILES, sink.getvalue().to_pybytes())


def _named(unit: WorkUnit) -> WorkUnit:
    """The unit, whose id and part become names of files. Raises ValueError where one would lead elsewhere."""
    if not _ID.fullmatch(unit.unit_id) or not _PART.fullmatch(unit.part):
        raise ValueError(f"no unit: {unit.unit_id!r} of {unit.part!r}")
    return unit


@contextmanager
def _sound(name: str) -> Iterator[None]:
    """Tell a damaged file from a disk or store that does not answer, which may the next time."""
    try:
        yield
    except KeyError as error:
        raise CatalogueError(f"{name} is damaged: it has no column {error}") from error
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        # Of the system, or of a store that is silent. Errors of Arrow itself have no number either.
        if getattr(error, "errno", None) is not None or isinstance(error, TimeoutError | ConnectionError):
            raise
        raise CatalogueError(f"{name} is damaged: {error}") from error


def _row_group(metadata: pq.FileMetaData, unit: WorkUnit) -> int:
    start = 0
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if (start, start + rows) == (unit.start, unit.stop):
            return number
        start += rows
    raise CatalogueError(f"{unit.part} holds no unit of rows {unit.start} to {unit.stop}")
