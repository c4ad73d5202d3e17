"""The Legacy Surveys' own catalogue as sources: the sweep tables of a tree, under a selection.

Sweeps hold the primary row of every source, in boxes of RA and Dec that their names give. Facts: reference
archives.md 1.3 (paths, columns, the packed id) and 4 (duplicates); `sweep/9.0` from desitarget's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.archives.files import ArchiveFiles
from pipeline.errors import ArchiveError, ArchiveUnreachable, BadImage, JobError
from pipeline.sources.batches import RESERVED, Region, Selection, resolve, separation, taken
from pipeline.sources.tables import OpenTable, open_fits
from pipeline.surveys.bricks import owned_by_north

TYPES = ("PSF", "REX", "EXP", "DEV", "SER", "DUP")
BANDS = ("g", "r", "z")
PASS_THROUGH = (
    "release", "brickid", "objid", "targetid", "photsys", "type",
    *(f"flux_{band}" for band in BANDS), *(f"dered_mag_{band}" for band in BANDS),
    "shape_r", "maskbits", *(f"fracflux_{band}" for band in BANDS), "psfsize_r",
    *(f"nobs_{band}" for band in BANDS),
)  # fmt: skip
"""What goes through by default. `dered_mag_<band>` is 22.5 - 2.5 log10(flux / mw_transmission), AB, null without a
positive flux; `targetid` is the object_id; `photsys` is N or S, the tree of the row; the rest are sweep columns."""

_NEEDED = ("release", "brickid", "objid", "ra", "dec", "shape_r", "type", "maskbits", "flux_r", "mw_transmission_r")
_NAME = re.compile(r"sweep-(\d{3})([pm])(\d{3})-(\d{3})([pm])(\d{3})\.fits$")
_DERED = "dered_mag_"


def sweep_batches(
    files: ArchiveFiles,
    folders: Mapping[str, str],
    selection: Selection | None = None,
    *,
    pass_through: Sequence[str] | None = None,
    region: Region | None = None,
    limit: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """The selected sources of the tree of `files`, each once: at the seam, those of the tree that owns the sky.

    `folders` is the place of each region's tables below the root. Files that the region of the job does not meet are
    not read, remote ones are fetched whole, one at a time. object_id is DESI's TARGETID, radius is SHAPE_R.
    `pass_through` may name any sweep column in any case, and comes out in lower case; None is PASS_THROUGH.
    Raises JobError where the tree has no sweeps, lacks a column or has types that are none, ArchiveUnreachable.
    """
    selection = selection or Selection()
    wanted = tuple(name.lower() for name in dict.fromkeys(PASS_THROUGH if pass_through is None else pass_through))
    if clash := [name for name in wanted if name in RESERVED]:
        raise JobError(f"sources.pass_through names {', '.join(clash)}, which the plan has already")
    left = limit
    for tree, raw in _raw_batches(files, folders, region, wanted):
        batch = taken(_selected(raw, tree, selection, wanted), region, left)
        yield batch
        left = None if left is None else left - batch.num_rows
        if left == 0:
            return


def target_ids(
    release: NDArray[np.integer[Any]], brickid: NDArray[np.integer[Any]], objid: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """(N,) DESI TARGETIDs: unique over releases, bricks and objects."""
    wide = (values.astype(np.int64) for values in (release, brickid, objid))
    release64, brickid64, objid64 = wide
    return (release64 << 42) | (brickid64 << 22) | objid64


def sweep_box(name: str) -> tuple[float, float, float, float] | None:
    """RA1, RA2, Dec1, Dec2 in degrees of a sweep file, by its name; None for any other file."""
    match = _NAME.search(name)
    if match is None:
        return None
    ra1, sign1, dec1, ra2, sign2, dec2 = match.groups()
    signs = {"p": 1, "m": -1}
    return float(ra1), float(ra2), float(signs[sign1] * int(dec1)), float(signs[sign2] * int(dec2))


def meets(region: Region, box: tuple[float, float, float, float]) -> bool:
    """Whether a cone holds any point of a box of RA and Dec, degrees."""
    ra1, ra2, dec1, dec2 = box
    if (region.ra - ra1) % 360 <= ra2 - ra1:
        nearest = [(region.ra, float(np.clip(region.dec, dec1, dec2)))]
    else:
        nearest = [(ra, dec) for ra in (ra1, ra2) for dec in (dec1, dec2, *_foot(region, ra, dec1, dec2))]
    ra, dec = (np.array(values) for values in zip(*nearest, strict=True))
    return bool(separation(region.ra, region.dec, ra, dec).min() <= region.radius)


def _foot(region: Region, ra: float, dec1: float, dec2: float) -> list[float]:
    """The Dec where the meridian `ra` is nearest to the cone's centre, if that is between the limits."""
    toward = np.cos(np.radians(region.dec)) * np.cos(np.radians(ra - region.ra))
    dec = float(np.degrees(np.arctan2(np.sin(np.radians(region.dec)), toward)))
    return [dec] if dec1 <= dec <= dec2 else []


