"""The footprint table of a folder or bucket of FITS tiles, from their headers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from astropy.io.fits import Header, VerifyError
from numpy.typing import NDArray

from pipeline.archives.access import Access
from pipeline.archives.files import ArchiveFiles
from pipeline.archives.images import FitsImage
from pipeline.errors import ArchiveError, ArchiveUnreachable, BadImage, JobError
from pipeline.sources.tables import network_errors
from pipeline.storage import without_credentials
from pipeline.surveys.cubes import band_names
from pipeline.surveys.tiles import COLUMNS
from pipeline.surveys.wcs import projection

SUFFIXES = (".fits", ".fit", ".fits.fz", ".fits.gz", ".fits.bz2")
PACKED = (".gz", ".bz2")
FIRST_BYTES = 1 << 16  # of a remote file: the headers of most
MOST_BYTES = 1 << 22


def footprint_table(root: str, pattern: str | None, access: Access) -> pa.Table:
    """A row a file of the FITS images below `root`, as the survey `tiles` wants it (COLUMNS).

    `pattern` is a regular expression with the groups `tile` and, where files hold one band, `band`; it is searched
    in the path below the root, and files that it does not match are left out. Without it each file is a tile of its
    own, and its header says the band. Of a remote file only the headers are read.
    Raises JobError where there is no file, or one has no band or WCS, naming it, or the pattern is none;
    ArchiveUnreachable.
    """
    try:
        like = re.compile(pattern or "")
    except re.error as error:
        raise JobError(f"--pattern {pattern}: {error}") from error
    rows = []
    with ArchiveFiles(root, access) as files:
        for path in _paths(root):
            named = like.search(path)
            if named is None:
                continue
            try:
                header, shape = _image(files, root, path)
                rows.append(_row(path, header, shape, named.groupdict()))
            except BadImage as error:
                raise JobError(f"{path}: {error}") from error
            except ArchiveError as error:
                raise ArchiveUnreachable(str(error)) from error
    if not rows:
        raise JobError(
            f"there are no FITS tiles below {without_credentials(root)}{f' like {pattern}' if pattern else ''}"
        )
    return pa.Table.from_pylist(rows).select(COLUMNS)


def _paths(root: str) -> Iterator[str]:
    """Below the root, in order. Raises ArchiveUnreachable."""
    try:
        filesystem, place = fsspec.core.url_to_fs(root)
        found_below = sorted(filesystem.find(place))
    except network_errors() as error:
        # Not the error's own words, nor the error itself: they repeat the URL with its secrets.
        raise ArchiveUnreachable(f"cannot list {without_credentials(root)}: {type(error).__name__}") from None
    for found in found_below:
        if found.lower().endswith(SUFFIXES):
            yield found[len(place.rstrip("/")) + 1 :]


def _image(files: ArchiveFiles, root: str, path: str) -> tuple[Mapping[str, Any], tuple[int, ...]]:
    """Header and shape of a file's image."""
    if "://" in root and not path.lower().endswith(PACKED):
        return _remote_image(files, path)
    local = files.path(path)
    image = FitsImage(local, path)
    header, shape = image.header, image.shape
    image.close()
    files.release(local)
    return header, shape


def _remote_image(files: ArchiveFiles, path: str) -> tuple[Mapping[str, Any], tuple[int, ...]]:
    """By the beginning of the file, and more of it as long as the headers go on. Raises BadImage."""
    size = FIRST_BYTES
    while True:
        data = files.read(path, 0, size).data or b""
        try:
            found = _first_image(data)
        except (KeyError, ValueError, TypeError, VerifyError) as error:
            raise BadImage(f"its headers are none: {' '.join(str(error).split())[:200]}") from error
        if found is not None:
            return found
        if len(data) < size or size >= MOST_BYTES:
            raise BadImage(f"no image in the first {len(data)} bytes")
        size *= 4


def _first_image(data: bytes) -> tuple[Mapping[str, Any], tuple[int, ...]] | None:
    """The header, over that of the primary HDU, and the shape of the first image that begins in `data`.

    Raises KeyError, ValueError, TypeError and VerifyError for headers that are none.
    """
    offset, primary = 0, Header()
    while offset < len(data):
        stream = io.BytesIO(data[offset:])
        try:
            header = Header.fromfile(stream)
        except (OSError, EOFError):
            return None
        size = "ZNAXIS" if header.get("ZIMAGE") else "NAXIS"
        if header.get(size, 0) >= 2 and (header.get("ZIMAGE") or header.get("XTENSION", "IMAGE") == "IMAGE"):
            shape = tuple(int(header[f"{size}{axis}"]) for axis in range(header[size], 0, -1))
            return {**primary, **header}, shape
        primary = primary or header
        if header.data_size_padded < 0:
            raise ValueError(f"they promise {header.data_size_padded} bytes of data")
        offset += stream.tell() + header.data_size_padded
    return None


def _row(path: str, header: Mapping[str, Any], shape: tuple[int, ...], named: Mapping[str, str]) -> dict[str, Any]:
    count = shape[0] if len(shape) == 3 else 1
    bands = (named["band"],) if named.get("band") else band_names(header, count)
    if len(bands) != count:
        raise BadImage("its header does not say the band: give --pattern with the group `band`")
    corners = _corners(projection(header, path), shape[-2], shape[-1])
    places = {f"{axis}{n + 1}": float(corners[n, i]) for n in range(4) for i, axis in enumerate(("ra", "dec"))}
    name = named.get("tile") or Path(path).name.partition(".")[0]
    return {"tile": name, "band": bands[0] if count == 1 else "", "path": path, **places}


def _corners(found: Any, height: int, width: int) -> NDArray[np.float64]:
    """(4, 2) ra, dec in degrees of an image's corners, in order around it."""
    x, y = np.array([0.0, width, width, 0.0]) - 0.5, np.array([0.0, 0.0, height, height]) - 0.5
    return np.stack(found.to_sky(x, y), axis=1)
