"""Rows as an astropy Table. astropy is passed in: the query client does without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def astropy_table(rows: pa.Table, module: Any) -> Any:
    """A Table of `module`, astropy.table, with units, descriptions and UCDs (in `meta`); nulls are masked, or NaN."""
    table = module.Table()
    for field in rows.schema:
        values = rows[field.name].combine_chunks()
        known = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        missing = np.asarray(values.is_null())
        data = _filled(values)
        masked = missing.any() and not pa.types.is_floating(field.type)
        column = module.MaskedColumn(data, mask=missing) if masked else module.Column(data)
        column.unit, column.description = known.get("unit"), known.get("description")
        if "ucd" in known:
            column.meta["ucd"] = known["ucd"]
        table[field.name] = column
    return table


def _filled(values: pa.Array) -> Any:
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return np.array(pc.fill_null(values, "").to_pylist(), dtype=np.str_)
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(values.type):
        return np.asarray(pc.fill_null(values, False))
    return np.asarray(pc.fill_null(values, 0)) if pa.types.is_integer(values.type) else np.array(values.to_pylist())
