"""Ask a published catalogue: by cone, by SQL, by identifier. Needs pyarrow, duckdb and numpy, nothing heavier.

catalogue = open_catalogue("out")
catalogue.cone(149.8, 0.1, 60, columns=["object_id", "dmagnet_label"])
catalogue.sql("SELECT dmagnet_label, count(*) FROM catalogue GROUP BY 1")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.contract import MAP_SUFFIX
from pipeline.catalogue.dataset import PROPERTIES
from pipeline.catalogue.properties import parsed_properties
from pipeline.catalogue.published import Published
from pipeline.catalogue.sky import angles, cone_ranges, healpix29, unit_vectors
from pipeline.catalogue.snapshots import COLLECTION, LATEST, MAPS
from pipeline.data import ObjectId
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

# Nobody's SQL reads or writes a file, not even DuckDB's own when memory runs out, nor reads a variable of Python.
_LOCKED: dict[str, Any] = {
    "enable_external_access": False,
    "temp_directory": "",
    "lock_configuration": True,
}


@dataclass(frozen=True)
class Catalogue:
    """A published catalogue, open for reading. Nothing is read before it is asked for."""

    table: Published
    attention: Published | None  # the attention maps

    @property
    def name(self) -> str:
        return self.table.properties["obs_collection"]

    @property
    def rows(self) -> int:
        return int(self.table.properties["hats_nrows"])

    @property
    def schema(self) -> pa.Schema:
        """The columns with their units, UCDs and meanings as field metadata."""
        return self.table.schema

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    @property
    def untrained(self) -> tuple[str, ...]:
        """Prefixes of the networks whose weights were random."""
        return tuple(self.table.properties.get("pipeline_untrained", "").split())

    def statuses(self) -> dict[str, int]:
        """Status -> rows."""
        counted = self.sql("SELECT status, count(*) AS rows FROM catalogue GROUP BY status ORDER BY status")
        return dict(zip(counted["status"].to_pylist(), counted["rows"].to_pylist(), strict=True))

    def cone(self, ra: float, dec: float, radius: float, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows within `radius` arcsec of a position in degrees, in the order of the sky.

        Opens only the files whose HEALPix pixels the cone touches. Raises CatalogueError for a position that is
        none, a radius outside 0..180 degrees, or a column that is not there.
        """
        wanted = self._known(columns)
        if not 0 <= radius <= 180 * 3600:
            raise CatalogueError(f"a cone of {radius} arcsec: expected 0 to 648000")
        try:
            healpix29(np.array([ra]), np.array([dec]))
        except ValueError as error:
            raise CatalogueError(f"a cone around ra {ra}, dec {dec}: that is no position on the sky") from error
        ranges = cone_ranges(ra, dec, radius / 3600)
        pixel = pc.field("_healpix_29")
        inside = reduce(or_, ((pixel >= int(first)) & (pixel < int(stop)) for first, stop in ranges))
        read = list(dict.fromkeys([*wanted, "ra", "dec"]))
        rows = self.table.dataset(self.table.overlapping(ranges)).to_table(columns=read, filter=inside)
        centre = unit_vectors(np.array([ra]), np.array([dec]))[0]
        distances = angles(unit_vectors(rows["ra"].to_numpy(), rows["dec"].to_numpy()), centre)
        return rows.filter(pa.array(distances <= np.radians(radius / 3600))).select(wanted)

    def sql(self, query: str) -> pa.Table:
        """The answer of DuckDB to one query of the view `catalogue`.

        The query may be anybody's: it cannot reach files, the network, Python's variables or DuckDB's settings.
        Raises CatalogueError for one that fails.
        """
        with duckdb.connect(config=_LOCKED) as connection:
            connection.register("catalogue", self.table.dataset())
            try:
                answer = connection.sql(query)
                if answer is None:
                    raise CatalogueError(f"there is no query in {query!r}")
                return answer.to_arrow_table()
            except duckdb.Error as error:
                raise CatalogueError(f"the query failed: {error}") from error

    def maps(self, object_ids: Sequence[ObjectId]) -> dict[ObjectId, dict[str, NDArray[np.uint8]]]:
        """object_id -> network -> (16, 16) attention map, row 0 the northern edge; those that there are.

        Raises CatalogueError where the catalogue has no maps, or its identifiers are of another type.
        """
        if self.attention is None:
            raise CatalogueError(f"catalogue {self.name} has no attention maps")
        schema = self.attention.schema
        names = [name for name in schema.names if name.endswith(MAP_SUFFIX)]
        try:
            wanted = pa.array(object_ids, schema.field("object_id").type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise CatalogueError(f"object_id is {schema.field('object_id').type} here: {error}") from error
        rows = self.attention.dataset().to_table(
            columns=["object_id", *names], filter=pc.field("object_id").isin(wanted)
        )
        return {row["object_id"]: _images(row) for row in rows.to_pylist()}

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        missing = sorted(set(columns or ()) - set(self.columns))
        if missing:
            raise CatalogueError(f"no column {', '.join(missing)} in the catalogue {self.name}")
        return list(self.columns if columns is None else columns)


def open_catalogue(url: str) -> Catalogue:
    """The catalogue at a path or fsspec URL: an output of a run (its latest snapshot), a snapshot of it, or any
    HATS collection or catalogue. Raises CatalogueError where there is none.
    """
    storage = Storage(url)
    folder = storage.pointed(LATEST) or ""
    prefix = f"{folder}/" if folder else ""
    if storage.exists(f"{prefix}{COLLECTION}"):
        collection = parsed_properties(storage.read(f"{prefix}{COLLECTION}"))
        attention = (
            Published(storage, f"{prefix}{MAPS}") if f"{MAPS}." in collection.get("all_extensions", "") else None
        )
        return Catalogue(Published(storage, f"{prefix}{collection['hats_primary_table_url']}"), attention)
    if storage.exists(PROPERTIES):
        return Catalogue(Published(storage, ""), None)
    raise CatalogueError(f"{url}: no published catalogue here; `pipeline finalise` publishes what is committed")


def _images(row: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
    cells = {name: data for name, data in row.items() if name.endswith(MAP_SUFFIX) and data is not None}
    return {
        name.removesuffix(MAP_SUFFIX): np.frombuffer(data, np.uint8).reshape(16, 16) for name, data in cells.items()
    }
