"""An answer as a file, read back by the libraries and programs that astronomers read it with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from pipeline.catalogue.fits import fits_bytes, read_bintable
from pipeline.catalogue.formats import FORMATS, SUFFIXES, votable_document
from pipeline.errors import CatalogueError
from tests.catalogue_rows import plan_rows, table_of


def described(name: str, kind: pa.DataType, **known: str) -> pa.Field:
    return pa.field(name, kind, metadata=known)


ROWS = pa.table(
    [
        pa.array([2**53 + 1, 7, -3], pa.int64()),
        pa.array([10.5, None, -0.25], pa.float64()),
        pa.array([0.125, None, 1.0], pa.float32()),
        pa.array(["spiral", None, "it's"], pa.string()),
        pa.array([True, None, False], pa.bool_()),
        pa.array([1, None, -5], pa.int16()),
        pa.array([4_000_000_000, 1, None], pa.uint32()),
        pa.array([200, 1, None], pa.uint8()),
    ],
    schema=pa.schema(
        [
            described("object_id", pa.int64(), ucd="meta.id;meta.main"),
            described("ra", pa.float64(), unit="deg", ucd="pos.eq.ra", description="Right ascension, 'ICRS' " * 5),
            described("p", pa.float32()),
            described("label", pa.string(), description="What it is"),
            described("sound", pa.bool_()),
            described("count", pa.int16()),
            described("wide", pa.uint32()),
            described("byte", pa.uint8()),
        ]
    ),
)


def columns_of(table: object) -> dict[str, list[object]]:
    """Column -> values of an astropy table; None where it is masked or NaN."""
    found: dict[str, list[object]] = {}
    for name in table.colnames:  # type: ignore[attr-defined]
        column = table[name]  # type: ignore[index]
        masks = np.ma.getmaskarray(column)
        values = [None if masked else value for value, masked in zip(column.tolist(), masks, strict=True)]
        found[name] = [None if isinstance(each, float) and each != each else each for each in values]
    return found


EXPECTED = ROWS.to_pydict()


def test_fits_is_read_back_by_astropy_with_units_and_nulls(tmp_path: Path) -> None:
    from astropy.io import fits
    from astropy.table import Table

    (tmp_path / "rows.fits").write_bytes(fits_bytes(ROWS, "demo"))
    with fits.open(tmp_path / "rows.fits", checksum=True, logical_as_bytes=True) as opened:
        assert opened[1].data["sound"].tolist() == [b"T", b"\0", b"F"] or opened[1].data["sound"].tobytes() == b"T\0F"
        opened.verify("exception")
        assert opened[1].name == "demo"
        assert opened[1].header["TUCD1"] == "meta.id;meta.main"
        assert opened[1].header["TCOMM2"].startswith("Right ascension, 'ICRS'")
    (tmp_path / "plain.fits").write_bytes(fits_bytes(ROWS.drop_columns(["sound"]), "demo"))
    table = Table.read(tmp_path / "plain.fits")
    found = columns_of(table)
    assert str(table["ra"].unit) == "deg"
    for name in ("object_id", "ra", "p", "count", "wide", "byte"):
        assert found[name] == EXPECTED[name], name
    assert [None if text in (b"", "") else text for text in found["label"]] == ["spiral", None, "it's"]
    assert len(fits_bytes(ROWS, "demo")) % 2880 == 0


def test_fits_is_read_back_by_fitsio(tmp_path: Path) -> None:
    import fitsio

    (tmp_path / "rows.fits").write_bytes(fits_bytes(ROWS, "demo"))
    rows = fitsio.read(tmp_path / "rows.fits")
    assert rows["object_id"].tolist() == EXPECTED["object_id"]
    assert rows["label"].tolist() == [b"spiral", b"", b"it's"] or rows["label"].tolist() == ["spiral", "", "it's"]


def test_our_reader_of_fits_reads_what_astropy_writes(tmp_path: Path) -> None:
    from astropy.table import Table

    values = {"UNIQ": np.array([4, 2**40, 77]), "weight": np.array([0.5, 1.0, np.pi])}
    Table(values).write(tmp_path / "other.fits")
    header, columns = read_bintable((tmp_path / "other.fits").read_bytes())
    assert header["TFIELDS"] == "2"
    for name, column in values.items():
        np.testing.assert_array_equal(columns[name], column)


def test_a_votable_is_read_back_by_astropy_with_units_and_nulls(tmp_path: Path) -> None:
    from astropy.io.votable import parse_single_table, validate

    file = tmp_path / "rows.vot"
    file.write_bytes(votable_document(ROWS, "demo"))
    with file.open("rb") as opened, (tmp_path / "report").open("w") as report:
        assert validate(opened, report), (tmp_path / "report").read_text()
    read = parse_single_table(file)
    assert [str(field.unit or "") for field in read.fields][:3] == ["", "deg", ""]
    assert read.fields[0].ucd == "meta.id;meta.main"
    found = columns_of(read.to_table())
    found["label"] = [text or None for text in found["label"]]  # a null text is empty to astropy
    for name in EXPECTED:
        assert found[name] == EXPECTED[name], name


def test_csv_json_and_parquet_keep_values_and_nulls(tmp_path: Path) -> None:
    text = pyarrow.csv.read_csv(pa.BufferReader(FORMATS["csv"](ROWS, "demo")))
    assert text["object_id"].to_pylist() == EXPECTED["object_id"]
    assert text["ra"].to_pylist() == EXPECTED["ra"]
    assert json.loads(FORMATS["json"](ROWS, "demo")) == ROWS.to_pylist()
    nan = pa.table({"p": [float("nan"), 1.0]})
    assert json.loads(FORMATS["json"](nan, "demo")) == [{"p": None}, {"p": 1.0}]
    from astropy.table import Table

    rows = ROWS.drop_columns(["sound"])  # astropy cannot stack logical values with nulls
    (tmp_path / "rows.parquet").write_bytes(FORMATS["parquet"](rows, "demo"))
    table = Table.read(tmp_path / "rows.parquet", format="parquet.votable")
    assert str(table["ra"].unit) == "deg"
    plain = pyarrow.parquet.read_table(pa.BufferReader(FORMATS["parquet"](pa.table({"n": [[1], [2]]}), "demo")))
    assert plain["n"].to_pylist() == [[1], [2]]


def test_an_empty_answer_is_a_file_too(tmp_path: Path) -> None:
    from astropy.table import Table

    for kind, write in FORMATS.items():
        assert write(ROWS.slice(0, 0), "demo"), kind
    (tmp_path / "none.vot").write_bytes(votable_document(ROWS.slice(0, 0), "demo"))
    assert len(Table.read(tmp_path / "none.vot", format="votable")) == 0


def test_letters_beyond_ascii_become_question_marks_where_the_format_has_none(tmp_path: Path) -> None:
    from astropy.table import Table

    rows = pa.table({"name": ["Fañanás"]})
    (tmp_path / "rows.fits").write_bytes(fits_bytes(rows, "demo"))
    (tmp_path / "rows.vot").write_bytes(votable_document(rows, "demo"))
    for file in ("rows.fits", "rows.vot"):
        assert str(Table.read(tmp_path / file)["name"][0]) == "Fa?an?s"
    assert json.loads(FORMATS["json"](rows, "demo")) == [{"name": "Fañanás"}]


@pytest.mark.parametrize("kind", ["fits", "votable"])
def test_a_column_that_the_format_cannot_hold_is_named(kind: str) -> None:
    with pytest.raises(CatalogueError, match="lists"):
        FORMATS[kind](pa.table({"lists": [[1]]}), "demo")


def test_every_ending_has_a_format() -> None:
    assert set(SUFFIXES.values()) == set(FORMATS)


@pytest.mark.skipif(
    shutil.which("stilts") is None and "CI" not in os.environ, reason="needs STILTS: apt-get install stilts"
)
def test_stilts_and_so_topcat_reads_every_format_that_it_knows(tmp_path: Path) -> None:
    rows = table_of(plan_rows(40)).drop_columns(["net_att_map"])
    for kind in ("votable", "fits"):
        file = tmp_path / f"rows.{kind}"
        file.write_bytes(FORMATS[kind](rows, "demo"))
        line = ["stilts", "tpipe", f"in={file}", f"ifmt={kind}", "cmd=keepcols 'object_id ra net_p_spiral'", "ofmt=csv"]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr
        found = pyarrow.csv.read_csv(pa.BufferReader(done.stdout.encode()))
        assert found["object_id"].to_pylist() == rows["object_id"].to_pylist()
        np.testing.assert_allclose(found["ra"].to_numpy(), rows["ra"].to_numpy())
        assert found["net_p_spiral"].null_count == rows["net_p_spiral"].null_count
