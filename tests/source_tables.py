"""The same small table of sources in every format that is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.table import Table

from pipeline.sources.batches import Columns, source_batches

COLUMNS = Columns(object_id="OBJID", ra="ra", dec="dec", radius="shape_r")
SKY = pa.table(
    {
        "OBJID": pa.array([11, 12, 13, 14], pa.int32()),
        "RA": [359.5, 0.25, 10.0, 180.0],
        "DEC": [0.5, -0.25, 80.0, -89.5],
        "SHAPE_R": pa.array([1.5, 0.0, 2.5, 3.5], pa.float32()),
        "TYPE": ["EXP", "DEV", "REX", "E"],
        "FLUX": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], pa.list_(pa.float32(), 2)),
    }
)


def as_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, row_group_size=3)


def as_folder(path: Path, table: pa.Table) -> None:
    path.mkdir()
    pq.write_table(table.slice(0, 1), path / "part-0.parquet")
    pq.write_table(table.slice(1), path / "part-1.parquet")


def as_csv(path: Path, table: pa.Table) -> None:
    pyarrow.csv.write_csv(table.drop_columns("FLUX"), path)


def as_tsv(path: Path, table: pa.Table) -> None:
    options = pyarrow.csv.WriteOptions(delimiter="\t")
    pyarrow.csv.write_csv(table.drop_columns("FLUX"), path, options)


def as_fits(path: Path, table: pa.Table) -> None:
    names = [name for name in table.column_names if name != "FLUX"]
    columns = [table[name].to_numpy() for name in names]
    padded = [name.ljust(6).encode() for name in table["TYPE"].to_pylist()]  # with blanks, as FITS allows
    columns[names.index("TYPE")] = np.array(padded, "S6")
    units = {"RA": "deg", "DEC": "deg", "SHAPE_R": "arcsec"}
    flux = np.array(table["FLUX"].to_pylist(), np.float32).reshape(-1, 2)
    fitsio.write(path, [*columns, flux], names=[*names, "FLUX"], units=[*(units.get(n, "") for n in names), ""])


def as_astropy(path: Path, table: pa.Table, kind: str) -> None:
    made = Table({name: table[name].to_numpy() for name in table.column_names if name != "FLUX"})
    made["TYPE"] = made["TYPE"].astype(np.str_)
    made["RA"].unit = made["DEC"].unit = "deg"
    made.write(path, format=kind)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "sky.parquet": as_parquet,
    "sky": as_folder,
    "sky.csv": as_csv,
    "sky.tsv": as_tsv,
    "sky.fits": as_fits,
    "sky.fits.gz": as_fits,
    "sky.vot": partial(as_astropy, kind="votable"),
    "sky.ecsv": partial(as_astropy, kind="ascii.ecsv"),
}


def read(table: Path | str, columns: Columns = COLUMNS, **options: Any) -> pa.Table:
    return pa.Table.from_batches(source_batches(str(table), columns, **options))


def written(folder: Path, name: str, table: pa.Table = SKY) -> Path:
    WRITERS[name](folder / name, table)
    return folder / name
