"""The catalogue of each brick: tractor tables, sweep tables, and the tables of bricks (archives.md 1.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.mock.bricks import PIXEL, Brick
from pipeline.mock.images import DEPTH, SKY_RESIDUAL, in_gap, position
from pipeline.mock.light import SEEING, Light, sersic_index
from pipeline.mock.places import Gap
from pipeline.mock.sources import BANDS, ZEROPOINT, Galaxy, Star

RELEASE = 10000  # DR10 south (archives.md 1.3)
EXPOSURES = 2  # of every pixel in every band: the number that `DEPTH` belongs to
# A_band / E(B-V) of DECam, Legacy Surveys DR10, catalogues, Galactic Extinction Coefficients.
EXTINCTION = {"g": 3.214, "r": 2.165, "i": 1.592, "z": 1.211}
_ALL_BANDS = ("g", "r", "i", "z")
_EBV = 0.02  # mag: one value for the whole field, chosen

_PER_BAND = ("flux", "flux_ivar", "mw_transmission", "fracflux", "fracmasked", "fracin",
             "psfsize", "psfdepth", "galdepth")  # fmt: skip
_TRACTOR = np.dtype(
    [
        ("release", "i2"), ("brickid", "i4"), ("brickname", "S8"), ("objid", "i4"), ("brick_primary", "?"),
        ("maskbits", "i4"), ("fitbits", "i2"), ("type", "S3"), ("ra", "f8"), ("dec", "f8"), ("ebv", "f4"),
        *((f"{name}_{band}", "f4") for name in _PER_BAND[:3] for band in _ALL_BANDS),
        *((f"nobs_{band}", "i2") for band in _ALL_BANDS),
        *((f"{name}_{band}", "f4") for name in _PER_BAND[3:] for band in _ALL_BANDS),
        ("sersic", "f4"), ("shape_r", "f4"), ("shape_e1", "f4"), ("shape_e2", "f4"),
        ("ref_cat", "S2"), ("ref_id", "i8"),
    ]
)  # fmt: skip


def tractor_rows(
    brick: Brick,
    sources: Sequence[Galaxy | Star],
    lights: Sequence[Light],
    maskbits: NDArray[np.int32],
    gap: Gap,
) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The tractor table of a brick, and the index of each row's source.

    Every source whose position is on the image has a row, as in the survey: `brick_primary` says whose cell it is in.
    """
    seen = [(n, position(brick, s.ra, s.dec)) for n, s in enumerate(sources)]
    seen = [(n, p) for n, p in seen if 1 <= p.x <= brick.pixels and 1 <= p.y <= brick.pixels]
    index = np.array([n for n, _ in seen], np.int64)
    rows = np.zeros(len(seen), _TRACTOR)
    rows["release"], rows["brickid"], rows["brickname"] = RELEASE, brick.brickid, brick.name
    rows["objid"] = np.arange(len(seen))
    rows["ra"], rows["dec"] = [sources[n].ra for n in index], [sources[n].dec for n in index]
    rows["brick_primary"] = brick.owns(rows["ra"], rows["dec"])
    pixel = [(round(p.y) - 1, round(p.x) - 1) for _, p in seen]
    rows["maskbits"] = [maskbits[at] for at in pixel]
    empty = in_gap(brick, gap)
    _photometry(rows, brick, [lights[n] for n in index], np.array([empty[at] for at in pixel], np.bool_))
    for row, n in zip(rows, index, strict=True):
        _shape(row, sources[n], int(n))
    return rows, index


