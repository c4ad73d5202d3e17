"""An answer as a file: CSV, Parquet, VOTable, FITS or JSON, each with what it can say of units and meanings."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.fits import fits_bytes
from pipeline.catalogue.votable import has_datatype, text_widths, votable_xml
from pipeline.errors import CatalogueError

Writer = Callable[[pa.Table, str], bytes]  # the rows, and what they are called


def csv_bytes(table: pa.Table, name: str) -> bytes:
    """Comma-separated values with a head; a null is empty."""
    from pyarrow import csv

    sink = io.BytesIO()
    csv.write_csv(table, sink)
    return sink.getvalue()


def json_bytes(table: pa.Table, name: str) -> bytes:
    """A list of objects, one a row (schemas/catalogue.schema.json); NaN, which JSON has not, is null."""
    return (json.dumps([_without_nan(row) for row in table.to_pylist()], indent=1, default=str) + "\n").encode()


def parquet_bytes(table: pa.Table, name: str) -> bytes:
    """VOParquet 1.0 where every column has a VOTable datatype, else plain Parquet."""
    from pipeline.catalogue.dataset import votable_bytes
    from pipeline.catalogue.parquet import table_bytes

    described = all(has_datatype(field.type) for field in table.schema)
    return votable_bytes(table, name) if described else table_bytes(table)


def votable_document(table: pa.Table, name: str) -> bytes:
    """A VOTable 1.4 in BINARY2 (IVOA Recommendation 2019, sec. 5.4), nulls kept; text is ASCII, other letters become a
    question mark.

    Raises CatalogueError for a column that no VOTable datatype holds.
    """
    if wrong := [field.name for field in table.schema if not has_datatype(field.type)]:
        raise CatalogueError(f"no VOTable datatype holds {', '.join(wrong)}: leave them out")
    table = pa.table([_plain(column) for column in table.columns], schema=_plain_schema(table.schema))
    widths = {key: max(1, width) for key, width in text_widths(table).items()}
    sizes = {key: str(width) for key, width in widths.items()}
    head, _, tail = votable_xml(table.schema, name, sizes).partition("</TABLE>")
    stream = base64.encodebytes(_binary2(table, widths)).decode()
    data = f'<DATA><BINARY2><STREAM encoding="base64">\n{stream}</STREAM></BINARY2></DATA>\n'
    return f"{head}{data}</TABLE>{tail}".encode()


FORMATS: Mapping[str, Writer] = {
    "csv": csv_bytes,
    "parquet": parquet_bytes,
    "votable": votable_document,
    "fits": fits_bytes,
    "json": json_bytes,
}
SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".vot": "votable", ".votable": "votable", ".xml": "votable"} | {
    ".fits": "fits",
    ".json": "json",
}


def _binary2(table: pa.Table, widths: Mapping[str, int]) -> bytes:
    """The rows: a bit a column that says whether it is null, then the values, big-endian."""
    flags = -(-table.num_columns // 8)
    kinds = [("flags", f"{flags}u1")]
    columns = [_field_data(table[name].combine_chunks(), widths.get(name)) for name in table.column_names]
    kinds += [(f"f{number}", data.dtype.str) for number, data in enumerate(columns)]
    rows = np.zeros(table.num_rows, np.dtype(kinds))
    nulls = [np.asarray(column.combine_chunks().is_null()) for column in table.columns]
    if table.num_rows and nulls:
        rows["flags"] = np.packbits(np.stack(nulls, axis=1), axis=1)
    for number, data in enumerate(columns):
        rows[f"f{number}"] = data
    return rows.tobytes()


def _field_data(values: pa.Array, width: int | None) -> NDArray[np.generic]:
    if width is not None:
        return np.array([(text or "").encode("ascii", "replace") for text in values.to_pylist()], dtype=f"S{width}")
    if pa.types.is_boolean(values.type):
        return np.where(np.asarray(pc.fill_null(values, False)), b"T", b"F").astype("S1")
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False).astype(f">f{values.type.bit_width // 8}")
    return np.asarray(pc.fill_null(values, 0)).astype(f">i{values.type.bit_width // 8}")


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers of the widths that VOTable has."""
    wanted = _wider(column.type)
    return column if wanted == column.type else column.cast(wanted)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_wider(field.type)) for field in schema])


def _wider(kind: pa.DataType) -> pa.DataType:
    widened = {pa.uint8(): pa.int16(), pa.int8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
    return widened.get(kind, kind)


def _without_nan(row: Mapping[str, object]) -> dict[str, object]:
    return {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
