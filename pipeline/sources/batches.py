"""Tables of positions to batches of sources: which columns to take, which sky, and one type for each.

A batch has the columns object_id (int64 or string), ra, dec (float64, deg), radius (float32, arcsec) and path where
they are named, source_row (the row of the table, from 0), and then the columns that pass through, untouched.
Formats are in tables.py, the survey's own tables in sweeps.py. What makes a row no source is the planner's to say.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import JobError
from pipeline.sources.tables import OpenTable, open_table

Open = Callable[[Path], OpenTable]
RESERVED = ("object_id", "ra", "dec", "radius", "path", "tile", "source_row")  # columns of a batch or of the plan
UNITS = {"ra": ("deg", "degree", "degrees"), "dec": ("deg", "degree", "degrees"), "radius": ("arcsec",)}


PRESETS: Mapping[str, Mapping[str, Any]] = {"gz_desi": {"max_mag_r": 19.0, "types": ("REX", "EXP", "DEV", "SER")}}
"""Name -> keys of `Selection`."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Frozen):
    """The names of the columns in the user's table. Upper and lower case are one where that is no ambiguity."""

    object_id: str = "object_id"  # integers or text, unique
    ra: str = "ra"  # deg, ICRS
    dec: str = "dec"  # deg, ICRS
    radius: str | None = None  # arcsec, half-light
    path: str | None = None  # of the FITS file of each source, for the survey `files`


class Region(_Frozen):
    """A cone on the sky."""

    ra: Annotated[float, Field(ge=0, le=360)]  # deg
    dec: Annotated[float, Field(ge=-90, le=90)]  # deg
    radius: Annotated[float, Field(gt=0, le=180)]  # deg

    def contains(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) True within the radius, along the great circle; False for NaN."""
        return separation(self.ra, self.dec, ra, dec) <= self.radius


class TapQuery(_Frozen):
    """A query to a TAP service, in ADQL, whose answer is the source table."""

    url: str = Field(pattern=r"^https?://")  # of the service, without /sync or /async
    query: str = Field(min_length=1)
    maxrec: int | None = Field(default=None, gt=0)  # rows; None: the service's own limit, and an error beyond it
    patience: float = Field(default=86_400.0, gt=0)  # s that the query may take


class Selection(_Frozen):
    """Which rows of the survey's own tables are galaxies to classify.

    `max_mag_r` is of the dereddened r magnitude, 22.5 - 2.5 log10(FLUX_R / MW_TRANSMISSION_R); rows without a
    positive flux have none and stay out. No MASKBITS exclude a row by default: masked pixels become a fraction and
    a flag of the row. Of the bits, 12 (GALAXY) marks large galaxies and should stay in; bits 0-7, 11, 14 and 15
    are what MultimodalUniverse drops (reference archives.md 1.3).

    `preset` names a published selection, of which single keys may still be given: `gz_desi` is Galaxy Zoo DESI's,
    r < 19 and no point source (Walmsley et al. 2023, MNRAS 526, 4768).
    """

    preset: Literal["gz_desi"] | None = None

    types: tuple[str, ...] = ("REX", "EXP", "DEV", "SER")  # not PSF (point sources), not DUP (no light of their own)
    max_mag_r: float | None = None
    exclude_maskbits: tuple[Annotated[int, Field(ge=0, le=30)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        preset = PRESETS.get(str(values.get("preset"))) if isinstance(values, dict) else None
        return values if preset is None else {**preset, **values}


def source_batches(
    table: str | Open,
    columns: Columns | None = None,
    *,
    pass_through: Sequence[str] | None = None,
    region: Region | None = None,
    limit: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """The sources of `table`, in table order, at most `limit` and inside `region`.

    `table` is a path or fsspec URL, or what opens a table, given a folder for its files.

    pass_through: further columns to take; None takes all. Rows without a position are in no region.
    Raises JobError for a table that cannot be read, is empty, or lacks a column, naming the nearest.
    """
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        opened = open_table(table, Path(folder)) if isinstance(table, str) else table(Path(folder))
        names = _resolved(opened, columns or Columns())
        others = _others(opened, names, pass_through)
        numbers = {names[key] for key in UNITS if key in names}
        row = 0
        left = limit
        for raw in opened.read(list(dict.fromkeys([*names.values(), *others])), numbers):
            batch = taken(_canonical(raw, names, others, row, opened.name), region, left)
            row += raw.num_rows
            yield batch
            left = None if left is None else left - batch.num_rows
            if left == 0:
                return
    if row == 0:
        raise JobError(f"the table {opened.name} has no rows")


def taken(batch: pa.RecordBatch, region: Region | None, limit: int | None) -> pa.RecordBatch:
    """The rows inside `region`, the first `limit` of them."""
    if region is not None:
        ra, dec = (column.to_numpy(zero_copy_only=False) for column in (batch.column("ra"), batch.column("dec")))
        batch = batch.filter(pa.array(region.contains(ra, dec)))
    return batch if limit is None else batch.slice(0, limit)


def separation(
    ra: float, dec: float, others_ra: NDArray[np.float64], others_dec: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) deg along the great circle from (ra, dec) to each of the others: haversine, exact for small angles."""
    half_dec = np.radians(others_dec - dec) / 2
    half_ra = np.radians(others_ra - ra) / 2
    cosines = np.cos(np.radians(dec)) * np.cos(np.radians(others_dec))
    chord = np.sin(half_dec) ** 2 + cosines * np.sin(half_ra) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(chord, 0, 1))))


