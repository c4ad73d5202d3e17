"""FITS tables of an archive as Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archives.access import Access
from pipeline.archives.files import ArchiveFiles
from pipeline.errors import ArchiveError, ArchiveUnreachable, BadImage, JobError
from pipeline.storage import without_credentials


def read_table(root: str | None, path: str, columns: Sequence[str], access: Access | None = None) -> pa.Table:
    """The named columns, () all, of the first table of a FITS file, fetched whole where `root` is remote.

    Names are matched whatever their case and come out as asked for; text loses its padding.
    Raises FileNotFoundError where there is no such file, ArchiveUnreachable where the archive does not answer or
    what it gives is no table, JobError naming the columns that the table lacks.
    """
    name = path if root is None else f"{without_credentials(root).rstrip('/')}/{path}"
    with ArchiveFiles(root, access) as files:
        try:
            with fitsio.FITS(str(files.path(path))) as file:
                return _read(file, name, columns)
        except FileNotFoundError:
            raise
        except (ArchiveError, BadImage) as error:
            raise ArchiveUnreachable(str(error)) from error
        except (OSError, ValueError) as error:
            raise ArchiveUnreachable(f"{name}: {' '.join(str(error).split())[:200]}") from error


def _read(file: fitsio.FITS, name: str, columns: Sequence[str]) -> pa.Table:
    table = next((hdu for hdu in file if hdu.get_info()["hdutype"] == fitsio.BINARY_TBL), None)
    if table is None:
        raise ArchiveUnreachable(f"{name}: holds no table")
    stored = {column.lower(): column for column in table.get_colnames()}
    missing = [column for column in columns if column.lower() not in stored]
    if missing:
        raise JobError(f"{name}: lacks the columns {', '.join(missing)}")
    columns = columns or tuple(stored.values())
    wanted = [stored[column.lower()] for column in columns]
    rows = table.read(columns=wanted)
    return pa.table({column: _arrow(rows[found]) for column, found in zip(columns, wanted, strict=True)})


def _arrow(values: NDArray[Any]) -> pa.Array:
    """(N,) or (N, K) of any byte order."""
    if values.dtype.kind in "SU":
        return pa.array(np.char.rstrip(values.astype(np.str_)), pa.string())
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if native.ndim == 1:
        return pa.array(native)
    return pa.FixedSizeListArray.from_arrays(pa.array(native.ravel()), native.shape[1])
