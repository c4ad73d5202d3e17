"""The nearest row of a catalogue for each row of another table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.cells import Points, covering, pairs
from pipeline.catalogue.published import PIXEL
from pipeline.catalogue.regions import Ranges
from pipeline.catalogue.sky import healpix29
from pipeline.errors import CatalogueError

FARTHEST = 3600.0  # arcsec
Reader = Callable[[Ranges, Sequence[str]], pa.Table]  # columns of the rows in given pixels, in the order of the sky


def nearest(table: pa.Table, radius: float, read: Reader, columns: Sequence[str]) -> pa.Table:
    """The rows of `table` that have a row within `radius` arcsec, in their order, with its columns and `separation`.

    Raises CatalogueError for a radius that is none, or a table without positions.
    """
    if not 0 < radius <= FARTHEST:
        raise CatalogueError(f"a match within {radius} arcsec: expected more than 0, at most {FARTHEST:.0f}")
    points, order = _points(table)
    angle = np.radians(radius / 3600)
    place = read(covering(points.pixels, angle), (PIXEL, "ra", "dec"))
    ra, dec = (place[name].to_numpy() for name in ("ra", "dec"))
    left, right, separation = pairs(points, Points.of(place[PIXEL].to_numpy(), ra, dec), angle)
    best = np.lexsort((separation, left))
    best = best[np.unique(left[best], return_index=True)[1]]
    found = pa.array(right[best])
    pixels = np.unique(place[PIXEL].to_numpy()[right[best]])
    rows = read(np.stack([pixels, pixels + 1], axis=1), tuple(dict.fromkeys((PIXEL, "ra", "dec", *columns))))
    chosen = rows.take(_same_rows(rows, place.take(found))).select(list(columns))
    given = table.take(pa.array(order[left[best]]))
    arcsec = pa.array(np.degrees(separation[best]) * 3600)
    taken = set(given.column_names)
    names = [f"{name}_catalogue" if name in taken else name for name in columns]
    joined = [*given.columns, *chosen.columns, pa.chunked_array([arcsec])]
    fields = [*given.schema, *(field.with_name(name) for field, name in zip(chosen.schema, names, strict=True))]
    described = {"unit": "arcsec", "ucd": "pos.angDistance", "description": "Angle between the two positions"}
    fields.append(pa.field("separation", pa.float64(), metadata=described))
    return pa.table(joined, schema=pa.schema(fields)).take(np.argsort(order[left[best]], kind="stable"))


def _points(table: pa.Table) -> tuple[Points, NDArray[np.int64]]:
    """The positions of a table in the order of the sky, and the number of each in the table."""
    names = {name.lower(): name for name in table.column_names}
    if "ra" not in names or "dec" not in names:
        raise CatalogueError(f"the table to match has no ra and dec: its columns are {', '.join(table.column_names)}")
    ra, dec = (pc.cast(table[names[name]], pa.float64()).to_numpy() for name in ("ra", "dec"))
    try:
        pixels = healpix29(ra, dec)
    except ValueError as error:
        raise CatalogueError(f"the table to match: {error}") from error
    order = np.argsort(pixels, kind="stable")
    return Points.of(pixels[order], ra[order], dec[order]), order


def _same_rows(rows: pa.Table, wanted: pa.Table) -> pa.Array:
    """Where in `rows` each of the wanted positions is."""
    keys = [
        list(zip(*(part[name].to_pylist() for name in (PIXEL, "ra", "dec")), strict=True)) for part in (rows, wanted)
    ]
    places = {key: number for number, key in reversed(list(enumerate(keys[0])))}
    return pa.array([places[key] for key in keys[1]], pa.int64())
