"""Tables in the formats that astronomers keep them in, by path or fsspec URL, as Arrow batches.

Parquet (a file, or a folder of them), CSV, TSV, FITS and VOTable are streamed; FITS and VOTable files behind a URL are
first copied to a temporary folder. ECSV is read whole: it is text, and small where it is used. A CSV has no types: a
column that looks like integers is integers, so ids with leading zeros belong in another format.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from yaml import YAMLError

from pipeline.errors import ArchiveUnreachable, JobError
from pipeline.sources.votable import open_votable
from pipeline.storage import without_credentials

BATCH_ROWS = 65_536
CSV_BLOCK = 8 << 20  # bytes; the types of a CSV's columns are those of its first block

PARQUET = (".parquet", ".parq", ".pq")
CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")  # fields apart by a comma, or by a tab
FITS = (".fits", ".fit", ".fits.gz")
VOTABLE = (".vot", ".votable", ".xml", ".vot.gz")
ECSV = (".ecsv",)

Read = Callable[[Sequence[str], Collection[str]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class OpenTable:
    """A table whose columns are known and whose rows have not been read."""

    name: str  # for messages
    columns: tuple[str, ...]
    units: Mapping[str, str]  # column -> unit, where the table gives one
    read: Read  # (the columns to read, those of them that are numbers) -> batches of one schema


def open_table(url: str, folder: Path) -> OpenTable:
    """The table at `url`; `folder` takes a copy where the format needs a local file.

    Raises JobError where it is missing, damaged or in no known format, ArchiveUnreachable where a server fails.
    The batches raise the same.
    """
    name = without_credentials(url)
    with readable(name):
        filesystem, path = fsspec.core.url_to_fs(url)
        suffix = without_credentials(path).lower()  # of https, `path` is the URL, with a token for instance
        if suffix.endswith(PARQUET):
            return _parquet(name, filesystem, [path])
        if suffix.endswith(CSV):
            return _csv(name, filesystem, path)
        if suffix.endswith((*FITS, *VOTABLE, *ECSV)):
            copy = local_copy(filesystem, path, folder)
            if suffix.endswith(VOTABLE):
                return votable(name, copy)
            return open_fits(name, copy) if suffix.endswith(FITS) else _ecsv(name, copy)
        if filesystem.isdir(path):
            return _parquet(name, filesystem, _parquet_files(filesystem, path))
        if filesystem.exists(path):
            known = ", ".join((*PARQUET, *CSV, *FITS, *VOTABLE, *ECSV))
            raise JobError(f"the name of the table {name} should end in one of {known}, to tell its format")
        raise FileNotFoundError(path)


def open_fits(name: str, path: Path) -> OpenTable:
    """The first table of a FITS file. Padding of text columns is cut off. Raises JobError."""
    import fitsio

    def first_table(file: fitsio.FITS) -> Any:
        for hdu in file:
            if hdu.get_exttype() in ("BINARY_TBL", "ASCII_TBL"):
                return hdu
        raise JobError(f"the FITS file {name} holds no table")

    def read(columns: Sequence[str], _: Collection[str]) -> Iterator[pa.RecordBatch]:
        with readable(name), fitsio.FITS(str(path)) as file:
            hdu = first_table(file)
            for start in range(0, hdu.get_nrows(), BATCH_ROWS):
                rows = hdu[list(columns)][start : start + BATCH_ROWS]
                yield _batch(name, {column: rows[column] for column in columns})

    with readable(name), fitsio.FITS(str(path)) as file:
        hdu = first_table(file)
        header, columns = hdu.read_header(), tuple(hdu.get_colnames())
    units = {column: str(header.get(f"TUNIT{number}") or "") for number, column in enumerate(columns, 1)}
    return OpenTable(name, columns, units, read)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Errors of reading the table `name`, as errors of the run."""
    try:
        yield
    except FileNotFoundError as error:
        if isinstance(error.__cause__, network_errors()):  # fsspec says so of a server that gives no answer
            raise ArchiveUnreachable(f"cannot fetch the table {name}: {type(error.__cause__).__name__}") from None
        raise JobError(f"there is no table {name}") from error
    except network_errors() as error:
        # Not the error's own words, nor the error itself: they repeat the URL with its secrets.
        raise ArchiveUnreachable(f"cannot fetch the table {name}: {type(error).__name__}") from None
    except (OSError, ValueError, ImportError, SyntaxError, LookupError, pa.ArrowException) as error:
        raise JobError(f"cannot read the table {name}: {error}") from error


def local_copy(filesystem: Any, path: str, folder: Path) -> Path:
    """`path` itself where it is on this machine, else a copy of it in `folder`."""
    if isinstance(filesystem, LocalFileSystem):
        if not Path(path).is_file():
            raise FileNotFoundError(path)
        return Path(path)
    copy = folder / Path(without_credentials(path)).name
    filesystem.get_file(path, str(copy))
    return copy


def network_errors() -> tuple[type[Exception], ...]:
    """What fsspec's remote filesystems raise of their own where no answer comes: imported when asked."""
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return (ClientError, BotoCoreError, ConnectionError, TimeoutError)


