"""Small plans for the tests: a survey of squares, its sky, and rows made wrong on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data import Cutout, Product, Source, Way
from pipeline.errors import NoCoverage
from pipeline.planner.planning import Division, Plan, UnitSize, plan
from pipeline.storage import Storage
from pipeline.surveys import OpenProduct
from pipeline.surveys.legacy import IMAGE, MASK

SMALL = Division(UnitSize(sources=100, chunk=20))


class Squares:
    """A survey whose tiles are squares of one degree north of the equator."""

    bands: tuple[str, ...] = ("g", "r", "z")
    ways: tuple[Way, ...] = ("file", "ranges")

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        assert np.isfinite(ra).all() and np.isfinite(dec).all(), "a survey never sees what is no position"
        names = [f"{int(x):03d}p{int(y):02d}" if y >= 0 else "" for x, y in zip(ra, dec, strict=True)]
        return np.array(names, dtype=np.str_)

    def products(self, tile: str) -> tuple[Product, ...]:
        images = [Product(tile, "image", band, f"{tile}/{band}.fits.fz", layout=IMAGE) for band in self.bands]
        return (*images, Product(tile, "maskbits", None, f"{tile}/mask.fits.fz", layout=MASK))

    def cutouts(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        return ()

    def cut(self, open_product: OpenProduct, source: Source, width: float | None, way: Way = "file") -> Cutout:
        raise NoCoverage("positions only")


def sky(rows: int = 500, seed: int = 1) -> pa.Table:
    """Sources over 6 x 3 tiles and the sky south of them, some at one place, with columns to pass through."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(100, 106, rows), rng.uniform(-0.5, 3, rows)
    ra[1:4], dec[1:4] = ra[0], dec[0]
    return pa.table(
        {
            "object_id": rng.permutation(rows) + 10**12,
            "ra": ra,
            "dec": dec,
            "radius": rng.gamma(2, 2, rows).astype(np.float32),
            "TYPE": pa.array(["EXP", "DEV", None]).take(pa.array(rng.integers(0, 3, rows))),
            "type": pa.array(rng.integers(0, 9, rows), pa.int16()),
        }
    )


def planned(table: pa.Table, where: Path | str, batch: int = 64, **options: Any) -> Plan:
    return plan(table.to_batches(max_chunksize=batch), Squares(), Storage(str(where)), **{"division": SMALL, **options})


def everything(made: Plan) -> pa.Table:
    return pa.concat_tables(made.rows(unit) for unit in made.units())


def broken(table: pa.Table, column: str, rows: list[int], value: object) -> pa.Table:
    values = table[column].to_pylist()
    for row in rows:
        values[row] = value
    index = table.schema.get_field_index(column)
    return table.set_column(index, column, pa.array(values, table.schema.field(column).type))