def _raw_batches(
    files: ArchiveFiles, folders: Mapping[str, str], region: Region | None, wanted: Sequence[str]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Batches of every sweep that the region meets, with the tree that it is of; one file is held at a time."""
    for tree, path in _files_of(files, folders, region):
        local = _fetched(files, path)
        opened = open_fits(f"{files.shown.rstrip('/')}/{path}", local)
        yield from ((tree, batch) for batch in _rows(opened, wanted))
        files.release(local)


def _files_of(files: ArchiveFiles, folders: Mapping[str, str], region: Region | None) -> Iterator[tuple[str, str]]:
    """(tree, path below the root) of the sweep files to read, by name."""
    for tree, folder in folders.items():
        names = _listed(files, folder)
        boxes = {name: box for name in sorted(names) if (box := sweep_box(name)) is not None}
        if not boxes:
            raise JobError(f"{files.shown} has no sweep tables in {folder}: give the sources with --sources")
        for name, box in boxes.items():
            if region is None or meets(region, box):
                yield tree, f"{folder}/{name}"


def _listed(files: ArchiveFiles, folder: str) -> Iterable[str]:
    try:
        return files.names(folder)
    except FileNotFoundError:
        return ()
    except ArchiveError as error:
        raise ArchiveUnreachable(f"cannot list {folder} of {files.shown}: {error}") from error


def _fetched(files: ArchiveFiles, path: str) -> Path:
    try:
        return files.path(path)
    except (ArchiveError, BadImage, FileNotFoundError) as error:
        raise ArchiveUnreachable(f"cannot read the sources: {error}") from error


def _rows(table: OpenTable, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The needed columns of a sweep file, by their lower-case names."""
    derived = [name.removeprefix(_DERED) for name in wanted if name.startswith(_DERED)]
    own = [name for name in wanted if name not in ("targetid", "photsys") and not name.startswith(_DERED)]
    light = [f"{kind}_{band}" for band in derived for kind in ("flux", "mw_transmission")]
    names = list(dict.fromkeys([*_NEEDED, *own, *light]))
    for batch in table.read([resolve(name, table) for name in names], ()):
        rows = batch.rename_columns(names)
        if wrong := set(rows.column("type").unique().to_pylist()) - set(TYPES):
            raise JobError(
                f"{table.name}: TYPE holds {sorted(wrong)[:5]}; a Legacy Surveys sweep has {', '.join(TYPES)}"
            )
        yield rows


def _selected(rows: pa.RecordBatch, tree: str, selection: Selection, wanted: Sequence[str]) -> pa.RecordBatch:
    """The canonical columns of the rows that the tree owns and the selection takes."""
    ra, dec = (rows.column(name).to_numpy() for name in ("ra", "dec"))
    keep = owned_by_north(ra, dec) == (tree == "north")
    keep &= np.asarray(pc.is_in(rows.column("type"), pa.array(selection.types)).to_numpy(zero_copy_only=False))
    if selection.max_mag_r is not None:
        magnitude = dereddened(rows.column("flux_r").to_numpy(), rows.column("mw_transmission_r").to_numpy())
        keep &= magnitude <= selection.max_mag_r  # False for NaN
    excluded = sum(1 << bit for bit in set(selection.exclude_maskbits))
    keep &= (rows.column("maskbits").to_numpy() & excluded) == 0
    rows = rows.filter(pa.array(keep))
    ids = pa.array(target_ids(*(rows.column(name).to_numpy() for name in ("release", "brickid", "objid"))))
    columns = {
        "object_id": ids,
        "ra": rows.column("ra"),
        "dec": rows.column("dec"),
        "radius": rows.column("shape_r").cast(pa.float32()),
    }
    return pa.RecordBatch.from_pydict({**columns, **_passing(rows, ids, tree, wanted)})


def dereddened(flux: NDArray[np.floating[Any]], transmission: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(N,) AB magnitude of a flux in nanomaggies without the Milky Way's dust; NaN where there is no flux."""
    positive = (flux > 0) & (transmission > 0)
    ratio = np.divide(flux, transmission, out=np.ones(len(flux)), where=positive)
    return np.where(positive, 22.5 - 2.5 * np.log10(ratio), np.nan).astype(np.float32)


def _passing(rows: pa.RecordBatch, ids: pa.Array, tree: str, wanted: Sequence[str]) -> Mapping[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    for name in wanted:
        if name == "targetid":
            columns[name] = ids
        elif name == "photsys":
            columns[name] = pa.array(["N" if tree == "north" else "S"] * rows.num_rows, pa.string())
        elif name.startswith(_DERED):
            band = name.removeprefix(_DERED)
            light = (rows.column(f"{kind}_{band}").to_numpy() for kind in ("flux", "mw_transmission"))
            columns[name] = pa.array(dereddened(*light), from_pandas=True)  # NaN is null
        else:
            columns[name] = rows.column(name)
    return columns
