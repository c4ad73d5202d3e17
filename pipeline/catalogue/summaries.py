"""What a published catalogue shows of itself: a random sample, and how complete it is over the sky and in magnitude."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.flags import source_column
from pipeline.catalogue.sky import ORDER
from pipeline.data import CLASSIFIED

SAMPLE_ROWS = 10_000
MAP_ORDER = 6  # of the completeness maps: pixels of 55 arcmin
BIN = 0.5  # mag
_MAGNITUDES = ("dered_mag_r", "mag_r")  # columns of the source table, the first that is there
_FLUX, _ZERO_POINT = "flux_r", 22.5  # nanomaggies, AB
_NONE = -1000  # bin of the rows without a magnitude
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Fibonacci hashing (Knuth, TAOCP 3, sec. 6.4)


@dataclass
class Sample:
    """SAMPLE_ROWS rows of a catalogue, the same for the same catalogue: those whose pixel has the lowest hash."""

    most: int = SAMPLE_ROWS
    _held: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        hashed = (rows["_healpix_29"].to_numpy().astype(np.uint64) * _MIX) >> np.uint64(1)
        marked = rows.append_column("_hash", pa.array(hashed.astype(np.int64)))
        if self._held is not None and self._held.num_rows == self.most:
            marked = marked.filter(pc.less(marked["_hash"], pc.max(self._held["_hash"])))
        held = marked if self._held is None else pa.concat_tables([self._held, marked])
        lowest = pc.sort_indices(held, sort_keys=[("_hash", "ascending"), ("object_id", "ascending")])
        self._held = held.take(lowest[: self.most]).combine_chunks()

    def rows(self) -> pa.Table:
        """The sample in the order of the sky. Raises ValueError where nothing was added."""
        if self._held is None:
            raise ValueError("a sample of nothing")
        return self._held.drop_columns(["_hash"]).sort_by([("_healpix_29", "ascending"), ("object_id", "ascending")])


@dataclass
class Completeness:
    """How many sources there are, how many were classified and how many recommended, by pixel and magnitude."""

    classes: tuple[str, ...]  # that rows are recommended for
    _parts: list[pa.Table] = field(default_factory=list)

    def add(self, rows: pa.Table) -> None:
        columns = {
            "healpix": rows["_healpix_29"].to_numpy() >> 2 * (ORDER - MAP_ORDER),
            "bin": _magnitude_bins(rows),
            "classified": pc.is_in(rows["status"], pa.array([status.value for status in CLASSIFIED])),
            **{name: rows[f"recommended_{name}"] for name in self.classes},
        }
        counted = ["classified", *self.classes]
        table = pa.table({name: _counts(values) if name in counted else values for name, values in columns.items()})
        self._parts.append(_grouped(table.append_column("sources", pa.array(np.ones(len(table), np.int64))), counted))
        if len(self._parts) > 100:
            self._parts = [_grouped(pa.concat_tables(self._parts), counted)]

    def table(self) -> pa.Table:
        """One row a pixel and magnitude bin that has sources, by both."""
        counts = _grouped(pa.concat_tables(self._parts), ["classified", *self.classes])
        counts = counts.sort_by([("healpix", "ascending"), ("bin", "ascending")])
        bins = counts["bin"].to_numpy()
        low = pa.array(bins * BIN, pa.float32(), mask=bins == _NONE)
        share = pc.divide(counts["classified"].cast(pa.float32()), counts["sources"].cast(pa.float32()))
        fields = _fields(self.classes)
        columns = [counts["healpix"], low, pc.add(low, pa.scalar(BIN, pa.float32())), counts["sources"]]
        columns += [counts["classified"], share, *(counts[name] for name in self.classes)]
        return pa.table(columns, schema=pa.schema(fields))


def _magnitude_bins(rows: pa.Table) -> NDArray[np.int64]:
    """(N,) the bin of each row's r magnitude, _NONE where the source table has none."""
    for name in _MAGNITUDES:
        column = source_column(rows, name)
        if column is not None and pa.types.is_floating(column.type):
            return _binned(column.to_numpy(zero_copy_only=False))
    flux = source_column(rows, _FLUX)
    if flux is None or not pa.types.is_floating(flux.type):
        return np.full(rows.num_rows, _NONE)
    values = flux.to_numpy(zero_copy_only=False)
    bright = np.where(values > 0, values, np.nan)
    return _binned(_ZERO_POINT - 2.5 * np.log10(bright))


def _binned(magnitudes: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    known = np.isfinite(magnitudes)
    bins = np.full(len(magnitudes), _NONE, np.int64)
    bins[known] = np.floor(magnitudes[known] / BIN).astype(np.int64)
    return bins


def _counts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.int64())


def _grouped(table: pa.Table, counted: list[str]) -> pa.Table:
    names = ["sources", *counted]
    summed = table.group_by(["healpix", "bin"]).aggregate([(name, "sum") for name in names])
    return summed.rename_columns([name.removesuffix("_sum") for name in summed.column_names]).select(
        ["healpix", "bin", *names]
    )


def _fields(classes: tuple[str, ...]) -> list[pa.Field]:
    def field_of(name: str, kind: pa.DataType, meaning: str, ucd: str, unit: str = "") -> pa.Field:
        described = {"description": meaning, "ucd": ucd} | ({"unit": unit} if unit else {})
        return pa.field(name, kind, metadata=described)

    band = "r magnitude of the sources; null where the source table has none"
    return [
        field_of("healpix", pa.int64(), f"HEALPix pixel of order {MAP_ORDER}, NESTED", "pos.healpix"),
        field_of("magnitude_low", pa.float32(), f"Least {band}", "phot.mag;em.opt.R;stat.min", "mag"),
        field_of("magnitude_high", pa.float32(), f"Upper limit of the {band}", "phot.mag;em.opt.R;stat.max", "mag"),
        field_of("sources", pa.int64(), "Sources in the pixel and bin", "meta.number"),
        field_of("classified", pa.int64(), "Of those, classified (status ok or partial)", "meta.number"),
        field_of("completeness", pa.float32(), "Share of the sources that was classified", "stat.value"),
        *(
            field_of(f"recommended_{name}", pa.int64(), f"Sources that are recommended as {name}", "meta.number")
            for name in classes
        ),
    ]