def sweep_name(ra: float, dec: float) -> str:
    """The sweep file, 10 by 5 degrees, that holds a position: `sweep-150p000-160p005.fits`."""
    west, south = int(ra // 10) * 10, int(dec // 5) * 5
    corners = ((west, south), (west + 10, south + 5))
    return "sweep-" + "-".join(f"{a:03d}{'m' if d < 0 else 'p'}{abs(d):03d}" for a, d in corners) + ".fits"


def sweep_rows(tractor: NDArray[np.void]) -> NDArray[np.void]:
    """The primary rows of a tractor table with the upper-case columns of the sweeps."""
    names = [name for name in tractor.dtype.names or () if name != "brick_primary"]
    primary = tractor[tractor["brick_primary"]]
    rows = np.zeros(len(primary), [(name.upper(), tractor.dtype[name]) for name in names])
    for name in names:
        rows[name.upper()] = primary[name]
    return rows


def all_sky_rows(bricks: Sequence[Brick]) -> NDArray[np.void]:
    """The rows of survey-bricks.fits.gz."""
    columns = [("BRICKNAME", "S8"), ("BRICKID", "i4"), ("BRICKQ", "i2"), ("BRICKROW", "i4"), ("BRICKCOL", "i4"),
               *((name, "f8") for name in ("RA", "DEC", "RA1", "RA2", "DEC1", "DEC2"))]  # fmt: skip
    values = [(b.name, b.brickid, b.brickq, b.row, b.column, b.ra, b.dec, b.ra1, b.ra2, b.dec1, b.dec2) for b in bricks]
    return np.array(values, columns)


def south_rows(bricks: Sequence[Brick], tractor: Sequence[NDArray[np.void]], gap: Gap) -> NDArray[np.void]:
    """The rows of survey-bricks-dr10-south.fits.gz; `tractor` is one table a brick."""
    measured = ("psfsize", "psfdepth", "galdepth", "trans", "cosky")
    columns: list[tuple[str, str] | tuple[str, str, tuple[int]]] = [
        ("brickname", "S8"), ("ra", "f8"), ("dec", "f8"),
        *((f"nexp_{band}", "i2") for band in _ALL_BANDS),
        *((f"nexphist_{band}", "i4", (11,)) for band in _ALL_BANDS),
        ("nobjs", "i4"), ("npsf", "i4"), ("nrex", "i4"), ("nexp", "i4"), ("ndev", "i4"), ("nser", "i4"),
        *((f"{name}_{band}", "f4") for name in measured[:3] for band in _ALL_BANDS), ("ebv", "f4"),
        *((f"{name}_{band}", "f4") for name in measured[3:] for band in _ALL_BANDS),
        ("brickid", "i4"), ("ra1", "f8"), ("ra2", "f8"), ("dec1", "f8"), ("dec2", "f8"), ("area", "f8"),
        ("survey_primary", "?"), ("in_desi", "?"),
    ]  # fmt: skip
    rows = np.zeros(len(bricks), columns)
    for row, brick, table in zip(rows, bricks, tractor, strict=True):
        for name in ("ra", "dec", "brickid", "ra1", "ra2", "dec1", "dec2"):
            row[name] = getattr(brick, name)
        _summary(row, brick, table[table["brick_primary"]], gap)
    return rows


def _photometry(rows: NDArray[np.void], brick: Brick, lights: Sequence[Light], empty: NDArray[np.bool_]) -> None:
    """Fill the columns that come once a band. A band without images has flux 0 and inverse variance 0.

    Sources in the empty corner keep their true fluxes, as from a deeper list, with no exposure to their name.
    """
    rows["ebv"] = _EBV
    fluxes = np.array([light.flux for light in lights]).reshape(-1, len(BANDS))
    for band in _ALL_BANDS:
        rows[f"mw_transmission_{band}"] = _transmission(band)
        if band not in brick.bands:
            continue
        rows[f"flux_{band}"] = fluxes[:, BANDS.index(band)]
        rows[f"nobs_{band}"] = np.where(empty, 0, EXPOSURES)
        rows[f"flux_ivar_{band}"] = rows[f"psfdepth_{band}"] = rows[f"galdepth_{band}"] = np.where(
            empty, 0, 25 / 10 ** (0.8 * (ZEROPOINT - DEPTH[band]))
        )
        rows[f"psfsize_{band}"] = np.where(empty, 0, SEEING[band])
        rows[f"fracin_{band}"] = np.where(empty, 0, 1)
        rows[f"fracmasked_{band}"] = np.where(empty, 1, 0)
        rows[f"fracflux_{band}"] = _blending(rows, fluxes[:, BANDS.index(band)], SEEING[band])


def _blending(rows: NDArray[np.void], flux: NDArray[np.float64], seeing: float) -> NDArray[np.float64]:
    """Flux of other sources over the own one, weighted by a Gaussian of the seeing: a stand-in for fracflux."""
    east = (rows["ra"][:, None] - rows["ra"]) * np.cos(np.radians(rows["dec"]))
    separation = 3600 * np.hypot(east, rows["dec"][:, None] - rows["dec"])
    weight = np.exp(-(separation**2) / (2 * (seeing / 2.3548) ** 2))
    np.fill_diagonal(weight, 0)
    return weight @ flux / flux


def _shape(row: np.void, source: Galaxy | Star, number: int) -> None:
    """Model type and shape as the Tractor has them: ellipticity components from the position angle."""
    if isinstance(source, Star):
        row["type"], row["ref_cat"], row["ref_id"] = "PSF", "GE", 3_000_000_000 + number
        return
    index = {"spiral": 1.0, "edge_on": 1.0, "merger": 1.7}.get(source.kind) or sersic_index(source)
    kind = {1.0: "EXP", 4.0: "DEV"}.get(index, "SER")
    if source.kind == "round" and source.radius < 2.0:
        kind, index = "REX", 1.0
    row["type"], row["sersic"], row["shape_r"] = kind, index, source.radius
    if kind != "REX":
        size = (1 - source.axis_ratio) / (1 + source.axis_ratio)
        row["shape_e1"] = size * np.cos(2 * np.radians(source.angle))
        row["shape_e2"] = size * np.sin(2 * np.radians(source.angle))


def _summary(row: np.void, brick: Brick, primary: NDArray[np.void], gap: Gap) -> None:
    """What the survey tells of one brick: exposures, counts, medians."""
    row["brickname"] = brick.name
    row["area"] = (brick.ra2 - brick.ra1) * np.degrees(np.diff(np.sin(np.radians((brick.dec1, brick.dec2)))))[0]
    row["survey_primary"] = row["in_desi"] = True
    row["nobjs"], row["ebv"] = len(primary), _EBV
    for kind in ("psf", "rex", "exp", "dev", "ser"):
        row[f"n{kind}"] = np.count_nonzero(primary["type"] == kind.upper().encode())
    side = round((brick.dec2 - brick.dec1) * 3600 / PIXEL)
    empty = side**2 // 16 if brick.ra1 < gap.ra and brick.dec1 < gap.dec else 0
    for band in _ALL_BANDS:
        row[f"trans_{band}"] = _transmission(band)
        covered = side**2 - empty if band in brick.bands else 0
        row[f"nexphist_{band}"][[0, EXPOSURES]] = side**2 - covered, covered
        if band in brick.bands:
            row[f"nexp_{band}"], row[f"cosky_{band}"] = EXPOSURES, SKY_RESIDUAL
            row[f"psfsize_{band}"] = SEEING[band]
            row[f"psfdepth_{band}"] = row[f"galdepth_{band}"] = DEPTH[band]


def _transmission(band: str) -> float:
    return float(10 ** (-0.4 * EXTINCTION[band] * _EBV))
