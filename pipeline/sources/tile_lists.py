"""The tables that say where a survey's tiles are, of any format, from the mirror or from a service's URL."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa

from pipeline.archives.access import Access
from pipeline.archives.tables import read_table
from pipeline.errors import ArchiveError, ArchiveUnreachable, BadImage, JobError
from pipeline.sources.batches import resolve
from pipeline.sources.tables import FITS, open_table
from pipeline.storage import without_credentials
from pipeline.surveys import TileList


def read_tile_lists(lists: Sequence[TileList], root: str | None, access: Access) -> pa.Table:
    """The needed columns of every list in one table, with the column `region`.

    `root` is where paths begin that are no URL of their own. Raises JobError where a list lacks columns or `root` is
    needed and not known, ArchiveUnreachable where a list is missing or does not come.
    """
    tables = []
    with tempfile.TemporaryDirectory(prefix="tiles-") as folder:
        for wanted in lists:
            table = _read(wanted, root, access, Path(folder))
            tables.append(table.append_column("region", pa.array([wanted.region] * table.num_rows, pa.string())))
    return pa.concat_tables(tables)


def _read(wanted: TileList, root: str | None, access: Access, folder: Path) -> pa.Table:
    here = "://" in wanted.path or Path(wanted.path).is_absolute()
    if not here and root is None:
        raise JobError(f"{wanted.path} lies below the root of the survey's tree: say where that is with --mirror ROOT")
    address = wanted.path if here else f"{str(root).rstrip('/')}/{wanted.path}"
    try:
        if (wanted.suffix or urlsplit(wanted.path).path.lower()).endswith(FITS):
            return read_table(None if here else root, wanted.path, wanted.columns, access)
        if "://" in address:
            address = _fetched(address, wanted, access, folder)
        return _of_any_format(address, wanted, folder)
    except FileNotFoundError as error:
        raise ArchiveUnreachable(
            f"no {without_credentials(address)}: is this the root of the survey's tree?"
        ) from error


def _fetched(url: str, wanted: TileList, access: Access, folder: Path) -> str:
    """A copy of the list on this disk, whose name tells its format."""
    target = folder / f"list{wanted.suffix or ''.join(Path(urlsplit(url).path).suffixes[-2:])}"
    try:
        access.client.download(url, target)
    except (ArchiveError, BadImage) as error:
        raise ArchiveUnreachable(f"cannot fetch the survey's list of tiles: {error}") from error
    return str(target)


def _of_any_format(address: str, wanted: TileList, folder: Path) -> pa.Table:
    opened = open_table(address, folder)
    names = {column: resolve(column, opened) for column in wanted.columns or opened.columns}
    batches = list(opened.read(list(dict.fromkeys(names.values())), ()))
    if not batches:
        raise JobError(f"the survey's list of tiles {opened.name} has no rows")
    table = pa.Table.from_batches(batches)
    return pa.table({column: table[name] for column, name in names.items()})