def resolve(wanted: str, opened: OpenTable) -> str:
    """The table's own name of the column `wanted`. Raises JobError, with the nearest names, where it has none."""
    if wanted in opened.columns:
        return wanted
    same = [column for column in opened.columns if column.lower() == wanted.lower()]
    if len(same) == 1:
        return same[0]
    if same:
        raise JobError(f"column {wanted!r} of {opened.name} could be any of {', '.join(same)}: write it as there")
    folded = {column.lower(): column for column in opened.columns}
    nearest = [folded[name] for name in difflib.get_close_matches(wanted.lower(), folded, n=3)]
    hint = f"the nearest are {', '.join(nearest)}" if nearest else f"it has {', '.join(opened.columns[:20])}"
    raise JobError(f"the table {opened.name} has no column {wanted!r}; {hint}")


def _resolved(opened: OpenTable, columns: Columns) -> dict[str, str]:
    """Canonical name -> the table's name. Raises JobError for a column in another unit."""
    wanted = {key: name for key, name in columns.model_dump().items() if name is not None}
    names = {key: _named(key, name, opened) for key, name in wanted.items()}
    for key, units in UNITS.items():
        unit = opened.units.get(names.get(key, ""), "").strip().lower()
        if unit and unit not in units:
            raise JobError(f"column {names[key]!r} of {opened.name} is in {unit!r}, {key} is wanted in {units[0]}")
    return names


def _named(key: str, name: str, opened: OpenTable) -> str:
    try:
        return resolve(name, opened)
    except JobError as error:
        raise JobError(f"{error}; say which one it is: --set sources.columns.{key}=NAME") from None


def _others(opened: OpenTable, names: Mapping[str, str], pass_through: Sequence[str] | None) -> list[str]:
    if pass_through is None:
        others = [column for column in opened.columns if column not in names.values()]
    else:
        others = [resolve(column, opened) for column in dict.fromkeys(pass_through)]
    for column in others:
        if column in RESERVED:
            raise JobError(
                f"column {column!r} of {opened.name} cannot pass through: the plan has a column of that name. "
                f"Name the columns that should (sources.pass_through), or say that it is the {column} (sources.columns)"
            )
    return others


def _canonical(
    raw: pa.RecordBatch, names: Mapping[str, str], others: Sequence[str], row: int, table: str
) -> pa.RecordBatch:
    """The batch's columns by their canonical names and in their types. `row` is the number of its first row."""
    columns = {"object_id": _ids(raw.column(names["object_id"]), names["object_id"], row, table)}
    for key, type_ in (("ra", pa.float64()), ("dec", pa.float64()), ("radius", pa.float32())):
        if key in names:
            columns[key] = _numbers(raw.column(names[key]), type_, names[key], table)
    if "path" in names:
        columns["path"] = _texts(raw.column(names["path"]), names["path"], table)
    columns["source_row"] = pa.array(np.arange(row, row + raw.num_rows))
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    fields += [raw.schema.field(name) for name in others]
    return pa.RecordBatch.from_arrays(
        [*columns.values(), *(raw.column(name) for name in others)], schema=pa.schema(fields)
    )


def _ids(column: pa.Array, name: str, row: int, table: str) -> pa.Array:
    """Integers as int64, texts as string."""
    if not pa.types.is_integer(column.type):
        return _texts(column, name, table)
    if column.type == pa.uint64():
        wide = pc.fill_null(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())), False)
        if pc.any(wide).as_py():
            first = row + pc.index(wide, True).as_py()
            raise JobError(f"column {name!r} of {table}, row {first}: the id does not fit int64; give ids as text")
    return column.cast(pa.int64())


def _texts(column: pa.Array, name: str, table: str) -> pa.Array:
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_null(type_)):
        raise JobError(f"column {name!r} of {table} holds {type_}, which names nothing: integers or text are wanted")
    return column.cast(pa.string())


def _numbers(column: pa.Array, wanted: pa.DataType, name: str, table: str) -> pa.Array:
    type_ = column.type
    if not (
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_null(type_)
    ):
        raise JobError(f"column {name!r} of {table} holds {type_}: decimal degrees or arcsec are wanted")
    return column.cast(wanted, safe=False)
