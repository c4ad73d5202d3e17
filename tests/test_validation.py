"""What a file must be before anyone uses it, and what its integrity says."""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from astropy.io import fits

from pipeline.archives.answers import Invalid, NotTheFile
from pipeline.archives.files import ArchiveFiles
from pipeline.archives.opener import Opener
from pipeline.archives.policy import CacheSection
from pipeline.archives.validation import check_expected, check_file, published_sum
from pipeline.data import Expected, Integrity, Product
from pipeline.errors import ArchiveRefused, BadImage
from tests.skies import tan_header
from tests.standins.fast import fast_access

BRICK = "dr10/south/coadd/149/1498p020/legacysurvey-1498p020"
SUMS = "dr10/south/tractor/149/brick-1498p020.sha256sum"
ASKED = Expected(bands="grz", shape=(20, 20), pixel_scale=0.262, centre=(150.0, 2.0))


def cutout(folder: Path, planes: int = 3, size: int = 20, **cards: Any) -> Path:
    """An answer of the cutout service; `cards` change its header."""
    pixels = np.full((planes, size, size), 0.5, ">f4")
    hdu = fits.PrimaryHDU(pixels if planes > 1 else pixels[0])
    hdu.header.update({**tan_header(150.0, 2.0, size), "BANDS": "grz", "SURVEY": "LegacySurvey", **cards})
    path = folder / "cutout.fits"
    hdu.writeto(path, overwrite=True)
    return path


def test_one_flipped_byte_anywhere_is_caught_by_the_cards(mock_tree: Path, tmp_path: Path) -> None:
    """In the header or the data; in the few bytes that say that there is a sum, at least nothing vouches any more."""
    whole = (mock_tree / f"{BRICK}-image-g.fits.fz").read_bytes()
    path, rng = tmp_path / "x.fits.fz", random.Random(5)
    path.write_bytes(whole)
    assert check_file(path, "x")
    places = [*rng.sample(range(len(whole)), 60), *rng.sample(range(2880, 4 * 2880), 20)]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        try:
            assert not check_file(path, "x"), place
        except Invalid:
            continue


def test_one_flipped_byte_is_caught_by_a_published_sum(mock_tree: Path, tmp_path: Path) -> None:
    whole = (mock_tree / f"{BRICK}-image-g.fits.fz").read_bytes()
    published = hashlib.sha256(whole).hexdigest()
    path = tmp_path / "x.fits.fz"
    path.write_bytes(whole)
    assert check_file(path, "x", published)
    path.write_bytes(whole[:200_000] + bytes([whole[200_000] ^ 1]) + whole[200_001:])
    with pytest.raises(Invalid, match=f"is not the published {published[:16]}"):
        check_file(path, "x", published)


def test_a_file_without_sums_is_good_but_nothing_vouches_for_it(tmp_path: Path) -> None:
    assert not check_file(cutout(tmp_path), "x")


def test_sums_of_data_alone_are_held_to_but_do_not_vouch(tmp_path: Path) -> None:
    path = cutout(tmp_path)
    with fits.open(path, mode="update") as hdus:
        hdus[0].add_datasum()
    assert not check_file(path, "x")
    whole = path.read_bytes()
    path.write_bytes(whole[:-2000] + b"!" + whole[-1999:])
    with pytest.raises(Invalid, match="contradict their DATASUM"):
        check_file(path, "x")


