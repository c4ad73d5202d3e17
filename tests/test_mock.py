"""The mock sky: the layout and formats of the real archive, one sky in every brick, and a truth that fits."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from pipeline.errors import JobError
from pipeline.mock import MockSky, write_mock
from pipeline.mock.bricks import MARGIN, block, columns_per_row
from pipeline.mock.images import SKY_RESIDUAL, pixel_noise
from pipeline.mock.sources import CLASSES
from pipeline.mock.tables import sweep_name
from pipeline.mock.truth import target_id

TINY = "MockSky(columns=2, rows=2, brick_pixels=500, galaxies=24, stars=16, max_radius=5.0)"
PIXEL = 0.262  # arcsec
FIRST, LAST = "1498p020", "1501p022"  # the brick with the empty corner, the one without z
Pixels = NDArray[Any]


def coadd(root: Path, brick: str, product: str) -> Path:
    return root / f"dr10/south/coadd/{brick[:3]}/{brick}/legacysurvey-{brick}-{product}.fits.fz"


def image(root: Path, brick: str, band: str = "r") -> tuple[Pixels, WCS]:
    """(H, W) flux and its WCS."""
    path = coadd(root, brick, f"image-{band}")
    return fitsio.read(path, ext=1), WCS(fits.getheader(path, 1))


def truth(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "truth/truth.parquet").to_pylist()


def tractor(root: Path, brick: str) -> Pixels:
    return fitsio.read(root / f"dr10/south/tractor/{brick[:3]}/tractor-{brick}.fits", ext=1)


def sweeps(root: Path) -> Pixels:
    return np.concatenate([fitsio.read(path) for path in sorted((root / "dr10/south/sweep/10.1").iterdir())])


def bricks(root: Path) -> Pixels:
    return fitsio.read(root / "dr10/south/survey-bricks-dr10-south.fits.gz", ext=1)


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def around(root: Path, galaxy: dict[str, Any], width: float) -> tuple[Pixels, Pixels, Pixels]:
    """Flux, and offsets to the east and north in arcsec, of the pixels within `width` arcsec in its own brick."""
    flux, wcs = image(root, galaxy["brick"])
    x0, y0 = wcs.all_world2pix(galaxy["ra"], galaxy["dec"], 0)
    y, x = np.indices(flux.shape)
    near = np.hypot(x - x0, y - y0) * PIXEL < width / 2
    return flux[near] - SKY_RESIDUAL, (x0 - x[near]) * PIXEL, (y[near] - y0) * PIXEL


def lonely(root: Path, room: float, *kinds: str) -> list[dict[str, Any]]:
    """Galaxies of these classes with no other source within `room` radii, away from the empty corner."""
    table, found = sweeps(root), []
    for galaxy in truth(root):
        east = (table["RA"] - galaxy["ra"]) * np.cos(np.radians(galaxy["dec"]))
        apart = np.sort(np.hypot(east, table["DEC"] - galaxy["dec"]) * 3600)
        alone = apart[1] > room * galaxy["radius"] and (around(root, galaxy, 8 * galaxy["radius"])[0] > -5e-4).all()
        if galaxy["class"] in kinds and alone:
            found.append(galaxy)
    return found


def test_the_same_seed_gives_the_same_bytes_in_another_process(mock_tree: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.mock import MockSky, write_mock; "
        f"write_mock(Path(sys.argv[1]), sky={TINY})"
    )
    again = tmp_path / "again"
    environment = {**os.environ, "PYTHONHASHSEED": "5"}
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(again)], check=True, env=environment)
    assert digests(again) == digests(mock_tree)


def test_another_seed_gives_another_sky(mock_tree: Path, tmp_path: Path) -> None:
    sky = MockSky(columns=2, rows=2, brick_pixels=400, galaxies=12, stars=1, max_radius=2.0)
    write_mock(tmp_path / "other", seed=2, sky=sky)
    assert not np.array_equal(image(tmp_path / "other", FIRST)[0], image(mock_tree, FIRST)[0])
    assert {g["ra"] for g in truth(tmp_path / "other")} - {g["ra"] for g in truth(mock_tree)}


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(JobError, match="empty folder"):
        write_mock(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: MockSky(columns=1),
        lambda: MockSky(brick_pixels=502),  # cfitsio cannot tile the last two pixels
        lambda: MockSky(brick_pixels=3601),
        lambda: MockSky(galaxies=5),
        lambda: MockSky(max_radius=40.0),
    ],
)
def test_a_sky_that_cannot_be_drawn_is_refused(build: Callable[[], MockSky]) -> None:
    with pytest.raises(ValueError, match="expected"):
        build()


def test_bricks_of_3600_pixels_are_those_of_the_real_grid() -> None:
    first, *_, last = block(MockSky(brick_pixels=3600))
    assert (first.ra1, first.ra2, first.dec1, first.dec2) == (149.75, 150.0, 1.875, 2.125)
    assert (first.name, last.name) == ("1498p020", "1503p022")
    assert columns_per_row().sum() == 662174  # bricks of the sky
    # Brick 3521p002 of legacypipe's own tests: id 333216 at row 361, column 1408.
    assert columns_per_row()[:361].sum() + 1408 + 1 == 333216


def test_shrunk_bricks_keep_their_identity_and_their_overlap(mock_tree: Path) -> None:
    real = {brick.name: brick for brick in block(MockSky(brick_pixels=3600))}
    for row in fitsio.read(mock_tree / "survey-bricks.fits.gz", ext=1):
        brick = real[str(row["BRICKNAME"])]
        assert (row["BRICKID"], row["BRICKROW"], row["BRICKCOL"]) == (brick.brickid, brick.row, brick.column)
        header = fits.getheader(coadd(mock_tree, brick.name, "image-r"), 1)
        corners = WCS(header).all_world2pix([row["RA2"], row["RA1"]], [row["DEC1"], row["DEC2"]], 0)
        margins = [*(np.array(corners)[:, 0] + 0.5), *(499.5 - np.array(corners)[:, 1])]
        assert np.allclose(margins, MARGIN, atol=0.5), margins
        assert (header["CRVAL1"], header["CRPIX1"]) == (pytest.approx(row["RA"], abs=1e-9), 250.5)


def test_coadds_are_compressed_as_the_survey_does_and_their_checksums_hold(mock_tree: Path) -> None:
    path = coadd(mock_tree, FIRST, "image-g")
    with fits.open(path, checksum=True, disable_image_compression=True) as hdus:  # a wrong sum is a warning
        header = hdus[1].header
        assert all({"CHECKSUM", "DATASUM"} <= set(hdu.header) for hdu in hdus)
    assert (header["ZCMPTYPE"], header["ZQUANTIZ"]) == ("RICE_1", "SUBTRACTIVE_DITHER_2")
    assert (header["ZTILE1"], header["ZTILE2"], header["ZBITPIX"]) == (100, 100, -32)
    assert header["BUNIT"] == "nanomaggy"
    with fits.open(path, disable_image_compression=True) as hdus:
        assert np.unique(hdus[1].data["ZSCALE"]) == pytest.approx([1e-4])
    mask = fits.getheader(coadd(mock_tree, FIRST, "maskbits"), 1, disable_image_compression=True)
    assert (mask["ZCMPTYPE"], mask["ZBITPIX"]) == ("HCOMPRESS_1", 32)


def test_the_checksum_file_of_a_brick_lists_its_files(mock_tree: Path) -> None:
    south = mock_tree / "dr10/south"
    for brick, expected in ((FIRST, 5), (LAST, 4)):
        lines = (south / f"tractor/{brick[:3]}/brick-{brick}.sha256sum").read_text().splitlines()
        assert len(lines) == expected
        for line in lines:
            found = re.fullmatch(r"([0-9a-f]{64}) \*(\S+)", line)
            assert found is not None
            assert hashlib.sha256((south / found[2]).read_bytes()).hexdigest() == found[1]


def test_the_last_brick_has_no_z_band(mock_tree: Path) -> None:
    for row in bricks(mock_tree):
        name = str(row["brickname"])
        missing = name == LAST
        assert coadd(mock_tree, name, "image-g").exists()
        assert coadd(mock_tree, name, "image-z").exists() != missing
        assert (row["nexp_z"] == 0) == missing
        assert row["nexp_g"] > 0 and row["nexp_i"] == 0
    table = sweeps(mock_tree)
    assert np.array_equal(table["NOBS_Z"] == 0, (table["BRICKNAME"] == LAST) | (table["NOBS_G"] == 0))


def test_the_empty_corner_has_no_data_a_source_inside_and_one_beside_it(mock_tree: Path) -> None:
    zeros = [image(mock_tree, FIRST, band)[0] == 0 for band in "grz"]
    cell = 500 - 2 * MARGIN
    assert np.array_equal(zeros[0], zeros[1]) and np.array_equal(zeros[0], zeros[2])
    assert np.count_nonzero(zeros[0]) == pytest.approx((MARGIN + cell / 4) ** 2, rel=0.03)
    assert not (image(mock_tree, LAST)[0] == 0).any()
    empty = []
    for galaxy in truth(mock_tree):
        if galaxy["brick"] == FIRST:
            flux, _, _ = around(mock_tree, galaxy, galaxy["mask_width"])
            empty.append(float(np.mean(flux == -np.float32(SKY_RESIDUAL))))
    assert sorted(empty)[-1] == 1.0
    assert 0.2 < sorted(empty)[-2] < 0.8


def test_some_fields_leave_their_brick_on_every_shared_edge(mock_tree: Path) -> None:
    beyond = set()
    for galaxy in truth(mock_tree):
        _, wcs = image(mock_tree, galaxy["brick"])
        x, y = wcs.all_world2pix(galaxy["ra"], galaxy["dec"], 0)
        half = galaxy["mask_width"] / 2 / PIXEL
        if min(x - half, y - half, 499 - x - half, 499 - y - half) < 0:
            beyond.add(galaxy["brick"])
    assert len(beyond) >= 3


def test_sweeps_hold_each_primary_source_once(mock_tree: Path) -> None:
    table = sweeps(mock_tree)
    keys = {(row["RELEASE"], row["BRICKID"], row["OBJID"]) for row in table}
    assert len(keys) == len(table)
    assert all(name.isupper() for name in table.dtype.names)
    assert set(table["TYPE"]) <= {"PSF", "REX", "EXP", "DEV", "SER"}
    everywhere = [tractor(mock_tree, str(row["brickname"])) for row in bricks(mock_tree)]
    assert sum(np.count_nonzero(rows["brick_primary"]) for rows in everywhere) == len(table)
    assert sum(len(rows) for rows in everywhere) > len(table)  # overlaps are seen by more than one brick
    assert np.array_equal([np.count_nonzero(r["brick_primary"]) for r in everywhere], bricks(mock_tree)["nobjs"])
    for path in (mock_tree / "dr10/south/sweep/10.1").iterdir():
        rows = fitsio.read(path)
        assert {sweep_name(ra, dec) for ra, dec in zip(rows["RA"], rows["DEC"], strict=True)} == {path.name}


def test_sweep_files_are_named_by_their_corners() -> None:
    assert sweep_name(9.9, -0.1) == "sweep-000m005-010p000.fits"
    assert sweep_name(150.0, 1.9) == "sweep-150p000-160p005.fits"
    assert sweep_name(3.0, -7.0) == "sweep-000m010-010m005.fits"  # archives.md 1.3


def test_the_truth_has_every_class_and_the_identifiers_of_the_sweeps(mock_tree: Path) -> None:
    rows = truth(mock_tree)
    assert {kind: sum(row["class"] == kind for row in rows) for kind in CLASSES} == dict.fromkeys(CLASSES, 4)
    table = {target_id(int(r["RELEASE"]), int(r["BRICKID"]), int(r["OBJID"])): r for r in sweeps(mock_tree)}
    for row in rows:
        source = table[row["targetid"]]
        assert (source["RA"], source["DEC"]) == (row["ra"], row["dec"])
        assert source["BRICKNAME"] == row["brick"]
        assert source["TYPE"] != "PSF" and source["SHAPE_R"] == row["radius"]
        assert 22.5 - 2.5 * np.log10(source["FLUX_R"]) == pytest.approx(row["mag_r"], abs=0.1)
    assert target_id(9010, 285251, 4963) == 39627595494462307  # a published TARGETID (archives.md 1.3)


def test_mask_bits_of_pixels_and_sources_agree(mock_tree: Path) -> None:
    seen = 0
    for row in bricks(mock_tree):
        name = str(row["brickname"])
        bits = fitsio.read(coadd(mock_tree, name, "maskbits"), ext=1)
        wcs = WCS(fits.getheader(coadd(mock_tree, name, "maskbits"), 1))
        y, x = np.indices(bits.shape)
        ra, dec = wcs.all_pix2world(x, y, 0)
        own = (ra >= row["ra1"]) & (ra < row["ra2"]) & (dec >= row["dec1"]) & (dec < row["dec2"])
        assert np.array_equal(bits & 1 == 0, own)
        sources = tractor(mock_tree, name)
        px, py = np.round(wcs.all_world2pix(sources["ra"], sources["dec"], 0)).astype(int)
        assert np.array_equal(bits[py, px], sources["maskbits"])
        if name == FIRST:
            assert np.array_equal(bits & (1 << 5) > 0, image(mock_tree, FIRST, "g")[0] == 0)
        seen |= int(np.bitwise_or.reduce(bits, axis=None))
    expected = (0, 1, 2, 3, 4, 5, 6, 7, 11, 12)  # NPRIMARY, BRIGHT, SATUR, ALLMASK of g r z, MEDIUM, GALAXY
    assert seen == sum(1 << bit for bit in expected)


def test_a_star_masks_part_of_a_galaxys_field(mock_tree: Path) -> None:
    shares = []
    for galaxy in truth(mock_tree):
        bits = fitsio.read(coadd(mock_tree, galaxy["brick"], "maskbits"), ext=1)
        x, y = image(mock_tree, galaxy["brick"])[1].all_world2pix(galaxy["ra"], galaxy["dec"], 0)
        h = int(galaxy["mask_width"] / 2 / PIXEL)
        field = bits[max(0, int(y) - h) : int(y) + h, max(0, int(x) - h) : int(x) + h]
        shares.append(np.mean(field & 2 > 0))
    assert 0.1 < max(shares) < 0.9


def test_the_noise_is_that_of_the_planned_depth(mock_tree: Path, noiseless_tree: Path) -> None:
    noise = {}
    for band in "grz":
        difference = image(mock_tree, FIRST, band)[0] - image(noiseless_tree, FIRST, band)[0]
        noise[band] = difference[difference != 0]
        assert np.std(noise[band]) == pytest.approx(pixel_noise(band), rel=0.02)
    assert abs(np.corrcoef(noise["g"], noise["r"])[0, 1]) < 0.02


def test_an_overlap_shows_the_same_source_in_both_bricks(noiseless_tree: Path) -> None:
    compared = 0
    for galaxy in truth(noiseless_tree):
        measured = []
        for row in bricks(noiseless_tree):
            flux, wcs = image(noiseless_tree, str(row["brickname"]))
            x, y = wcs.all_world2pix(galaxy["ra"], galaxy["dec"], 0)
            reach = 16  # pixels
            if not (reach < x < 499 - reach and reach < y < 499 - reach):
                continue
            yy, xx = np.indices(flux.shape)
            weighted = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * 4.0**2)) * flux
            total = weighted.sum()
            measured.append((total, np.sum(weighted * (xx - x)) / total, np.sum(weighted * (yy - y)) / total))
        for other in measured[1:]:
            assert other[0] == pytest.approx(measured[0][0], rel=1e-3)
            assert other[1:] == pytest.approx(measured[0][1:], abs=0.01)  # pixels
            compared += 1
    assert compared >= 5


def test_a_smooth_galaxy_stands_at_its_position_with_half_of_its_light_within_its_radius(noiseless_tree: Path) -> None:
    galaxies = [g for g in lonely(noiseless_tree, 4.0, "round", "in_between", "cigar") if g["radius"] > 2.5]
    assert len(galaxies) >= 3
    for galaxy in galaxies:
        flux, east, north = around(noiseless_tree, galaxy, 7 * galaxy["radius"])
        angle = np.radians(galaxy["position_angle"])
        along, across = (east * np.sin(angle) + north * np.cos(angle), east * np.cos(angle) - north * np.sin(angle))
        inside = np.hypot(along, across / galaxy["axis_ratio"]) < galaxy["radius"]
        total = 10 ** (0.4 * (22.5 - galaxy["mag_r"]))
        assert flux[inside].sum() / total == pytest.approx(0.5, abs=0.12)
        centre = np.average(np.stack([east, north])[:, inside], axis=1, weights=flux[inside])
        assert np.abs(centre).max() < 0.05  # arcsec


def test_flat_galaxies_lie_along_their_position_angle(noiseless_tree: Path) -> None:
    galaxies = lonely(noiseless_tree, 4.0, "cigar", "edge_on")
    assert len(galaxies) >= 3
    for galaxy in galaxies:
        flux, east, north = around(noiseless_tree, galaxy, 4 * galaxy["radius"])
        moments = [np.sum(flux * a * b) for a, b in ((east, east), (north, north), (east, north))]
        angle = np.degrees(np.arctan2(2 * moments[2], moments[1] - moments[0])) / 2
        assert (angle - galaxy["position_angle"] + 90) % 180 == pytest.approx(90, abs=4)


def test_the_mask_of_a_galaxy_is_its_isophote_north_up_east_left(noiseless_tree: Path) -> None:
    galaxies = lonely(noiseless_tree, 3.0, *CLASSES)
    assert {g["class"] for g in galaxies} >= {"merger", "spiral", "edge_on"}
    for galaxy in galaxies:
        mask = np.unpackbits(np.frombuffer(galaxy["mask"], np.uint8)).reshape(64, 64).astype(bool)
        scale = galaxy["mask_width"] / 64
        flux, wcs = image(noiseless_tree, galaxy["brick"])
        x0, y0 = wcs.all_world2pix(galaxy["ra"], galaxy["dec"], 0)
        row, column = np.indices(mask.shape)
        x = np.round(x0 + (column - 31.5) * scale / PIXEL).astype(int)
        y = np.round(y0 + (31.5 - row) * scale / PIXEL).astype(int)
        near = np.hypot(row - 31.5, column - 31.5) * scale < 2.2 * galaxy["radius"]
        on = near & (x >= 0) & (x < 500) & (y >= 0) & (y < 500)
        bright = flux[y[on], x[on]] - SKY_RESIDUAL > 10 ** (0.4 * (22.5 - 25.0)) * PIXEL**2
        assert mask.any()
        assert np.mean(bright == mask[on]) > 0.9, galaxy["class"]
