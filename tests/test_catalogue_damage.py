"""Damage that no checksum tells, because it was there when the file was sealed: verify finds each kind and names it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.catalogue.hats import finalise
from pipeline.catalogue.verify import verify
from pipeline.storage import Storage
from tests.catalogue_faults import edit, reseal, reseal_unit, rewrite
from tests.catalogue_rows import Patch, commit, plan_rows, table_of

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two dense units where four base pixels meet, so that there are several files and margins."""
    folder = tmp_path_factory.mktemp("sound") / "out"
    for index in range(2):
        rows = plan_rows(500, first_id=500 * index, patch=Patch(ra=44.9, dec=-0.1, width=0.2), seed=index)
        commit(Storage(str(folder)), table_of(rows, seed=index), f"{index}unit")
    finalise(Storage(str(folder)), name="demo", max_rows=400)
    yield folder


@pytest.fixture
def output(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "out", symlinks=True))


def replaced(name: str, value: Callable[[pa.ChunkedArray], pa.Array]) -> Change:
    """A change of one column, whose field stays."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        return table.set_column(place, table.schema.field(name), value(table[name]))

    return change


def first_ok(table: pa.Table) -> int:
    return table["status"].to_pylist().index("ok")


def at_first_ok(name: str, value: object) -> Change:
    """A change of one value of a classified row."""

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[first_ok(table)] = value
        return replaced(name, lambda column: pa.array(values, column.type))(table)

    return change


def shifted_position(table: pa.Table) -> pa.Table:
    dec = table["dec"].to_numpy().copy()
    dec[5] += 1e-3
    return replaced("dec", lambda column: pa.array(dec))(table)


def other_label(table: pa.Table) -> pa.Table:
    label = table["net_label"][first_ok(table)].as_py()
    return at_first_ok("net_label", "round" if label != "round" else "merger")(table)


def unsorted(table: pa.Table) -> pa.Table:
    return table.take(pa.array(np.arange(table.num_rows)[::-1]))


def twice_and_one_lost(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)])


def without_units(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("ra")
    return table.set_column(place, table.schema.field("ra").remove_metadata(), table["ra"])


def wider(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("radius")
    return table.set_column(place, pa.field("radius", pa.float64()), table["radius"].cast(pa.float64()))


ROWS = [
    (unsorted, "its rows are not sorted by _healpix_29"),
    (shifted_position, "1 rows have another position than their _healpix_29"),
    (at_first_ok("net_p_spiral", 0.99), "1 rows have probabilities of net that do not sum to 1"),
    (at_first_ok("net_p_spiral", None), "have probabilities of net without being classified, or the other way"),
    (at_first_ok("net_p_spiral", -0.25), "1 rows have probabilities of net outside 0 to 1"),
    (other_label, "1 rows have another label than the class that net finds most probable"),
    (at_first_ok("net_checkpoint", "d" * 64), "its rows have several checkpoints of net: cccccccccccccccc, dddd"),
    (at_first_ok("status", "fine"), "its rows have the statuses ['fine'], which the contract does not know"),
    (at_first_ok("flags", 1 << 30), "1 rows have flags that the contract does not know"),
    (twice_and_one_lost, "is there more than once"),
    (without_units, "the column ra is not as the contract has it"),
]


@pytest.mark.parametrize(("change", "sentence"), ROWS)
def test_damage_in_the_rows_of_a_unit_is_named(output: Path, change: Change, sentence: str) -> None:
    file = output / "units/0u/0unit/0001.parquet"
    rewrite(file, change)
    reseal_unit(file)
    told = verify(Storage(str(output))).problems
    assert any(sentence in problem for problem in told), told


@pytest.mark.parametrize(("change", "sentence"), [*ROWS[:-1], (without_units, "not those of _common_metadata")])
def test_damage_in_the_rows_of_a_snapshot_is_named(output: Path, change: Change, sentence: str) -> None:
    rewrite(one_of(output, "catalogue"), change)
    assert_named(output, sentence)


def test_a_row_that_was_lost_from_the_snapshot_is_named(output: Path) -> None:
    file = one_of(output, "catalogue")
    lost = pa.parquet.read_table(file)["object_id"][0].as_py()
    rewrite(file, lambda table: table.slice(1))
    assert_named(output, f"rows of the commits are missing or elsewhere, object_id [{lost}]")
    assert_named(output, "snapshots/0001/catalogue has 999 rows in its files, but says 1000")


def test_a_row_in_the_file_of_another_pixel_is_named(output: Path) -> None:
    files = sorted((output / "latest/catalogue/dataset").rglob("Npix=*.parquet"))
    moved = pa.parquet.read_table(files[0]).slice(0, 1)
    rewrite(files[0], lambda table: table.slice(1))
    rewrite(files[1], lambda table: pa.concat_tables([table, moved]).sort_by("_healpix_29"))
    assert_named(output, "1 rows are outside the pixel of their file")


def test_a_partition_that_is_not_listed_is_named(output: Path) -> None:
    info = output / "latest/catalogue/partition_info.csv"
    info.write_text("\n".join(info.read_text().splitlines()[:-1]) + "\n")
    assert_named(output, "rows of the commits are missing")


def test_a_partition_inside_another_is_named(output: Path) -> None:
    info = output / "latest/catalogue/partition_info.csv"
    order, pixel = info.read_text().splitlines()[1].split(",")
    inner = f"Norder={int(order) + 1}/Dir={4 * int(pixel) // 10000 * 10000}"
    folder = output / f"snapshots/0001/catalogue/dataset/{inner}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(one_of(output, "catalogue"), folder / f"Npix={4 * int(pixel)}.parquet")
    info.write_text(f"{info.read_text()}{int(order) + 1},{4 * int(pixel)}\n")
    assert_named(output, "partitions overlap")


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("catalogue/hats.properties", "hats_nrows=1000", "hats_nrows=1001", "1000 rows in its files, but says 1001"),
        ("friendly/hats.properties", "hats_nrows=1000", "hats_nrows=999", "1000 rows in its files, but says 999"),
        ("collection.properties", "pipeline_rows=1000", "pipeline_rows=900", "but snapshots/0001 says 900"),
        ("catalogue/partition_info.csv", "Npix", "Pixel", "cannot be read"),
        ("catalogue/hats.properties", "hats_nrows", "rows", "cannot be read"),
    ],
)
def test_properties_that_lie_are_named(output: Path, file: str, old: str, new: str, sentence: str) -> None:
    edit(output / "snapshots/0001" / file, old, new)
    assert_named(output, sentence)


def test_a_column_of_another_type_is_named(output: Path) -> None:
    rewrite(one_of(output, "catalogue"), wider)
    assert_named(output, "its columns are not those of _common_metadata")


def test_an_index_that_leads_elsewhere_is_named(output: Path) -> None:
    file = output / "latest/index_object_id/dataset/index/part.0.parquet"
    rewrite(file, replaced("_healpix_29", lambda column: pa.array([7, *column.to_pylist()[1:]], pa.int64())))
    assert_named(output, "index_object_id: rows of the catalogue are missing or elsewhere, object_id [0]")


def test_a_margin_with_rows_of_its_own_pixel_is_named(output: Path) -> None:
    margin = one_of(output, "margin_10arcs")
    home = output / "latest/catalogue/dataset" / margin.relative_to(output / "latest/margin_10arcs/dataset")
    inside = pa.parquet.read_table(home).slice(0, 1)
    rewrite(margin, lambda table: pa.concat_tables([table, inside]).sort_by("_healpix_29"))
    assert_named(output, "1 rows are inside the pixel of their file")


def one_of(output: Path, table: str) -> Path:
    """The first file of a dataset."""
    return sorted((output / f"latest/{table}/dataset").rglob("Npix=*.parquet"))[0]


def assert_named(output: Path, sentence: str) -> None:
    """Once sealed again, verify says the sentence, and no checksum is wrong."""
    reseal(output / "snapshots/0001")
    told = verify(Storage(str(output))).problems
    assert any(sentence in problem for problem in told), told
    assert not any("sha256" in problem for problem in told)
