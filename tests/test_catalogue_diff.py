"""What changed between two snapshots."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.catalogue.diff import Difference, changed_rows, difference
from pipeline.catalogue.hats import finalise
from pipeline.catalogue.query import Catalogue, open_catalogue
from pipeline.catalogue.rows import quarantined_table, replace_rows
from pipeline.cli.asking import show_difference
from pipeline.errors import CatalogueError
from pipeline.storage import Storage
from tests.catalogue_rows import commit, plan_rows, provenance, table_of
from tests.runs import call


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalogue, Catalogue]:
    """A unit of quarantined rows that was tried again, and a new one; rows 0 to 19 and 30 to 34."""
    folder = tmp_path_factory.mktemp("diff")
    storage, rows = Storage(str(folder)), plan_rows(20)
    before = quarantined_table(rows, "died", provenance())
    commit(storage, before, "0unit")
    finalise(storage, name="demo")
    after = replace_rows(before, table_of(rows.slice(0, 12)).set_column(*other_run(before, 12)))
    commit(storage, after, "0unit", attempt=2)
    commit(storage, table_of(plan_rows(5, first_id=30)), "1unit")
    finalise(storage, name="demo")
    return open_catalogue(f"{folder}/snapshots/0001"), open_catalogue(f"{folder}/snapshots/0002")


def other_run(table: pa.Table, rows: int) -> tuple[int, pa.Field, pa.Array]:
    place = table.schema.get_field_index("run_id")
    return place, table.schema.field("run_id"), pa.array(["run-2"] * rows)


def test_a_catalogue_is_no_different_from_itself(snapshots: tuple[Catalogue, Catalogue]) -> None:
    found = difference(snapshots[0], snapshots[0])
    assert (found.empty, found.before, found.after, found.computed) == (True, 20, 20, 0)
    assert changed_rows(snapshots[0], snapshots[0]).num_rows == 0


def test_rows_statuses_and_labels_that_changed_are_counted(snapshots: tuple[Catalogue, Catalogue]) -> None:
    found = difference(*snapshots)
    assert (found.before, found.after, found.added, found.removed, found.computed) == (20, 25, 5, 0, 12)
    new = snapshots[1].where("run_id = 'run-2'").to_table().to_pylist()
    for name in ("status", "net_label"):
        values = [row[name] for row in new]
        old = "quarantined" if name == "status" else None
        assert found.changed[name] == {(old, value): values.count(value) for value in set(values) if value != old}
    back = difference(snapshots[1], snapshots[0])
    assert (back.added, back.removed) == (0, 5)


def test_the_rows_that_changed_are_listed(snapshots: tuple[Catalogue, Catalogue]) -> None:
    rows = changed_rows(*snapshots).to_pylist()
    assert [row["object_id"] for row in rows if row["change"] == "added"] == [30, 31, 32, 33, 34]
    changed = [row for row in rows if row["change"] == "changed"]
    assert len(changed) == 12
    assert {row["status_before"] for row in changed} == {"quarantined"}
    assert all(row["status_after"] != "quarantined" for row in changed)


def test_columns_that_came_and_went_are_named(snapshots: tuple[Catalogue, Catalogue], tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit(storage, table_of(plan_rows(20).drop_columns(["TYPE"])), "0unit")
    finalise(storage, name="demo")
    found = difference(snapshots[0], open_catalogue(str(tmp_path)))
    assert (found.columns_added, found.columns_removed) == ((), ("TYPE",))


def test_identifiers_of_other_types_cannot_be_compared(snapshots: tuple[Catalogue, Catalogue], tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    rows = plan_rows(3).set_column(0, "object_id", pa.array(["a", "b", "c"]))
    commit(storage, table_of(rows), "0unit")
    finalise(storage, name="demo")
    with pytest.raises(CatalogueError, match="object_id is int64 in demo, string in demo"):
        difference(snapshots[0], open_catalogue(str(tmp_path)))


def test_the_verb_says_it_to_people_to_programs_and_to_files(
    snapshots: tuple[Catalogue, Catalogue], tmp_path: Path
) -> None:
    places = [f"{each.table.storage.url}" for each in snapshots]
    shown = call("diff", *places)
    assert (shown.returncode, "20 -> 25" in shown.stdout) == (1, True)
    assert "status: quarantined -> ok" in shown.stdout
    told = call("diff", *places, "--json", "--to", str(tmp_path / "changes.csv"))
    assert json.loads(told.stdout)["added"] == 5
    assert len((tmp_path / "changes.csv").read_text().splitlines()) == 18
    assert call("diff", places[0], places[0]).returncode == 0


def test_labels_that_begin_alike_are_told_apart_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    pairs: dict[tuple[str | None, str | None], int] = {
        ("smooth_and_in_between", "smooth_and_in_the_way"): 3,
        ("smooth_and_in_between", "smooth_and_in_sight"): 4,
    }
    show_difference(Difference(9, 9, 0, 0, 7, {"net_label": pairs}, (), ()))
    shown = capsys.readouterr().out
    assert all(f"net_label: {old} -> {new}" in shown for old, new in pairs)