def _parquet_files(filesystem: Any, folder: str) -> list[str]:
    files = sorted(path for path in filesystem.find(folder) if path.lower().endswith(PARQUET))
    if not files:
        raise ValueError("the folder holds no Parquet file")
    return files


def _parquet(name: str, filesystem: Any, files: Sequence[str]) -> OpenTable:
    with filesystem.open(files[0], "rb") as file:
        schema = pq.read_schema(file).remove_metadata()

    def read(columns: Sequence[str], _: Collection[str]) -> Iterator[pa.RecordBatch]:
        wanted = pa.schema([schema.field(column) for column in columns])
        for path in files:
            with readable(name if len(files) == 1 else path), filesystem.open(path, "rb") as file:
                parquet = pq.ParquetFile(file, pre_buffer=False)  # a buffer would grow to the whole file
                for batch in parquet.iter_batches(BATCH_ROWS, columns=list(columns)):
                    yield batch.select(columns).cast(wanted)

    return OpenTable(name, tuple(schema.names), {field.name: _unit(field) for field in schema}, read)


def _csv(name: str, filesystem: Any, path: str) -> OpenTable:
    read_options = pa.csv.ReadOptions(block_size=CSV_BLOCK)
    tabs = ".tsv" in path.lower()
    parse_options = pa.csv.ParseOptions(delimiter="\t" if tabs else ",", newlines_in_values=True)

    with filesystem.open(path, "rb", compression="infer") as file:
        schema = pa.csv.open_csv(file, read_options, parse_options).schema
    names = tuple(schema.names)
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    as_text = pa.csv.ConvertOptions(include_columns=integers, column_types=dict.fromkeys(integers, pa.string()))
    with filesystem.open(path, "rb", compression="infer") as file:
        first = pa.csv.open_csv(file, read_options, parse_options, as_text).read_next_batch() if integers else None
    padded = [name for name in integers if first is not None and _any_padded(first.column(name))]

    def read(columns: Sequence[str], numbers: Collection[str]) -> Iterator[pa.RecordBatch]:
        types = dict.fromkeys(padded, pa.string()) | {column: pa.float64() for column in numbers}
        options = pa.csv.ConvertOptions(include_columns=list(columns), column_types=types)
        with readable(name), filesystem.open(path, "rb", compression="infer") as file:
            yield from pa.csv.open_csv(file, read_options, parse_options, options)

    return OpenTable(name, names, {}, read)


def _any_padded(column: pa.Array) -> bool:
    """Whether a value is digits after a zero, such as 0012: a name, of which a number would be another."""
    return bool(pc.any(pc.match_substring_regex(column, "^[+-]?0[0-9]")).as_py())


def votable(name: str, path: Path, *, whole: bool = False) -> OpenTable:
    """The first table of a VOTable file. `whole`: an answer that the service cut off is an error. Raises JobError."""
    with readable(name):
        found = open_votable(path)

    def read(columns: Sequence[str], _: Collection[str]) -> Iterator[pa.RecordBatch]:
        with readable(name):
            yield from found.batches(columns, BATCH_ROWS, whole=whole)

    return OpenTable(name, tuple(field.name for field in found.fields), found.units, read)


def _ecsv(name: str, path: Path) -> OpenTable:
    """An ECSV table: whole, in memory."""
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
    except (TypeError, AttributeError, RecursionError, YAMLError) as error:
        raise ValueError(f"no ECSV: {error}") from error

    def read(columns: Sequence[str], _: Collection[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(table), BATCH_ROWS):
            rows = table[start : start + BATCH_ROWS]
            yield _batch(name, {column: rows[column] for column in columns})

    units = {column: str(table[column].unit or "") for column in table.colnames}
    return OpenTable(name, tuple(table.colnames), units, read)


def _batch(name: str, columns: Mapping[str, Any]) -> pa.RecordBatch:
    arrays = {}
    for column, values in columns.items():
        try:
            arrays[column] = _array(values)
        except (TypeError, ValueError, NotImplementedError) as error:
            # ArrowTypeError, ArrowInvalid and ArrowNotImplementedError are these; numpy raises the first two itself.
            raise JobError(f"column {column!r} of {name} cannot be read as Arrow: {error}") from error
    return pa.RecordBatch.from_pydict(arrays)


def _array(values: Any) -> pa.Array:
    """A column of numpy's or astropy's as Arrow's: native bytes, masked values null, no padding of text."""
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    plain = np.asarray(values)
    if plain.ndim == 2 and plain.dtype.kind in "biuf":
        flat = pa.array(plain.ravel().astype(plain.dtype.newbyteorder("=")))
        return pa.FixedSizeListArray.from_arrays(flat, plain.shape[1])
    if plain.dtype.kind in "SU":
        plain = np.char.rstrip(plain.astype(np.str_), " \0")
        return pa.array(plain, pa.string(), mask=mask)
    if plain.dtype.kind == "O":
        texts = [None if value is None else str(value) for value in plain]
        return pa.array(texts, pa.string(), mask=mask)
    return pa.array(plain.astype(plain.dtype.newbyteorder("=")), mask=mask)


def _unit(field: pa.Field) -> str:
    return (field.metadata or {}).get(b"unit", b"").decode()
