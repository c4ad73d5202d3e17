"""schemas/*.yaml against the code that they describe and the vocabularies that they use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources

import pyarrow as pa
import pytest

from pipeline.catalogue.columns import columns_markdown, row_schema
from pipeline.catalogue.contract import (
    ColumnDocument,
    catalogue_document,
    catalogue_schema,
    maps_schema,
    sources_document,
    unit_schema,
)
from pipeline.catalogue.rows import PLAN_COLUMNS
from pipeline.data import RowFlag, Status
from pipeline.errors import JobError
from tests import catalogue_rows
from tests.catalogue_rows import NETWORK

NOTHING = pa.schema([])


def described_columns() -> Iterator[ColumnDocument]:
    document = catalogue_document()
    yield from document.columns
    yield from document.network_columns
    yield from document.map_columns
    yield from document.provenance_columns
    yield from document.published_columns


def test_the_documented_flags_are_the_bits_of_the_code() -> None:
    documented = {name: 1 << flag.bit for name, flag in catalogue_document().flags.items()}
    assert documented == {flag.name: flag.value for flag in RowFlag}


def test_the_documented_statuses_are_those_of_the_code() -> None:
    assert list(catalogue_document().statuses) == [status.value for status in Status]


def test_every_ucd_is_in_the_controlled_vocabulary() -> None:
    from astropy.io.votable.ucd import parse_ucd

    ucds = [column.ucd for column in described_columns()]
    ucds += [column.ucd for column in sources_document().columns]
    ucds += [statistic.ucd for statistic in catalogue_document().statistics.values() if statistic.ucd]
    for ucd in ucds:
        parse_ucd(ucd, check_controlled_vocabulary=True)


def test_every_unit_is_a_vounit() -> None:
    from astropy.units import Unit

    units = {column.unit for column in described_columns()}
    units |= {column.unit for column in sources_document().columns}
    units |= {statistic.unit for statistic in catalogue_document().statistics.values()}
    known = {Unit(unit, format="vounit").to_string("vounit") for unit in units if unit}
    assert known == {"deg", "arcsec", "arcsec.pixel**-1", "bit"}


def test_every_statistic_of_the_attention_maps_is_documented() -> None:
    from pipeline.models.network import ATTENTION_COLUMNS

    assert set(ATTENTION_COLUMNS) == set(catalogue_document().statistics)


def test_the_columns_of_a_network_stand_between_the_source_and_its_provenance() -> None:
    names = unit_schema([NETWORK], pa.int64(), pa.schema([("TYPE", pa.string())])).names
    start = names.index("net_p_round")
    assert names[:3] == ["_healpix_29", "object_id", "ra"]
    assert names[start - 1] == "disagreement"
    assert names[start:] == [
        "net_p_round", "net_p_spiral", "net_p_merger", "net_label", "net_confidence",
        "net_logit_round", "net_logit_spiral", "net_logit_merger", "net_entropy", "net_spread", "net_novelty",
        *(f"net_att_{name}" for name in NETWORK.attention),
        "net_att_east_arcsec", "net_att_north_arcsec", "net_att_offset_arcsec", "net_att_offset_pa",
        "net_att_peak_arcsec", "net_att_sigma_arcsec", "net_att_offset_radii", "net_att_sigma_radii",
        "net_checkpoint", "net_att_map",
        "survey", "data_release", "tile", "run_id", "TYPE",
    ]  # fmt: skip


def test_a_field_carries_its_unit_ucd_and_meaning() -> None:
    schema = unit_schema([NETWORK], pa.string(), NOTHING)
    assert schema.field("ra").metadata[b"unit"] == b"deg"
    assert schema.field("ra").metadata[b"ucd"] == b"pos.eq.ra;meta.main"
    assert schema.field("object_id").type == pa.string()
    assert b"spiral" in schema.field("net_p_spiral").metadata[b"description"]
    assert b"512 PARTIAL_COVERAGE" in schema.field("flags").metadata[b"description"]
    assert not any(b"{" in field.metadata[b"description"] for field in schema)


def test_a_class_that_few_galaxies_stand_behind_says_so() -> None:
    schema = unit_schema([replace(NETWORK, experimental=("merger",))], pa.int64(), NOTHING)
    doubtful = {field.name for field in schema if b"experimental" in field.metadata[b"description"]}
    assert doubtful == {"net_p_merger", "net_logit_merger"}


def test_a_statistic_of_a_networks_own_is_named_in_its_meaning() -> None:
    network = replace(NETWORK, attention=("head_spread",))
    field = unit_schema([network], pa.int64(), NOTHING).field("net_att_head_spread")
    assert field.metadata[b"description"] == b"Attention of net, no property of the galaxy: head_spread"


def test_columns_of_the_source_table_follow_untouched() -> None:
    field = pa.field("FLUX_R", pa.float64(), metadata={"unit": "nanomaggy", "own": "word"})
    schema = unit_schema([NETWORK], pa.int64(), pa.schema([field]))
    assert schema.field("FLUX_R").equals(field, check_metadata=True)


@pytest.mark.parametrize("name", ["survey", "Data_Release", "net_p_round", "status", "_healpix_29"])
def test_a_source_column_with_the_name_of_a_pipeline_column_is_refused_by_name(name: str) -> None:
    with pytest.raises(JobError, match=f"column '{name}' of the source table has the name of"):
        unit_schema([NETWORK], pa.int64(), pa.schema([(name, pa.string())]))


def test_source_columns_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(JobError, match="column 'type' of the source table"):
        unit_schema([], pa.int64(), pa.schema([("TYPE", pa.string()), ("type", pa.string())]))


@pytest.mark.parametrize("arrow", [pa.list_(pa.float32()), pa.timestamp("us"), pa.uint64(), pa.binary()])
def test_a_source_column_that_a_votable_cannot_describe_is_refused(arrow: pa.DataType) -> None:
    with pytest.raises(JobError, match=r"column 'odd' .* leave it out"):
        unit_schema([], pa.int64(), pa.schema([("odd", arrow)]))


def test_networks_that_give_one_name_twice_are_refused() -> None:
    with pytest.raises(JobError, match=r"networks \['net', 'net'\]"):
        unit_schema([NETWORK, NETWORK], pa.int64(), NOTHING)


def test_the_maps_are_published_apart() -> None:
    unit = unit_schema([NETWORK, replace(NETWORK, prefix="other")], pa.int64(), NOTHING)
    maps = maps_schema(unit)
    assert maps is not None
    assert maps.names == ["_healpix_29", "object_id", "ra", "dec", "net_att_map", "other_att_map"]
    assert not set(catalogue_schema(unit).names) & {"net_att_map", "other_att_map"}
    assert maps_schema(unit_schema([], pa.int64(), NOTHING)) is None


def test_the_source_contract_has_the_columns_of_a_plan() -> None:
    columns = {column.name: column.required for column in sources_document().columns}
    assert [name for name, required in columns.items() if required] == ["object_id", "ra", "dec"]
    assert set(columns) - {"path"} == set(PLAN_COLUMNS) - {"tile"}


@pytest.mark.parametrize(
    ("name", "verb", "made"),
    [("COLUMNS.md", "columns", columns_markdown), ("catalogue.schema.json", "row", row_schema)],
)
def test_what_is_made_of_the_contract_is_in_step(name: str, verb: str, made: Callable[[], str]) -> None:
    stored = (resources.files("schemas") / name).read_text("utf-8")
    assert stored == made(), f"run: pipeline schema {verb} > schemas/{name}"


def test_the_schema_of_a_row_takes_the_rows_of_a_catalogue_and_no_others() -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(row_schema()))
    rows = catalogue_rows.table_of(catalogue_rows.plan_rows(12)).drop_columns(["net_att_map"]).to_pylist()
    assert [error.message for row in rows for error in validator.iter_errors(row)] == []
    lost = {name: value for name, value in rows[0].items() if name != "run_id"}
    for wrong in (lost, {**rows[0], "status": "fine"}, {**rows[0], "net_p_round": "0.5"}, {**rows[0], "ra": None}):
        assert not validator.is_valid(wrong)


def test_a_source_column_with_the_name_of_a_recommendation_is_refused() -> None:
    with pytest.raises(JobError, match="column 'Recommended_spiral' of the source table has the name of a published"):
        unit_schema([NETWORK], pa.int64(), pa.schema([("Recommended_spiral", pa.bool_())]))
