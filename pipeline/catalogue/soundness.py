"""Whether rows say what a catalogue's rows can say, and published files lie where HATS looks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.contract import catalogue_document, unit_schema
from pipeline.catalogue.published import PIXEL, Published
from pipeline.catalogue.recommended import classes_of
from pipeline.catalogue.sky import healpix29
from pipeline.data import CLASSIFIED, RowFlag, Status

SUM = 1e-3  # by which probabilities may miss 1: each is rounded to 12 bits of mantissa
_FLAGS = sum(flag.value for flag in RowFlag)


def row_columns(schema: pa.Schema, networks: Sequence[str]) -> list[str]:
    """The columns that `row_problems` looks at, those that there are."""
    named = [PIXEL, "object_id", "ra", "dec", "status", "flags"]
    for network in networks:
        named += [f"{network}_p_{name}" for name in classes_of(schema, network)]
        named += [f"{network}_{part}" for part in ("label", "confidence", "checkpoint")]
    return [name for name in named if name in schema.names]


def row_problems(rows: pa.Table, networks: Sequence[str]) -> Iterator[str]:
    """What is wrong with rows that hold `row_columns`: order, positions, statuses, and what the networks say."""
    pixels = rows[PIXEL].to_numpy()
    if (np.diff(pixels) < 0).any():
        yield "its rows are not sorted by _healpix_29"
    ra, dec = (rows[name].to_numpy(zero_copy_only=False) for name in ("ra", "dec"))
    try:
        moved = int((healpix29(ra, dec) != pixels).sum())
    except ValueError as error:
        yield f"a row has no position: {error}"
    else:
        if moved:
            yield f"{moved} rows have another position than their _healpix_29"
    strange = set(pc.unique(rows["status"]).to_pylist()) - {status.value for status in Status}
    if strange:
        yield f"its rows have the statuses {sorted(strange, key=str)}, which the contract does not know"
    unknown = int((rows["flags"].to_numpy() & ~_FLAGS != 0).sum())
    if unknown:
        yield f"{unknown} rows have flags that the contract does not know"
    classified = pc.is_in(rows["status"], pa.array([status.value for status in CLASSIFIED]))
    for network in networks:
        yield from _network_problems(rows, network, np.asarray(classified))


def schema_problems(schema: pa.Schema) -> Iterator[str]:
    """Where the columns of a file differ from the contract: names, types, units, UCDs."""
    document = catalogue_document()
    wanted = unit_schema(
        [], schema.field("object_id").type if "object_id" in schema.names else pa.int64(), pa.schema([])
    )
    shared = {column.name for column in (*document.columns, *document.provenance_columns)}
    for field in wanted:
        if field.name not in shared:
            continue
        if field.name not in schema.names:
            yield f"the column {field.name} is not there"
        elif not schema.field(field.name).equals(field, check_metadata=True):
            difference = _difference(schema.field(field.name), field)
            yield f"the column {field.name} is not as the contract has it: {difference}"


def layout_problems(published: Published, networks: Sequence[str], *, home: bool = True) -> Iterator[str]:
    """What is wrong with a published HATS catalogue: its count, its partitions, its schema and its rows.

    `home`: its rows belong inside their partitions; those of a margin belong outside. Raises FileNotFoundError,
    ValueError, KeyError and pa.ArrowException where it cannot be read at all.
    """
    order = np.argsort(published.ranges[:, 0], kind="stable")
    ranges = published.ranges[order]
    if (ranges[1:, 0] < ranges[:-1, 1]).any():
        yield f"{published.folder}: partitions overlap"
    total = 0
    for index, name in enumerate(published.files()):
        footer = published.footer(index)
        total += int(footer.rows.sum())
        if not footer.metadata.schema.to_arrow_schema().remove_metadata().equals(published.schema, check_metadata=True):
            yield f"{name}: its columns are not those of _common_metadata"
            continue
        yield from (f"{name}: {problem}" for problem in _file_problems(published, index, networks, home))
    said = int(published.properties["hats_nrows"])
    if total != said:
        yield f"{published.folder} has {total} rows in its files, but says {said}"


def _file_problems(published: Published, index: int, networks: Sequence[str], home: bool) -> Iterator[str]:
    """What is wrong with one file; it is read in parts, and each kind of damage is told once."""
    first, stop = published.ranges[index].tolist()
    columns = row_columns(published.schema, networks)
    groups = range(len(published.footer(index).rows))
    found: dict[str, None] = {}
    highest = -1
    for start in range(0, len(groups), 16):
        rows = published.read(index, groups[start : start + 16], columns)
        pixels = rows[PIXEL].to_numpy()
        outside = int(((pixels < first) | (pixels >= stop)).sum())
        if wrong := outside if home else len(pixels) - outside:
            found[f"{wrong} rows are {'outside' if home else 'inside'} the pixel of their file"] = None
        if len(pixels) and pixels[0] < highest:
            found["its rows are not sorted by _healpix_29"] = None
        highest = int(pixels[-1]) if len(pixels) else highest
        if "status" in columns and "flags" in columns:
            found |= dict.fromkeys(row_problems(rows, networks))
    yield from found


def _network_problems(rows: pa.Table, network: str, classified: NDArray[np.bool_]) -> Iterator[str]:
    names = classes_of(rows.schema, network)
    if not names:
        return
    said = np.stack([rows[f"{network}_p_{name}"].to_numpy(zero_copy_only=False) for name in names], axis=1)  # (N, K)
    given = ~np.isnan(said)
    if wrong := int((given.all(axis=1) != classified).sum() + (given.any(axis=1) != given.all(axis=1)).sum()):
        yield f"{wrong} rows have probabilities of {network} without being classified, or the other way round"
    seen = said[given.all(axis=1)]
    if wrong := int(((seen < 0) | (seen > 1)).any(axis=1).sum()):
        yield f"{wrong} rows have probabilities of {network} outside 0 to 1"
    if wrong := int((np.abs(seen.sum(axis=1) - 1) > SUM).sum()):
        yield f"{wrong} rows have probabilities of {network} that do not sum to 1"
    labels = np.array(rows[f"{network}_label"].to_pylist(), dtype=object)[given.all(axis=1)]
    if wrong := int((np.array(names, dtype=object)[seen.argmax(axis=1)] != labels).sum()):
        yield f"{wrong} rows have another label than the class that {network} finds most probable"
    checkpoints = pc.unique(rows[f"{network}_checkpoint"]).drop_null().to_pylist()
    if len(checkpoints) > 1:
        yield f"its rows have several checkpoints of {network}: {', '.join(sorted(sha[:16] for sha in checkpoints))}"


def _difference(found: pa.Field, wanted: pa.Field) -> str:
    if found.type != wanted.type:
        return f"{found.type}, not {wanted.type}"
    return f"{dict(found.metadata or {})}, not {dict(wanted.metadata or {})}" if found.metadata else "its unit is lost"
