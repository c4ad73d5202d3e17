"""The mock tree: layout, formats, catalogues and masks as the real archive has them."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from pipeline.errors import JobError
from pipeline.mock import MockSky, write_mock
from pipeline.mock.bricks import MARGIN, block, columns_per_row
from pipeline.mock.images import SKY_RESIDUAL
from pipeline.mock.sources import CLASSES
from pipeline.mock.tables import sweep_name
from pipeline.mock.truth import target_id
from tests.mock_reading import FIRST, LAST, PIXEL, around, bricks, coadd, image, sweeps, tractor, truth

TINY = "MockSky(columns=2, rows=2, brick_pixels=500, galaxies=24, stars=16, max_radius=5.0)"  # as in conftest.py


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
    assert all(name.isupper() for name in table.dtype.names or [""])
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
