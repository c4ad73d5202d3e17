"""The columns of the catalogue: schemas/catalogue.yaml as Arrow schemas with units, UCDs and meanings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict

from pipeline.catalogue.layout import MAP_SUFFIX
from pipeline.catalogue.votable import has_datatype
from pipeline.errors import JobError

EXPERIMENTAL = "; experimental: too few training galaxies stand behind this class"
DEFAULT_PARTS = ("p_", "label", "confidence")  # of a network's columns, by their beginnings: for who names none
_TYPES = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "fixed_size_binary(256)": pa.binary(256),
}


@dataclass(frozen=True)
class NetworkColumns:
    """What one network adds to the catalogue."""

    prefix: str  # its key in the job
    classes: tuple[str, ...]
    attention: tuple[str, ...]  # statistics, without the prefix
    checkpoint: str  # sha256
    untrained: bool
    experimental: tuple[str, ...] = ()  # classes that too few galaxies stand behind

    def probability(self, name: str) -> str:
        return f"{self.prefix}_p_{name}"

    def logit(self, name: str) -> str:
        return f"{self.prefix}_logit_{name}"

    def single(self, name: str) -> str:
        """The column of one number that the network gives: entropy, spread or novelty."""
        return f"{self.prefix}_{name}"

    def statistic(self, name: str) -> str:
        return f"{self.prefix}_att_{name}"

    @property
    def label(self) -> str:
        return f"{self.prefix}_label"

    @property
    def confidence(self) -> str:
        return f"{self.prefix}_confidence"

    @property
    def checkpoint_column(self) -> str:
        return f"{self.prefix}_checkpoint"

    @property
    def map(self) -> str:
        return f"{self.prefix}{MAP_SUFFIX}"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnDocument(_Document):
    """One column, or one pattern of columns with a network's names in braces."""

    name: str
    type: str
    meaning: str
    absent: str  # when the column is null: `never`, or the condition in words
    stage: str
    ucd: str
    unit: str | None = None


class StatisticDocument(_Document):
    meaning: str
    unit: str | None = None
    ucd: str | None = None


class FlagDocument(_Document):
    bit: int
    meaning: str


class CatalogueDocument(_Document):
    """schemas/catalogue.yaml."""

    version: int
    columns: tuple[ColumnDocument, ...]
    network_columns: tuple[ColumnDocument, ...]
    map_columns: tuple[ColumnDocument, ...]
    provenance_columns: tuple[ColumnDocument, ...]
    published_columns: tuple[ColumnDocument, ...]
    statistics: Mapping[str, StatisticDocument]
    statuses: Mapping[str, str]
    flags: Mapping[str, FlagDocument]


class SourceColumnDocument(_Document):
    name: str
    types: tuple[str, ...]
    meaning: str
    required: bool
    ucd: str
    unit: str | None = None


class SourcesDocument(_Document):
    """schemas/sources.yaml."""

    version: int
    columns: tuple[SourceColumnDocument, ...]


def unit_schema(networks: Sequence[NetworkColumns], id_type: pa.DataType, passthrough: pa.Schema) -> pa.Schema:
    """The columns of a unit's file, attention maps included; the source table's own columns follow untouched.

    Raises JobError where a column of the source table is no plain number, boolean or text, or where two columns
    would have one name; as in SQL, case does not tell them apart.
    """
    fields = list(_pipeline_fields(networks, id_type))
    taken = {field.name.lower(): "a column of the pipeline" for field in fields}
    if len(taken) < len(fields):
        raise JobError(f"networks {[network.prefix for network in networks]} give two columns the same name")
    for network in networks[:1]:
        taken |= {
            field.name.lower(): "a published column" for field in recommended_fields(network.prefix, network.classes)
        }
    for field in passthrough:
        if not has_datatype(field.type):
            raise JobError(
                f"column {field.name!r} of the source table has the type {field.type}, which a VOTable cannot "
                "describe: leave it out, or turn it into numbers, booleans or text"
            )
        other = taken.get(field.name.lower())
        if other is not None:
            raise JobError(f"column {field.name!r} of the source table has the name of {other}: rename it")
        taken[field.name.lower()] = "another column of the source table"
    return pa.schema([*fields, *passthrough])


