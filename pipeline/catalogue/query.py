"""Ask a published catalogue: by place, identifier, condition or SQL. Needs pyarrow, duckdb and numpy, nothing heavier.

catalogue = open_catalogue("out")
catalogue.cone(149.8, 0.1, 60).where("dmagnet_p_spiral > 0.8").select("object_id", "dmagnet_label").to_table()
catalogue.sql("SELECT dmagnet_label, count(*) FROM catalogue GROUP BY 1")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.catalogue.conditions import answer, condition_columns, known_column
from pipeline.catalogue.layout import COLLECTION, INDEX, LATEST, MAP_SUFFIX, MAPS, PROPERTIES
from pipeline.catalogue.properties import parsed_properties
from pipeline.catalogue.published import PIXEL, Published
from pipeline.catalogue.regions import Box, Cone, PixelSet, Ranges, Region, common
from pipeline.catalogue.scan import Wanted, rows_of
from pipeline.data import ObjectId
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


@dataclass(frozen=True)
class Catalogue:
    """A published catalogue, or a part of it. Nothing is read before rows are asked for.

    `cone`, `box`, `moc`, `ids`, `where`, `select` and `limit` give a smaller part; several of one kind all hold.
    """

    table: Published
    attention: Published | None = None  # the attention maps
    index: Published | None = None  # of the identifiers
    regions: tuple[Region, ...] = ()
    wanted_ids: tuple[ObjectId, ...] | None = None
    conditions: tuple[str, ...] = ()
    chosen: tuple[str, ...] | None = None  # columns, None for all
    most: int | None = None  # rows

    @property
    def name(self) -> str:
        return self.table.properties["obs_collection"]

    @property
    def rows(self) -> int:
        """Rows of the whole catalogue."""
        return int(self.table.properties["hats_nrows"])

    @property
    def schema(self) -> pa.Schema:
        """The columns with their units, UCDs and meanings as field metadata."""
        return self.table.schema

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    @property
    def default_columns(self) -> tuple[str, ...]:
        """What most people want: who, where, the status, and each network's answer."""
        named = self.table.properties.get("hats_cols_default", "").split()
        return tuple(name for name in named if name in self.columns) or self.columns

    @property
    def untrained(self) -> tuple[str, ...]:
        """Prefixes of the networks whose weights were random."""
        return tuple(self.table.properties.get("pipeline_untrained", "").split())

    def cone(self, ra: float, dec: float, radius: float) -> Catalogue:
        """The rows within `radius` arcsec of a position in degrees.

        Raises CatalogueError for a position that is none, or a radius outside 0..180 degrees.
        """
        return self._inside(Cone(ra, dec, radius))

    def box(self, ra1: float, ra2: float, dec1: float, dec2: float) -> Catalogue:
        """The rows between two right ascensions and two declinations, degrees; ra1 > ra2 goes across RA 0."""
        return self._inside(Box(ra1, ra2, dec1, dec2))

    def moc(self, file: str) -> Catalogue:
        """The rows in a coverage map: a MOC in FITS, JSON or ASCII, by path or URL."""
        from pipeline.catalogue.moc import moc_ranges

        folder, _, name = file.rpartition("/")
        return self._inside(PixelSet(moc_ranges(Storage(folder or ".").read(name))))

    def ids(self, *object_ids: ObjectId) -> Catalogue:
        """The rows with these identifiers. Raises CatalogueError where the catalogue's are of another type."""
        self._identifiers(object_ids)
        return replace(self, wanted_ids=object_ids)

    def where(self, condition: str) -> Catalogue:
        """The rows that fulfil a condition in SQL. Raises CatalogueError where it names a column that is not there."""
        condition_columns(condition, self.columns)
        return replace(self, conditions=(*self.conditions, condition))

    def select(self, *columns: str) -> Catalogue:
        """These columns only. Raises CatalogueError, with the nearest name, for one that is not there."""
        known = self.columns
        return replace(self, chosen=tuple(dict.fromkeys(known_column(name, known) for name in columns)))

    def limit(self, rows: int) -> Catalogue:
        """At most so many rows, the first in the order of the sky."""
        return replace(self, most=rows if self.most is None else min(rows, self.most))

    def to_table(self) -> pa.Table:
        """The rows, in the order of the sky."""
        return self._read(self.chosen or self.columns)

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas data frame. Raises CatalogueError where pandas is not installed."""
        _needed("pandas")
        return self.to_table().to_pandas()

    def to_astropy(self) -> Any:
        """The rows as an astropy Table with units, UCDs and descriptions. Raises CatalogueError without astropy."""
        from pipeline.catalogue.astropy_table import astropy_table

        return astropy_table(self.to_table(), _needed("astropy.table"))

    def to_duckdb(self) -> duckdb.DuckDBPyRelation:
        """The rows as a DuckDB relation, to be asked on."""
        import duckdb

        return duckdb.from_arrow(self.to_table(), connection=duckdb.connect())

    def count(self) -> int:
        """How many rows there are."""
        if not (self.regions or self.conditions or self.wanted_ids is not None or self.most is not None):
            return self.rows
        return self._read((PIXEL,)).num_rows

    def statuses(self) -> dict[str, int]:
        """Status -> rows of the whole catalogue."""
        counted = self.sql("SELECT status, count(*) AS rows FROM catalogue GROUP BY status ORDER BY status")
        return dict(zip(counted["status"].to_pylist(), counted["rows"].to_pylist(), strict=True))

    def match(self, table: pa.Table, radius: float = 1.0) -> pa.Table:
        """Each row of a table with the nearest row of the catalogue within `radius` arcsec, where there is one.

        `table` has positions in columns `ra` and `dec`, degrees, in any case. Its columns come first, then the
        catalogue's (with `_catalogue` behind a name that both have) and `separation` in arcsec.
        """
        from pipeline.catalogue.crossmatch import nearest

        whole = replace(self, most=None)
        found = nearest(
            table, radius, lambda ranges, columns: whole._read(columns, ranges), self.chosen or self.columns
        )
        return found if self.most is None else found.slice(0, self.most)

    def sql(self, query: str) -> pa.Table:
        """The answer of DuckDB to one SELECT of the view `catalogue`: the whole catalogue, or this part of it.

        The query may be anybody's: it cannot reach files, the network, Python's variables or DuckDB's settings.
        Raises CatalogueError for one that fails or would change something.
        """
        part = bool(self.regions or self.conditions or self.chosen or self.most is not None) or bool(self.wanted_ids)
        return answer(query, self.to_table() if part else self.table.dataset(), self.columns)

    def maps(self, object_ids: Sequence[ObjectId]) -> dict[ObjectId, dict[str, NDArray[np.uint8]]]:
        """object_id -> network -> (16, 16) attention map, row 0 the northern edge; those that there are.

        Raises CatalogueError where the catalogue has no maps, or its identifiers are of another type.
        """
        if self.attention is None:
            raise CatalogueError(f"catalogue {self.name} has no attention maps")
        names = [name for name in self.attention.schema.names if name.endswith(MAP_SUFFIX)]
        maps = Catalogue(self.attention, index=self.index).ids(*object_ids).select("object_id", *names).to_table()
        return {row["object_id"]: _images(row) for row in maps.to_pylist()}

    def _inside(self, region: Region) -> Catalogue:
        return replace(self, regions=(*self.regions, region))

    def _read(self, columns: Sequence[str], ranges: Ranges | None = None) -> pa.Table:
        """Columns of the rows of this part; `ranges` are more pixels that hold all that is wanted."""
        regions = list(self.regions)
        if ranges is not None:
            regions.append(PixelSet(ranges))
        identifiers = None
        if self.wanted_ids is not None:
            identifiers = self._identifiers(self.wanted_ids)
            if self.index is not None:
                regions.append(PixelSet(_indexed(self.index, identifiers)))
        needed = [condition_columns(condition, self.columns) for condition in self.conditions]
        wanted = Wanted(
            columns=tuple(columns),
            positions=(
                self.table.properties.get("hats_col_ra", "ra"),
                self.table.properties.get("hats_col_dec", "dec"),
            ),
            regions=tuple(regions),
            identifiers=identifiers,
            condition=" AND ".join(f"(\n{condition}\n)" for condition in self.conditions),
            condition_columns=tuple(dict.fromkeys(name for names in needed for name in names)),
            most=self.most,
        )
        return rows_of(self.table, wanted, common(regions))

    def _identifiers(self, object_ids: Sequence[ObjectId]) -> pa.Array:
        kind = self.schema.field("object_id").type
        try:
            return pa.array(object_ids, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise CatalogueError(f"object_id is {kind} here: {error}") from error


def open_catalogue(url: str) -> Catalogue:
    """The catalogue at a path or fsspec URL: an output of a run (its latest snapshot), a snapshot of it, or any
    HATS collection or catalogue. Raises CatalogueError where there is none.
    """
    storage = Storage(url)
    for prefix in _places(storage):
        if (data := _found(storage, f"{prefix}{COLLECTION}")) is not None:
            return _collection(storage, prefix, parsed_properties(data))
    if _found(storage, PROPERTIES) is not None:
        return Catalogue(Published(storage, ""))
    raise CatalogueError(
        f"{storage.shown}: no published catalogue here; `pipeline finalise` publishes what is committed"
    )


def _places(storage: Storage) -> Iterator[str]:
    """Where the collection may lie, below the storage."""
    yield ""
    if storage.protocol == "http":  # a link on the server's disk leads there by itself
        yield f"{LATEST}/"
    elif folder := storage.pointed(LATEST):
        yield f"{folder}/"


def _found(storage: Storage, name: str) -> bytes | None:
    try:
        return storage.read(name)
    except FileNotFoundError:
        return None


def _collection(storage: Storage, prefix: str, collection: Mapping[str, str]) -> Catalogue:
    attention = Published(storage, f"{prefix}{MAPS}") if f"{MAPS}." in collection.get("all_extensions", "") else None
    index = Published(storage, f"{prefix}{INDEX}") if INDEX in collection.get("all_indexes", "").split() else None
    return Catalogue(Published(storage, f"{prefix}{collection['hats_primary_table_url']}"), attention, index)


def _indexed(index: Published, identifiers: pa.Array) -> Ranges:
    """The pixels of the rows with these identifiers, by the index."""
    from pipeline.catalogue.index import indexed_pixels

    pixels = np.unique(indexed_pixels(index, identifiers))
    return np.stack([pixels, pixels + 1], axis=1)


def _needed(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        name = module.partition(".")[0]
        raise CatalogueError(f"this needs {name}, which the query client does without: pip install {name}") from error


def _images(row: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
    cells = {name: data for name, data in row.items() if name.endswith(MAP_SUFFIX) and data is not None}
    return {
        name.removesuffix(MAP_SUFFIX): np.frombuffer(data, np.uint8).reshape(16, 16) for name, data in cells.items()
    }
