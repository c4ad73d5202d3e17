"""Sections of FITS images of every kind, against cfitsio reading the whole image, bit by bit."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io.fits.hdu.compressed._quantization import Quantize
from numpy.typing import NDArray

from pipeline.archives import rice
from pipeline.archives.images import FitsImage
from pipeline.archives.streams import check_streams
from pipeline.archives.tiles import DecodedTiles
from pipeline.errors import BadImage

Array = NDArray[Any]
ABSOLUTE = {"compress": "RICE", "qlevel": -1e-4, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": 7}


def _noise(height: int, width: int) -> Array:
    """Noise with stars, a corner of exact zeros and a stretch of one value."""
    rng = np.random.default_rng(height + width)
    pixels = 0.01 * rng.standard_normal((height, width), np.float32) + np.float32(0.002)
    pixels[rng.integers(0, height, 40), rng.integers(0, width, 40)] += np.float32(30)
    pixels[: height // 3, : width // 3] = 0
    pixels[-height // 4 :, -width // 3 :] = np.float32(0.25)
    return pixels


def _holes(height: int, width: int) -> Array:
    pixels = _noise(height, width)
    pixels[::7, ::5] = np.nan
    return pixels


def _counts(height: int, width: int) -> Array:
    return np.random.default_rng(1).integers(0, 40, (height, width)).astype(np.int32)


KINDS: dict[str, tuple[Callable[[int, int], Array], dict[str, Any]]] = {
    "survey": (_noise, {**ABSOLUTE, "tile_dims": (100, 100)}),
    "dither 1": (_noise, {**ABSOLUTE, "qmethod": "SUBTRACTIVE_DITHER_1", "tile_dims": (64, 90)}),
    "no dither": (_noise, {**ABSOLUTE, "qmethod": "NO_DITHER", "tile_dims": (100, 100)}),
    "relative step": (_noise, {**ABSOLUTE, "qlevel": 4, "tile_dims": (50, 100)}),
    "row tiles": (_noise, {**ABSOLUTE, "tile_dims": (1, 317)}),
    "holes": (_holes, {**ABSOLUTE, "tile_dims": (100, 100)}),
    "gzip": (_noise, {"compress": "GZIP", "qlevel": None, "tile_dims": (80, 80)}),
    "mask": (_counts, {"compress": "HCOMPRESS", "tile_dims": (100, 100)}),
    "counts": (_counts, {"compress": "RICE", "tile_dims": (100, 100)}),
    "plain": (_noise, {}),
    "plain counts": (_counts, {}),
    "plain doubles": (lambda h, w: _noise(h, w).astype(np.float64), {}),
}  # fmt: skip


def _written(folder: Path, kind: str, height: int = 331, width: int = 317) -> tuple[Path, Array]:
    """A file of that kind, and what cfitsio makes of all of it."""
    draw, how = KINDS[kind]
    path = folder / f"{kind.replace(' ', '-')}.fits"
    with fitsio.FITS(path, "rw") as file:
        file.write(draw(height, width), **how)
    whole = fitsio.read(path)
    return path, whole.astype(whole.dtype.newbyteorder("="))


def _boxes(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Random ones, and those at the borders of tiles and at the edges of the image."""
    rng = np.random.default_rng(2)
    boxes = [(0, height, 0, width), (0, 1, 0, 1), (height - 1, height, width - 1, width), (99, 101, 199, 201)]
    boxes += [(100, 200, 100, 200), (height - 100, height, 0, 100), (0, 100, width - 17, width)]
    for _ in range(40):
        y, x = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
        boxes += [(int(y[0]), int(y[1]), int(x[0]), int(x[1]))] if y[0] < y[1] and x[0] < x[1] else []
    return boxes


@pytest.mark.parametrize("kind", KINDS)
def test_a_section_has_the_bits_of_the_whole_image(kind: str, tmp_path: Path) -> None:
    path, whole = _written(tmp_path, kind)
    image = FitsImage(path, kind)
    assert image.shape == whole.shape
    for y0, y1, x0, x1 in _boxes(*whole.shape):
        section = image.section(y0, y1, x0, x1)
        assert section.dtype == whole.dtype and section.flags.c_contiguous and section.flags.writeable
        assert section.tobytes() == whole[y0:y1, x0:x1].tobytes(), (y0, y1, x0, x1)
    image.close()


