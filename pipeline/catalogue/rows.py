"""The catalogue rows of a work unit: its plan rows and what the networks said of them, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.attention_sky import NEEDED, sky_columns
from pipeline.catalogue.contract import NetworkColumns, unit_schema
from pipeline.catalogue.sky import healpix29
from pipeline.data import CLASSIFIED, UNCERTAINTY, Predictions, Status
from pipeline.errors import UnitError

MANTISSA_BITS = 12  # kept of probabilities and attention: 25 % fewer bytes on disk, relative error 2^-13
PLAN_COLUMNS = ("object_id", "ra", "dec", "radius", "tile")
_CLASSIFIED = [status.value for status in CLASSIFIED]
_SORTED = [("_healpix_29", "ascending"), ("object_id", "ascending")]


@dataclass(frozen=True)
class Provenance:
    """Where the rows of a run come from."""

    survey: str
    release: str
    run_id: str
    networks: tuple[NetworkColumns, ...]


def unit_table(rows: pa.Table, parts: Sequence[Predictions], provenance: Provenance) -> pa.Table:
    """The catalogue rows of a unit, sorted by `_healpix_29` and object_id.

    `rows` are N plan rows, `parts` the predictions of its chunks in row order. A row whose network gave no
    probability between 0 and 1 becomes bad_image. Raises UnitError where the counts differ, an id is there
    twice or a part lacks a network.
    """
    count = sum(len(part.status) for part in parts)
    if count != rows.num_rows or not parts:
        raise UnitError(f"expected predictions for {rows.num_rows} rows, got {count}")
    for part in parts:
        _check_networks(part, provenance.networks)
    probabilities = {
        network.prefix: rounded(_spread([part.networks[network.prefix].probabilities for part in parts], parts))
        for network in provenance.networks
    }  # (N, K) each
    status, reason = _judged(parts, probabilities)
    columns: dict[str, Any] = {
        "status": status,
        "reason": pa.array(reason.tolist(), pa.string()),
        "integrity": pa.array(np.concatenate([part.integrity for part in parts]).tolist(), pa.string()),
        "flags": np.concatenate([part.flags for part in parts]),
    }
    for name in ("fov_arcsec", "pixel_scale", "masked_fraction"):
        columns[name] = _nullable(np.concatenate([getattr(part, name) for part in parts]))
    seen = _Seen(parts, np.isin(status, _CLASSIFIED))
    columns["disagreement"] = seen.column(disagreement(provenance.networks, probabilities, rows.num_rows))
    radius = rows["radius"].to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
    for network in provenance.networks:
        columns |= _network_columns(seen, network, probabilities[network.prefix], radius)
    return _assembled(rows, columns, provenance)


def quarantined_table(rows: pa.Table, reason: str, provenance: Provenance) -> pa.Table:
    """The catalogue rows of a unit that failed too often: every row says so, and no network says anything."""
    columns: dict[str, Any] = {
        "status": np.full(rows.num_rows, Status.QUARANTINED.value),
        "reason": pa.array([reason] * rows.num_rows, pa.string()),
        "flags": np.zeros(rows.num_rows, np.int32),
    }
    return _assembled(rows, columns, provenance)


def replace_rows(before: pa.Table, after: pa.Table) -> pa.Table:
    """The rows of `before`, those that `after` has too taken from `after`.

    Raises UnitError where `after` has a row that `before` has not, or other columns.
    """
    if before.schema != after.schema:
        raise UnitError(f"columns differ between attempts: {sorted(set(before.schema) ^ set(after.schema), key=str)}")
    replaced = pc.is_in(before["object_id"], value_set=after["object_id"].combine_chunks())
    found = pc.sum(replaced).as_py() or 0
    if found != after.num_rows:
        raise UnitError(f"{after.num_rows - found} of {after.num_rows} rows are not in the attempt before")
    return pa.concat_tables([before.filter(pc.invert(replaced)), after]).sort_by(_SORTED)


def disagreement(
    networks: Sequence[NetworkColumns], probabilities: Mapping[str, NDArray[np.float32]], rows: int
) -> NDArray[np.float64]:
    """(N,) bits: the Jensen-Shannon divergence H(mean p) - mean H(p) of what the networks say of each row.

    Lin 1991, IEEE Trans. Inf. Theory 37, 145, eq. 5.1 with equal weights. NaN where they are not two at least, or name
    other classes; in another order will do.
    """
    classes = sorted(networks[0].classes) if networks else []
    if len(networks) < 2 or any(sorted(network.classes) != classes for network in networks):
        return np.full(rows, np.nan)
    said = np.stack([probabilities[n.prefix][:, np.argsort(n.classes)] for n in networks]).astype(np.float64)
    return np.maximum(0, _bits(said.mean(axis=0)) - _bits(said).mean(axis=0))  # rounding may go below


def _bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy (...) of distributions (..., K)."""
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1)


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values with 12 mantissa bits, to the nearest: relative error at most 2^-13 for normal numbers.

    NaN and infinity stay as they are, and so do the few values that would round up to infinity.
    """
    drop = 23 - MANTISSA_BITS
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    with np.errstate(over="ignore"):
        kept = ((bits + np.uint32(1 << (drop - 1))) & ~np.uint32((1 << drop) - 1)).view(np.float32)
    whole = np.isfinite(values) & np.isfinite(kept)  # a NaN of all ones would round to 0
    return np.where(whole, kept, values).astype(np.float32)


def _check_networks(part: Predictions, networks: Sequence[NetworkColumns]) -> None:
    expected = [network.prefix for network in networks]
    if sorted(part.networks) != sorted(expected):
        raise UnitError(f"expected networks {sorted(expected)}, got {sorted(part.networks)}")
    images = int(part.with_image.sum())
    for network in networks:
        output = part.networks[network.prefix]
        shape = (images, len(network.classes))
        want = (shape, shape, (images, 256), network.attention)
        got = (output.logits.shape, output.probabilities.shape, output.maps.shape, tuple(output.attention))
        if got != want:
            raise UnitError(f"{network.prefix}: expected logits, probabilities, maps and attention {want}, got {got}")


def _judged(
    parts: Sequence[Predictions], probabilities: Mapping[str, NDArray[np.float32]]
) -> tuple[NDArray[np.str_], NDArray[np.object_]]:
    """(N,) status and reason; a classified row with a probability outside 0..1, or none, is bad_image."""
    status = np.concatenate([part.status for part in parts]).astype("U16")
    reason = np.concatenate([part.reason for part in parts]).astype(object)
    for prefix, values in probabilities.items():
        possible = (values >= 0) & (values <= 1)  # (N, K)
        wrong = np.isin(status, _CLASSIFIED) & ~possible.all(axis=1)
        for row in np.flatnonzero(wrong):
            value = values[row][~possible[row]][0]
            reason[row] = f"network {prefix} gave the probability {value} for this image"
        status[wrong] = Status.BAD_IMAGE.value
    return status, reason


@dataclass(frozen=True)
class _Seen:
    """The rows of a unit, and which of them the networks classified."""

    parts: Sequence[Predictions]
    classified: NDArray[np.bool_]  # (N,)

    def values(self, of: Callable[[Predictions], NDArray[Any]]) -> NDArray[Any]:
        """(N, ...) what a network said of the M rows that it saw; NaN, or 0 in integers, in the other rows."""
        return _spread([of(part) for part in self.parts], self.parts)

    def column(self, values: NDArray[Any]) -> pa.Array:
        """(N,) numbers as a column: null where the row is not classified or the number undefined."""
        return pa.array(rounded(values), pa.float32(), mask=~self.classified | np.isnan(values))


def _network_columns(
    seen: _Seen, network: NetworkColumns, probabilities: NDArray[np.float32], radius: NDArray[np.float64]
) -> dict[str, pa.Array]:
    """The columns of one network.

    The label is that of the stored, rounded probabilities: readers find the same.
    """
    unseen = ~seen.classified
    known = np.nan_to_num(probabilities)
    labels = np.array(network.classes, dtype=object)[known.argmax(axis=1)]
    columns = {
        network.label: pa.array(labels, pa.string(), mask=unseen),
        network.confidence: pa.array(known.max(axis=1), pa.float32(), mask=unseen),
        network.checkpoint_column: pa.array(np.full(len(labels), network.checkpoint), pa.string(), mask=unseen),
    }
    logits = seen.values(lambda part: part.networks[network.prefix].logits)  # (N, K)
    for index, name in enumerate(network.classes):
        columns[network.probability(name)] = pa.array(probabilities[:, index], pa.float32(), mask=unseen)
        columns[network.logit(name)] = seen.column(logits[:, index])
    for name in UNCERTAINTY:
        columns[network.single(name)] = seen.column(_single(seen, network, name))
    statistics: dict[str, NDArray[Any]] = {name: _statistic(seen, network, name) for name in network.attention}
    fov = np.concatenate([part.fov_arcsec for part in seen.parts]).astype(np.float64)
    statistics |= sky_columns({name: statistics[name].astype(np.float64) for name in NEEDED}, fov, radius)
    columns |= {network.statistic(name): seen.column(values) for name, values in statistics.items()}
    maps = seen.values(lambda part: part.networks[network.prefix].maps)  # (N, 256)
    cells = pa.FixedSizeBinaryArray.from_buffers(pa.binary(256), len(maps), [None, pa.py_buffer(maps.tobytes())])
    columns[network.map] = pc.if_else(pa.array(seen.classified), cells, pa.scalar(None, pa.binary(256)))
    return columns


def _single(seen: _Seen, network: NetworkColumns, name: str) -> NDArray[np.float32]:
    return seen.values(lambda part: getattr(part.networks[network.prefix], name))


def _statistic(seen: _Seen, network: NetworkColumns, name: str) -> NDArray[np.float32]:
    return seen.values(lambda part: part.networks[network.prefix].attention[name])


def _spread(values: Sequence[NDArray[Any]], parts: Sequence[Predictions]) -> NDArray[Any]:
    """(N, ...) what a network said of the M rows that it saw; NaN, or 0 in integers, in the other rows."""
    seen = np.concatenate([part.with_image for part in parts])
    joined = np.concatenate(values)
    fill = np.nan if joined.dtype.kind == "f" else 0
    spread = np.full((len(seen), *joined.shape[1:]), fill, joined.dtype)
    spread[seen] = joined
    return spread


def _check_unique(ids: pa.ChunkedArray) -> None:
    counts = pc.value_counts(ids)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    if repeated:
        raise UnitError(f"{len(repeated)} object_ids are there more than once, {repeated[0]!r} for one")


def _nullable(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _assembled(rows: pa.Table, columns: Mapping[str, Any], provenance: Provenance) -> pa.Table:
    """The columns in the order of the contract, nulls where nothing was said, sorted."""
    _check_unique(rows["object_id"])
    passthrough = pa.schema([field for field in rows.schema if field.name not in PLAN_COLUMNS])
    schema = unit_schema(provenance.networks, rows.schema.field("object_id").type, passthrough)
    constants = {"survey": provenance.survey, "data_release": provenance.release, "run_id": provenance.run_id}
    known = dict(columns)
    known["_healpix_29"] = healpix29(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    arrays = []
    for field in schema:
        if field.name in constants:
            values = pa.repeat(constants[field.name], rows.num_rows)
        elif field.name in rows.schema.names:
            values = rows[field.name]
        else:
            values = known.get(field.name, pa.nulls(rows.num_rows, field.type))
        arrays.append(pa.array(values, field.type) if isinstance(values, np.ndarray) else values)
    return pa.table(arrays, schema=schema).sort_by(_SORTED).combine_chunks()