def catalogue_schema(unit: pa.Schema) -> pa.Schema:
    """The published columns: those of a unit without the attention maps."""
    return pa.schema([field for field in unit if not is_map(field)])


def recommended_fields(network: str, classes: Sequence[str]) -> list[pa.Field]:
    """The columns that publishing adds: one a class of the job's first network."""
    columns = catalogue_document().published_columns
    names = [{"{network}": network, "{class}": name} for name in classes]
    return [_field(_replaced(column, each), pa.int64()) for column in columns for each in names]


def maps_schema(unit: pa.Schema) -> pa.Schema | None:
    """The sibling table of attention maps: position, identifier and maps; None where there is no network."""
    maps = [field for field in unit if is_map(field)]
    if not maps:
        return None
    return pa.schema([*(unit.field(name) for name in ("_healpix_29", "object_id", "ra", "dec")), *maps])


def is_map(field: pa.Field) -> bool:
    """Whether a column of a unit holds attention maps."""
    return bool(field.name.endswith(MAP_SUFFIX) and field.type == _TYPES["fixed_size_binary(256)"])


@lru_cache(maxsize=1)
def catalogue_document() -> CatalogueDocument:
    """schemas/catalogue.yaml, read once."""
    return CatalogueDocument.model_validate(_read("catalogue.yaml"))


@lru_cache(maxsize=1)
def sources_document() -> SourcesDocument:
    """schemas/sources.yaml, read once."""
    return SourcesDocument.model_validate(_read("sources.yaml"))


def _read(name: str) -> Any:
    return yaml.safe_load(resources.files("schemas").joinpath(name).read_text(encoding="utf-8"))


def _pipeline_fields(networks: Sequence[NetworkColumns], id_type: pa.DataType) -> Iterator[pa.Field]:
    document = catalogue_document()
    for column in document.columns:
        yield _field(column, id_type)
    for network in networks:
        for column in (*document.network_columns, *document.map_columns):
            yield from (_field(filled, id_type) for filled in _filled(column, network))
    for column in document.provenance_columns:
        yield _field(column, id_type)


def _filled(column: ColumnDocument, network: NetworkColumns) -> Iterator[ColumnDocument]:
    """The columns that a pattern stands for."""
    if "{class}" in column.name:
        for name in network.classes:
            filled = _replaced(column, {"{network}": network.prefix, "{class}": name})
            doubt = EXPERIMENTAL if name in network.experimental else ""
            yield filled.model_copy(update={"meaning": filled.meaning + doubt})
    elif "{statistic}" in column.name:
        for name in network.attention:
            yield _statistic(column, network, name)
    else:
        yield _replaced(column, {"{network}": network.prefix})


def _statistic(column: ColumnDocument, network: NetworkColumns, name: str) -> ColumnDocument:
    known = catalogue_document().statistics.get(name)
    named = _replaced(column, {"{network}": network.prefix}).model_copy(update={"name": network.statistic(name)})
    if known is None:
        meaning = named.meaning.replace("{statistic}", name)
        return named.model_copy(update={"meaning": meaning})
    update = {
        "meaning": named.meaning.replace("{statistic}", known.meaning),
        "unit": known.unit,
        "ucd": known.ucd or named.ucd,
    }
    return named.model_copy(update=update)


def _replaced(column: ColumnDocument, names: Mapping[str, str]) -> ColumnDocument:
    name, meaning = column.name, column.meaning
    for brace, value in names.items():
        name, meaning = name.replace(brace, value), meaning.replace(brace, value)
    return column.model_copy(update={"name": name, "meaning": meaning})


def _field(column: ColumnDocument, id_type: pa.DataType) -> pa.Field:
    meaning = _flags_meaning() if column.name == "flags" else column.meaning
    described = {"unit": column.unit, "ucd": column.ucd, "description": meaning}
    metadata = {key: value for key, value in described.items() if value}
    arrow = id_type if column.type == "id" else _TYPES[column.type]
    return pa.field(column.name, arrow, nullable=column.absent != "never", metadata=metadata)


def _flags_meaning() -> str:
    bits = (f"{1 << flag.bit} {name}" for name, flag in catalogue_document().flags.items())
    return "Sum of bits: " + ", ".join(bits)