def test_the_survey_s_tiles_are_decoded_by_astropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its private codecs all would be right and slow."""
    decoded: Counter[int] = Counter()

    class Counted(Quantize):  # type: ignore[misc]
        def decode_quantized(self, buf: Array, scale: float, zero: float) -> Array:
            decoded[self.row - 7] += 1
            return super().decode_quantized(buf, scale, zero)

    monkeypatch.setattr(rice, "Quantize", Counted)
    path, whole = _written(tmp_path, "survey")
    image = FitsImage(path, "g")
    for y0, y1, x0, x1 in ((50, 150, 120, 130), (60, 170, 110, 130), (99, 101, 90, 110)):
        image.section(y0, y1, x0, x1)
    assert decoded == {0: 1, 1: 1, 4: 1, 5: 1}
    assert image.bytes_held == 4 * 40_000
    image.forget()
    assert image.bytes_held == 0
    assert image.section(50, 60, 110, 120).tobytes() == whole[50:60, 110:120].tobytes()
    assert decoded[1] == 2
    image.close()


def test_without_astropy_s_codecs_cfitsio_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rice, "Rice1", None)
    path, whole = _written(tmp_path, "survey")
    image = FitsImage(path, "g")
    assert image.section(20, 220, 30, 317).tobytes() == whole[20:220, 30:317].tobytes()
    assert image.bytes_held == 3 * 4 * 4 * 100 * 100 - 3 * 4 * 100 * 83
    image.close()


def test_each_tile_is_decoded_once_in_whatever_order_boxes_come() -> None:
    asked: Counter[tuple[int, int]] = Counter()

    def decode(row: int, columns: Sequence[int]) -> list[Array]:
        asked.update((row, column) for column in columns)
        return [np.full((10, 20), 100 * row + column, np.int16) for column in columns]

    tiles = DecodedTiles((10, 20), decode)
    rng = np.random.default_rng(3)
    for _ in range(200):
        y, x = int(rng.integers(0, 60)), int(rng.integers(0, 150))
        section = tiles.section(y, y + 37, x, x + 45)
        rows, columns = np.mgrid[y : y + 37, x : x + 45]
        assert (section == 100 * (rows // 10) + columns // 20).all()
    assert set(asked.values()) == {1}
    assert tiles.bytes_held == len(asked) * 400


def _cut_to_five_bytes(path: Path, hdu: int = 1, tile: int = 4) -> None:
    """Let the table say that a tile has 5 bytes."""
    data = bytearray(path.read_bytes())
    with fitsio.FITS(path) as file:
        at = file[hdu].get_info()["data_start"] + tile * int(file[hdu].read_header()["NAXIS1"])
    data[at : at + 4] = (5).to_bytes(4, "big")
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["mask", "gzip"])
def test_what_would_end_or_hang_the_process_never_reaches_cfitsio(kind: str, tmp_path: Path) -> None:
    """An HCOMPRESS stream of 5 bytes is a SIGFPE, a gzip stream that is cut short is inflated without end."""
    path, whole = _written(tmp_path, kind)
    _cut_to_five_bytes(path)
    image = FitsImage(path, "mask.fits.fz")
    assert image.section(0, 50, 0, 50).tobytes() == whole[:50, :50].tobytes()
    with pytest.raises(BadImage, match=r"mask\.fits\.fz: tile 4 is .*(HCOMPRESS|gzip) stream"):
        image.section(0, 331, 0, 20)
    image.close()


@pytest.mark.parametrize(
    ("sides", "magic"),
    [((20, 21), b"\xdd\x99"), ((0, 20), b"\xdd\x99"), ((-1, -1), b"\xdd\x99"), ((20, 20), b"\xdd\x98")],
)
def test_an_hcompress_stream_of_other_sides_or_none_is_refused(
    sides: tuple[int, int], magic: bytes, tmp_path: Path
) -> None:
    (tmp_path / "tiles").write_bytes(struct.pack(">2siiiq3B", magic, *sides, 1, 0, 1, 1, 1))
    with (tmp_path / "tiles").open("rb") as file, pytest.raises(BadImage, match="x: tile 0 is no HCOMPRESS stream"):
        check_streams(file.fileno(), "HCOMPRESS_1", {"COMPRESSED_DATA": np.array([[0, 25]])}, [0], 400, "x")


def test_planes_that_cfitsio_reads_itself_are_looked_at_first(tmp_path: Path) -> None:
    """Of one band an HDU, and of a cube."""
    bands, cube = tmp_path / "bands.fits", tmp_path / "cube.fits"
    draw, how = KINDS["gzip"]
    with fitsio.FITS(bands, "rw") as file:
        for band in "gr":
            file.write(draw(90, 80), header={"BAND": band}, **how)
    fitsio.write(cube, np.stack([draw(90, 80)] * 2), compress="GZIP", qlevel=None, tile_dims=(1, 45, 80))
    for path in (bands, cube):
        FitsImage(path, "x").close()
        _cut_to_five_bytes(path, 1 if path == cube else 2, 1)
        with pytest.raises(BadImage, match=r"y\.fits: tile 1 is .*gzip stream"):
            FitsImage(path, "y.fits")


@pytest.mark.parametrize("kind", ["survey", "counts"])
def test_a_damaged_tile_is_a_bad_image_by_name_and_the_others_are_read(kind: str, tmp_path: Path) -> None:
    path, whole = _written(tmp_path, kind)
    _cut_to_five_bytes(path)
    image = FitsImage(path, "dr10/g.fits.fz")
    assert image.section(0, 100, 0, 100).tobytes() == whole[:100, :100].tobytes()
    with pytest.raises(BadImage, match=r"dr10/g\.fits\.fz"):
        image.section(90, 120, 0, 20)
    image.close()


def test_a_tile_beyond_the_end_of_the_file_is_a_bad_image(tmp_path: Path) -> None:
    path, _ = _written(tmp_path, "survey")
    data = bytearray(path.read_bytes())
    with fitsio.FITS(path) as file:
        start = file[1].get_info()["data_start"]
    for offset, message in ((len(data), "cut short: tile 0"), (1 << 31, "before the file's heap")):
        data[start + 4 : start + 8] = offset.to_bytes(4, "big")
        path.write_bytes(bytes(data))
        with pytest.raises(BadImage, match=message):
            FitsImage(path, "x").section(0, 5, 0, 5)


def test_scaled_and_blank_pixels_are_cfitsio_s(tmp_path: Path) -> None:
    counts = _counts(90, 80).astype(np.int16)
    for key, value in (("BSCALE", 0.5), ("BZERO", 32768), ("BLANK", 7)):
        path = tmp_path / f"{key}.fits"
        fitsio.write(path, counts)
        with fitsio.FITS(path, "rw") as file:
            file[0].write_key(key, value)
        image = FitsImage(path, "x")
        assert image.section(3, 40, 5, 60).tobytes() == fitsio.read(path)[3:40, 5:60].tobytes()
        image.close()
