"""VOTables of every serialisation, read in pieces: the values that astropy reads, and nothing from a damaged file."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import MaskedColumn, Table

from pipeline.sources.votable import Damaged, VOTable, open_votable

WAYS = ("tabledata", "binary", "binary2")
HEAD = '<VOTABLE xmlns="http://www.ivoa.net/xml/VOTable/v1.3" version="1.4"><RESOURCE><TABLE>'
TAIL = "</TABLE></RESOURCE></VOTABLE>"


def _everything(rows: int) -> Table:
    rng = np.random.default_rng(1)
    table = Table(
        {
            "id": rng.integers(-(2**62), 2**62, rows),
            "short": rng.integers(-9, 9, rows).astype(np.int16),
            "byte": rng.integers(0, 255, rows).astype(np.uint8),
            "x": rng.normal(size=rows),
            "f": rng.normal(size=rows).astype(np.float32),
            "name": np.array([f"galaxy {n}" * (n % 3) for n in range(rows)]),
            "flag": rng.random(rows) > 0.5,
            "pair": rng.normal(size=(rows, 2)),
        }
    )
    table["n"] = MaskedColumn(rng.integers(0, 9, rows), mask=rng.random(rows) > 0.5)
    table["x"].unit = "deg"
    table["x"][3] = np.nan
    return table


def _read(path: Path, rows: int = 50, **options: Any) -> pa.Table:
    found = open_votable(path)
    return pa.Table.from_batches(found.batches([field.name for field in found.fields], rows, **options))


def _written(path: Path, way: str, rows: int = 200) -> Table:
    table = _everything(rows)
    if way == "binary":
        table["n"] = table["n"].filled(-1)  # which has no way to say that a number is not there
    table.write(path, format="votable", tabledata_format=way, overwrite=True)
    return table


@pytest.mark.parametrize("way", WAYS)
def test_every_serialisation_gives_the_values_that_were_written(way: str, tmp_path: Path) -> None:
    table = _written(tmp_path / "sky.vot", way)
    found = _read(tmp_path / "sky.vot")
    for name in ("id", "short", "byte", "f", "flag"):
        assert found[name].to_pylist() == table[name].tolist(), name
    assert [str(text or "") for text in found["name"].to_pylist()] == table["name"].tolist()
    assert np.array_equal(found["x"].to_numpy(), table["x"].data, equal_nan=True)
    assert np.array_equal(np.array(found["pair"].to_pylist()), table["pair"].data)
    assert found["n"].to_pylist() == table["n"].tolist()
    assert open_votable(tmp_path / "sky.vot").units["x"] == "deg"


@pytest.mark.parametrize("way", WAYS)
def test_columns_come_as_asked_for_and_in_batches(way: str, tmp_path: Path) -> None:
    table = _written(tmp_path / "sky.vot", way, 2500)
    (tmp_path / "sky.vot.gz").write_bytes(gzip.compress((tmp_path / "sky.vot").read_bytes()))
    for name in ("sky.vot", "sky.vot.gz"):
        batches = list(open_votable(tmp_path / name).batches(["x", "id"], 1000))
        assert batches[0].schema.names == ["x", "id"]
        assert sum(batch.num_rows for batch in batches) == 2500
        assert len(batches) > 1
        assert pa.Table.from_batches(batches)["id"].to_pylist() == table["id"].tolist()


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_given_out_before_the_rest_is_read(way: str, tmp_path: Path) -> None:
    """The file is a pipe, whose second half is written once the first rows have come."""
    Table({"id": np.arange(30_000)}).write(tmp_path / "sky.vot", format="votable", tabledata_format=way)
    whole = (tmp_path / "sky.vot").read_bytes()
    os.mkfifo(tmp_path / "pipe.vot")
    came = threading.Event()

    def write() -> None:
        with (tmp_path / "pipe.vot").open("wb") as pipe:
            pipe.write(whole[: len(whole) // 2])
            pipe.flush()
            came.wait(60)
            pipe.write(whole[len(whole) // 2 :])

    writer = threading.Thread(target=write)
    writer.start()
    batches = VOTable(open_votable(tmp_path / "sky.vot").fields, tmp_path / "pipe.vot").batches(["id"], 100)
    rows = next(batches).num_rows
    came.set()
    writer_waited = rows < 30_000
    rows += sum(batch.num_rows for batch in batches)
    writer.join()
    assert (writer_waited, rows) == (True, 30_000)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_cut_anywhere_is_damaged(way: str, tmp_path: Path) -> None:
    path = tmp_path / "sky.vot"
    _written(path, way, 30)
    whole = path.read_bytes()
    for part in (0.05, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(Damaged):
            _read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<VOTABLE><RESOURCE></RESOURCE></VOTABLE>", "holds no table"),
        ('<VOTABLE><RESOURCE><INFO name="QUERY_STATUS" value="ERROR">no table sky</INFO></RESOURCE></VOTABLE>', "sky"),
        (f'{HEAD}<FIELD name="z" datatype="doubleComplex"/>{TAIL}', "'z' is of the type 'doubleComplex'"),
        (f'{HEAD}<FIELD name="m" datatype="int" arraysize="2x2"/>{TAIL}', "arrays of 2x2"),
        (f'{HEAD}<FIELD name="a" datatype="int"/><FIELD name="a" datatype="int"/>{TAIL}', "a column twice: a"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><VOTABLE/>', "declares XML entities"),
        ("<html>busy</html>", "holds no table"),
        ("busy", "is no XML"),
    ],
)
def test_what_is_no_table_is_said(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sky.vot").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_votable(tmp_path / "sky.vot")


def test_a_row_with_a_cell_too_few_is_damaged(tmp_path: Path) -> None:
    rows = "<DATA><TABLEDATA><TR><TD>1</TD><TD>2</TD></TR><TR><TD>3</TD></TR></TABLEDATA></DATA>"
    fields = '<FIELD name="a" datatype="int"/><FIELD name="b" datatype="int"/>'
    (tmp_path / "sky.vot").write_text(f"{HEAD}{fields}{rows}{TAIL}")
    with pytest.raises(Damaged, match="a row has 1 cells, expected 2"):
        _read(tmp_path / "sky.vot")


def test_only_the_first_table_is_read(tmp_path: Path) -> None:
    rows = "<DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA>"
    table = f'<TABLE><FIELD name="a" datatype="int"/>{rows}</TABLE>'
    (tmp_path / "sky.vot").write_text(f"<VOTABLE><RESOURCE>{table}{table}</RESOURCE></VOTABLE>")
    assert _read(tmp_path / "sky.vot")["a"].to_pylist() == [1]