@pytest.mark.parametrize(
    ("cut", "error", "message"),
    [
        (lambda whole: b"<!DOCTYPE html>" + bytes(9000), NotTheFile, "no FITS file, it starts with b'<!DOCTYPE'"),
        (lambda whole: whole[: len(whole) // 2880 // 2 * 2880], NotTheFile, "cut short: .* its headers promise"),
        (lambda whole: whole[: len(whole) // 2], NotTheFile, "no whole number of FITS blocks"),
        (lambda whole: b"", NotTheFile, "no FITS file"),
        (lambda whole: b"no such layer", ArchiveRefused, "x: the service says: no such layer"),
    ],
)
def test_what_is_no_whole_fits_file_is_said(
    cut: Any, error: type[Exception], message: str, mock_tree: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.fits.fz"
    path.write_bytes(cut((mock_tree / f"{BRICK}-image-g.fits.fz").read_bytes()))
    for published in (None, "0" * 64):
        with pytest.raises(error, match=message):
            check_file(path, "x", published)


def test_a_cutout_as_asked_passes(tmp_path: Path) -> None:
    check_expected(cutout(tmp_path), "x", ASKED)
    check_expected(cutout(tmp_path, planes=1, BANDS="r"), "x", replace(ASKED, bands="r"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"BANDS": "griz"}, "BANDS is 'griz', asked for 'grz'"),
        ({"planes": 1}, "1 planes for the bands grz"),
        ({"size": 30}, "30x30 pixels, asked for 20x20"),
        ({"CTYPE1": "RA---SIN"}, "expected RA---TAN"),
        ({"CD2_2": 0.1 / 3600}, "arcsec a pixel, asked for 0.26200"),
        ({"CRVAL1": 150.1}, r"\(150.0, 2.0\) is at pixel .*, outside 20x20"),
    ],
)
def test_a_cutout_other_than_asked_is_invalid(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=message):
        check_expected(cutout(tmp_path, **changes), "x", ASKED)


def test_a_plane_of_nan_is_invalid_and_one_of_zeros_is_no_data(tmp_path: Path) -> None:
    path = cutout(tmp_path)
    for value in (0.0, np.nan):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[1] = value
        if value == 0:
            check_expected(path, "x", ASKED)
        else:
            with pytest.raises(Invalid, match="band r is NaN in every pixel"):
                check_expected(path, "x", ASKED)


def test_a_list_of_sums_names_files_with_or_without_their_folders() -> None:
    listing = f"{'a' * 64} *coadd/149/x-image-g.fits.fz\n{'B' * 64}  dr10/south/coadd/149/x-image-r.fits.fz\nnonsense\n"
    assert published_sum(listing, "dr10/south/coadd/149/x-image-g.fits.fz") == "a" * 64
    assert published_sum(listing, "dr10/south/coadd/149/x-image-r.fits.fz") == "b" * 64
    assert published_sum(listing, "dr10/south/coadd/149/yx-image-g.fits.fz") is None


def _without_cards(data: bytes) -> bytes:
    out = io.BytesIO()
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        for hdu in hdus:
            for card in ("CHECKSUM", "DATASUM"):
                hdu.header.remove(card, ignore_missing=True)
        hdus.writeto(out)
    return out.getvalue()


def product(band: str, sums: str | None) -> Product:
    return Product("south/1498p020", "image", band, f"{BRICK}-image-{band}.fits.fz", Expected(sums=sums))


@pytest.mark.parametrize(
    ("cards", "sums", "integrity"),
    [(True, False, "checked"), (False, True, "checked"), (True, True, "checked"), (False, False, "unchecked")],
)
def test_the_integrity_of_a_row_says_whether_checksums_vouch_for_all_of_its_files(
    cards: bool, sums: bool, integrity: str, mock_tree: Path, tmp_path: Path
) -> None:
    """Of files in place; one file among them always has its cards."""
    listing = []
    for band in "gr":
        data = (mock_tree / f"{BRICK}-image-{band}.fits.fz").read_bytes()
        data = data if cards or band == "r" else _without_cards(data)
        path = tmp_path / f"{BRICK}-image-{band}.fits.fz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        listing.append(f"{hashlib.sha256(data).hexdigest()} *{BRICK.removeprefix('dr10/south/')}-image-{band}.fits.fz")
    if sums:
        (tmp_path / SUMS).parent.mkdir(parents=True)
        (tmp_path / SUMS).write_text("\n".join(listing))
    wanted = [product(band, SUMS) for band in "gr"]
    with Opener(str(tmp_path)) as opener:
        assert opener.integrity(wanted) is None
        for one in wanted:
            opener(one)
        assert opener.integrity(wanted) == Integrity(integrity)


def test_a_flipped_byte_of_a_local_file_is_a_bad_image(mock_tree: Path, tmp_path: Path) -> None:
    """By its published sum where it has no cards."""
    path = tmp_path / f"{BRICK}-image-g.fits.fz"
    path.parent.mkdir(parents=True)
    (tmp_path / SUMS).parent.mkdir(parents=True)
    for cards in (True, False):
        whole = (mock_tree / f"{BRICK}-image-g.fits.fz").read_bytes()
        whole = whole if cards else _without_cards(whole)
        digest = hashlib.sha256(whole).hexdigest()
        (tmp_path / SUMS).write_text("" if cards else f"{digest} *coadd/149/1498p020/{path.name}\n")
        path.write_bytes(whole[:200_000] + bytes([whole[200_000] ^ 1]) + whole[200_001:])
        with (
            ArchiveFiles(str(tmp_path)) as files,
            pytest.raises(BadImage, match=f"{path.name}: .*(CHECKSUM|SHA-256|DATASUM)"),
        ):
            files.path(f"{BRICK}-image-g.fits.fz", Expected(sums=SUMS))


def test_an_empty_list_of_sums_is_not_kept(mock_tree: Path, tmp_path: Path) -> None:
    """A server that breaks off before the first byte, without having said how many come."""
    name, store = f"{BRICK}-image-g.fits.fz", fsspec.filesystem("memory")
    store.put(str(mock_tree / name), f"/sums/{name}")
    cache = CacheSection(url=str(tmp_path))
    try:
        with fast_access("memory://sums", cache=cache) as access:
            store.pipe_file(f"/sums/{SUMS}", b"")
            with ArchiveFiles("memory://sums", access) as files:
                files.path(name, Expected(sums=SUMS))
            other = f"{'0' * 64} *coadd/149/1498p020/{Path(name).name}\n"
            store.pipe_file(f"/sums/{SUMS}", other.encode())
            with ArchiveFiles("memory://sums", access) as files, pytest.raises(BadImage, match="SHA-256"):
                files.path(name, Expected(sums=SUMS))
    finally:
        store.rm("/sums", recursive=True)
