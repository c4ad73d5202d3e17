"""What becomes of predictions in the rows of a unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue.parquet import table_bytes
from pipeline.catalogue.rows import quarantined_table, replace_rows, rounded, unit_table
from pipeline.data import Predictions
from pipeline.errors import UnitError
from tests.catalogue_rows import NETWORK, mixed_statuses, plan_rows, predictions, provenance, table_of

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
NETWORK_NAMES = ("net_p_round", "net_label", "net_confidence", "net_att_entropy", "net_checkpoint", "net_att_map")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_rounding_keeps_twelve_bits_of_every_normal_number(value: float) -> None:
    exact = np.array([value], np.float32)
    kept = rounded(exact)
    if abs(value) >= SMALLEST_NORMAL and kept[0] != exact[0]:
        assert abs(float(kept[0]) - value) <= abs(value) * 2**-13
        assert int(kept.view(np.uint32)[0]) % 2**11 == 0
    assert np.isfinite(kept[0])
    assert rounded(kept)[0] == kept[0]


@given(st.floats(0, 1, width=32))
def test_a_rounded_probability_stays_a_probability(value: float) -> None:
    assert 0 <= rounded(np.array([value], np.float32))[0] <= 1


def test_rounding_goes_to_the_nearest() -> None:
    step = np.float32(2**-12)
    values = np.array([1 + 0.4 * step, 1 + 0.6 * step, -1 - 0.6 * step], np.float32)
    np.testing.assert_array_equal(rounded(values), [1, 1 + step, -1 - step])


def test_rounding_keeps_what_is_no_number_and_what_would_overflow() -> None:
    words = [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F7FFFFF]
    values = np.array(words, np.uint32).view(np.float32)
    np.testing.assert_array_equal(rounded(values).view(np.uint32), words)


def one_row(probabilities: list[float], status: str = "ok") -> pa.Table:
    part = predictions([status])
    output = part.networks["net"]
    changed = replace(output, probabilities=np.array([probabilities], np.float32))
    return unit_table(plan_rows(1), [replace(part, networks={"net": changed})], provenance())


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.01, -0.01])
def test_a_network_that_gives_no_probability_makes_a_bad_image(wrong: float) -> None:
    row = one_row([0.5, wrong, 0.5]).to_pylist()[0]
    assert row["status"] == "bad_image"
    assert row["reason"].startswith("network net gave the probability ")
    assert [row[name] for name in NETWORK_NAMES] == [None] * len(NETWORK_NAMES)


def test_the_label_is_the_first_of_the_highest_stored_probabilities() -> None:
    row = one_row([0.2, 0.4, 0.4 + 1e-6]).to_pylist()[0]
    assert (row["net_label"], row["net_confidence"]) == ("spiral", row["net_p_spiral"])
    assert row["net_p_spiral"] == row["net_p_merger"] == pytest.approx(0.4, rel=2**-13)


def test_rows_without_a_classification_have_nulls_and_never_nan() -> None:
    table = table_of(plan_rows(24))
    classified = pc.is_in(table["status"], value_set=pa.array(["ok", "partial"]))
    assert 0 < pc.sum(classified).as_py() < 24
    for name in NETWORK_NAMES:
        assert pc.is_valid(table[name]).equals(classified), name
    for name in ("net_p_round", "net_att_peak_x", "fov_arcsec", "pixel_scale", "masked_fraction"):
        assert pc.is_valid(table[name]).equals(classified), name
        assert not pc.any(pc.is_nan(table[name])).as_py(), name


def test_an_undefined_statistic_is_null_and_leaves_the_row_classified() -> None:
    part = predictions(["ok", "ok"])
    output = part.networks["net"]
    attention = {**output.attention, "entropy": np.array([np.nan, 0.25], np.float32)}
    table = unit_table(
        plan_rows(2), [replace(part, networks={"net": replace(output, attention=attention)})], provenance()
    )
    assert sorted(table["net_att_entropy"].to_pylist(), key=str) == [0.25, None]
    assert table["status"].to_pylist() == ["ok", "ok"]


def split(part: Predictions, at: int) -> list[Predictions]:
    """The same predictions as two chunks."""
    seen = int(part.with_image[:at].sum())
    halves = []
    for rows, images in ((slice(0, at), slice(0, seen)), (slice(at, None), slice(seen, None))):
        output = part.networks["net"]
        arrays = ("logits", "probabilities", "entropy", "spread", "novelty", "maps")
        cut = replace(
            output,
            attention={name: values[images] for name, values in output.attention.items()},
            **{name: getattr(output, name)[images] for name in arrays},
        )
        names = ("status", "reason", "integrity", "flags", "fov_arcsec", "pixel_scale", "masked_fraction", "with_image")
        columns = {name: getattr(part, name)[rows] for name in names}
        halves.append(replace(part, networks={"net": cut}, **columns))
    return halves


def test_the_file_of_a_unit_does_not_depend_on_its_chunks() -> None:
    rows, whole = plan_rows(30), predictions(mixed_statuses(30))
    expected = table_bytes(unit_table(rows, [whole], provenance()))
    for at in (1, 6, 29):
        assert table_bytes(unit_table(rows, split(whole, at), provenance())) == expected


def test_values_stay_with_their_source_when_rows_are_sorted() -> None:
    rows, part = plan_rows(40), predictions(["ok"] * 40)
    ids = rows["object_id"].to_numpy()
    output = part.networks["net"]
    marked = replace(
        output,
        attention={**output.attention, "entropy": ids.astype(np.float32)},
        maps=np.repeat(ids.astype(np.uint8)[:, None], 256, axis=1),
    )
    table = unit_table(rows, [replace(part, networks={"net": marked})], provenance())
    pixels = table["_healpix_29"].to_numpy()
    assert (np.diff(pixels) >= 0).all()
    assert not (table["object_id"].to_numpy() == ids).all()
    for row in table.to_pylist():
        assert row["net_att_entropy"] == row["object_id"]
        assert row["net_att_map"] == bytes([row["object_id"]]) * 256
    by_id = rows.sort_by("object_id").select(["ra", "dec", "radius", "tile", "TYPE"])
    assert table.sort_by("object_id").select(by_id.column_names).to_pylist() == by_id.to_pylist()


def test_sources_at_one_position_are_sorted_by_identifier() -> None:
    rows = plan_rows(3).set_column(1, "ra", pa.array([10.0] * 3)).set_column(2, "dec", pa.array([5.0] * 3))
    assert table_of(rows)["object_id"].to_pylist() == [0, 1, 2]


def test_text_identifiers_keep_their_type() -> None:
    rows = plan_rows(3).set_column(0, "object_id", pa.array(["J1", "J0", "J2"]))
    table = table_of(rows)
    assert table.schema.field("object_id").type == pa.string()
    assert sorted(table["object_id"].to_pylist()) == ["J0", "J1", "J2"]


def test_predictions_for_another_number_of_rows_are_refused() -> None:
    with pytest.raises(UnitError, match="expected predictions for 5 rows, got 4"):
        unit_table(plan_rows(5), [predictions(["ok"] * 4)], provenance())


def test_an_identifier_that_is_there_twice_is_refused() -> None:
    rows = plan_rows(3).set_column(0, "object_id", pa.array([7, 8, 7]))
    with pytest.raises(UnitError, match=r"1 object_ids are there more than once, 7 for one"):
        table_of(rows)


def test_a_chunk_without_a_network_of_the_job_is_refused() -> None:
    part = replace(predictions(["ok"]), networks={})
    with pytest.raises(UnitError, match=r"expected networks \['net'\], got \[\]"):
        unit_table(plan_rows(1), [part], provenance())


@pytest.mark.parametrize("classes", [("round", "spiral"), ("a", "b", "c", "d")])
def test_a_network_with_another_number_of_classes_is_refused(classes: tuple[str, ...]) -> None:
    part = predictions(["ok"], network=replace(NETWORK, classes=classes))
    with pytest.raises(UnitError, match="net: expected logits, probabilities, maps and attention"):
        unit_table(plan_rows(1), [part], provenance())


def test_a_quarantined_unit_says_so_in_every_row() -> None:
    rows = plan_rows(5)
    table = quarantined_table(rows, "the actor died 3 times", provenance())
    assert table.schema.equals(table_of(rows).schema, check_metadata=True)
    assert set(table["status"].to_pylist()) == {"quarantined"}
    assert set(table["reason"].to_pylist()) == {"the actor died 3 times"}
    assert all(table[name].null_count == 5 for name in NETWORK_NAMES)
    assert sorted(table["object_id"].to_pylist()) == [0, 1, 2, 3, 4]


def test_a_retry_replaces_its_rows_and_leaves_the_others() -> None:
    rows = plan_rows(12)
    before = quarantined_table(rows, "died", provenance())
    again = rows.slice(0, 4)
    after = unit_table(again, [predictions(["ok"] * 4)], provenance(run_id="run-2"))
    merged = replace_rows(before, after)
    found = {row["object_id"]: (row["status"], row["run_id"]) for row in merged.to_pylist()}
    for identifier in rows["object_id"].to_pylist():
        retried = identifier in again["object_id"].to_pylist()
        assert found[identifier] == (("ok", "run-2") if retried else ("quarantined", "run-1"))
    assert merged["_healpix_29"].to_pylist() == sorted(merged["_healpix_29"].to_pylist())


def test_a_retry_of_sources_that_were_not_there_is_refused() -> None:
    before = table_of(plan_rows(3))
    with pytest.raises(UnitError, match="2 of 2 rows are not in the attempt before"):
        replace_rows(before, table_of(plan_rows(2, first_id=10)))


def test_a_retry_with_other_columns_is_refused() -> None:
    rows = plan_rows(3)
    with pytest.raises(UnitError, match=r"columns differ .*TYPE"):
        replace_rows(table_of(rows), table_of(rows.drop_columns(["TYPE"])))
