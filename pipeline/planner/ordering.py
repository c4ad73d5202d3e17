"""Staged sources in sky order, and which ids they repeat: DuckDB, sorting on disk under a memory limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.data import Source
from pipeline.planner.staging import BATCH_ROWS, REPEATED, Staged

MEMORY_LIMIT = "512MB"
SAMPLE = 16  # sources that stand for all
THREADS = 2  # each holds buffers of its own

_PREPARE = """
CREATE VIEW staged AS SELECT * FROM read_parquet('{sources}') ANTI JOIN known USING (object_id);
CREATE TABLE repeated AS
    SELECT object_id, min(source_row) AS first FROM staged GROUP BY object_id HAVING count(*) > 1;
CREATE VIEW later AS
    SELECT staged.* FROM staged JOIN repeated USING (object_id) WHERE source_row > first;
CREATE VIEW rejected AS
    SELECT * FROM read_parquet('{rejected}')
    UNION ALL SELECT object_id::VARCHAR, source_row, ra, dec, '{reason}' FROM later;
CREATE VIEW kept AS
    SELECT staged.* FROM staged ANTI JOIN later ON staged.source_row = later.source_row;
CREATE TABLE tiles AS SELECT tile, min(healpix) AS first, count(*) AS rows FROM kept GROUP BY tile;
"""

# Rows outside the footprint ('' as tile) come last. A tile's place is its first HEALPix pixel: exact, and the same
# for every order of the rows, which a mean of floats is not.
_TILES = "SELECT rows FROM tiles WHERE (tile = '') = {outside} ORDER BY first, tile"
_ROWS = """
SELECT kept.* EXCLUDE (source_row, healpix) FROM kept JOIN tiles USING (tile)
ORDER BY kept.tile = '', tiles.first, kept.tile, kept.healpix, kept.object_id
"""


@dataclass(frozen=True)
class Ordered:
    """Staged sources, once each, in the order of the plan: tile after tile along the HEALPix curve."""

    connection: duckdb.DuckDBPyConnection
    schema: pa.Schema
    known: int = 0  # staged rows that were planned before, and are left out

    def rejected(self) -> dict[str, int]:
        """Reason -> number of rows that are no sources, in the order of the reasons' names."""
        counts = "SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY reason"
        return dict(self.connection.execute(counts).fetchall())

    def examples(self, reason: str, most: int) -> list[int]:
        """The first row numbers that were rejected for `reason`."""
        query = "SELECT row FROM rejected WHERE reason = ? ORDER BY row LIMIT ?"
        return [row for (row,) in self.connection.execute(query, [reason, most]).fetchall()]

    def rejected_rows(self) -> pa.Table:
        """Every row that is no source, by row number."""
        return self.connection.sql("SELECT * FROM rejected ORDER BY row").to_arrow_table()

    def tile_count(self) -> int:
        """Tiles inside the footprint."""
        counted = self.connection.execute("SELECT count(*) FROM tiles WHERE tile <> ''").fetchall()
        return int(counted[0][0])

    def tile_rows(self, *, outside: bool) -> Iterator[int]:
        """Rows of each tile, in the order of the plan; `outside`: of the rows outside the footprint."""
        cursor = self.connection.cursor().execute(_TILES.format(outside=outside))
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield from (count for (count,) in rows)

    def sample(self) -> tuple[Source, ...]:
        """The first source inside the footprint, with each of SAMPLE radii that stand for all; () if there is none.

        The radii are quantiles; as many sources as that share of all have none.
        """
        query = "SELECT object_id, ra, dec, tile FROM kept WHERE tile <> '' ORDER BY healpix, object_id LIMIT 1"
        found = self.connection.execute(query).fetchone()
        if found is None:
            return ()
        inside = "FROM kept WHERE tile <> ''"
        share = self.connection.execute(f"SELECT count(radius) / count(*) {inside}").fetchall()[0][0]
        known = round(share * SAMPLE)
        fractions = [(number + 0.5) / known for number in range(known)]
        query = f"SELECT quantile_disc(radius, ?) {inside}"
        radii = self.connection.execute(query, [fractions]).fetchall()[0][0] if known else []
        object_id, ra, dec, tile = found
        every = (*map(float, radii), *[None] * (SAMPLE - known))
        return tuple(Source(object_id, ra, dec, tile, radius) for radius in every)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The sources in the order of the plan, with the plan's columns."""
        reader = self.connection.cursor().sql(_ROWS).to_arrow_reader(BATCH_ROWS)
        for batch in reader:
            yield _as_planned(pa.Table.from_batches([batch]), self.schema)


@contextmanager
def in_sky_order(staged: Staged, folder: Path, known: Iterable[pa.Table] = ()) -> Iterator[Ordered]:
    """The staged sources in the order of the plan; `folder` takes what the sort spills.

    `known` are the object_ids of sources to leave out.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": THREADS,
        "temp_directory": str(folder / "spill"),
    }
    with duckdb.connect(str(folder / "plan.duckdb"), config=settings) as connection:
        connection.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
        connection.execute(f"CREATE TABLE known AS SELECT object_id FROM read_parquet('{staged.sources}') LIMIT 0")
        for ids in known:
            connection.register("ids", ids)
            connection.execute("INSERT INTO known SELECT object_id FROM ids")
        connection.execute(_PREPARE.format(sources=staged.sources, rejected=staged.rejected, reason=REPEATED))
        counts = f"SELECT count(*) FROM read_parquet('{staged.sources}') SEMI JOIN known USING (object_id)"
        yield Ordered(connection, staged.schema, int(connection.execute(counts).fetchall()[0][0]))


def _as_planned(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """Names and types of the plan on columns that DuckDB gave back."""
    return table.rename_columns(schema.names).cast(schema).combine_chunks().to_batches()[0]
