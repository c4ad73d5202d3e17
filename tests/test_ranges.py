"""Images of which only parts are fetched: the same bits as the whole file, in as few requests as were planned."""

from __future__ import annotations

import gzip
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from pipeline.archives.answers import Answer
from pipeline.archives.heads import FIRST, Head, PlainPixels, head_of, merged
from pipeline.archives.images import FitsImage
from pipeline.archives.ranges import RangedImage
from pipeline.errors import ArchiveChanged, ArchiveError, BadImage
from tests.skies import tan_header

Span = tuple[int, int]


@dataclass
class Archive:
    """A file of an archive, read as the client reads it."""

    data: bytes
    etag: str | None = '"1"'
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, start: int, stop: int, *, etag: str | None = None, fresh: bool = False) -> Answer:
        self.asked.append((start, stop))
        if etag is not None and etag != self.etag:
            raise ArchiveChanged("another version")
        part = self.data[start:stop]
        sha256 = hashlib.sha256(part).hexdigest()
        return Answer(
            "https://a/dr10/g.fits", len(part), sha256, self.etag, total=len(self.data), data=part, requests=1
        )


def _file(folder: Path, kind: str, size: int = 700) -> Path:
    rng = np.random.default_rng(size)
    flux = (0.01 * rng.standard_normal((size, size + 40)) + 0.001).astype(np.float32)
    flux[:120, :120] = 0
    path = folder / f"{kind}.fits"
    cards = [{"name": name, "value": value} for name, value in tan_header(150.0, 2.0, size).items()]
    how: dict[str, Any] = {
        "rice": {"compress": "RICE", "qlevel": -1e-4, "qmethod": "SUBTRACTIVE_DITHER_2", "tile_dims": (100, 100)},
        "mask": {"compress": "HCOMPRESS", "tile_dims": (100, 100)},
        "plain": {},
    }
    with fitsio.FITS(path, "rw") as file:
        file.write(np.round(100 * flux).astype(np.int32) if kind == "mask" else flux, header=cards, **how[kind])
    return path


def _ranged(archive: Archive, folder: Path, gap: int = 0) -> RangedImage:
    return RangedImage(archive, folder / "sparse", "dr10/g.fits", gap)


def _boxes(seed: int, shape: tuple[int, ...], count: int = 12) -> list[tuple[int, int, int, int]]:
    """Random boxes, and those at the borders of tiles and the edges of the image."""
    (height, width), rng = shape, np.random.default_rng(seed)
    y, x = rng.integers(0, height - 90, count), rng.integers(0, width - 90, count)
    boxes = [(int(b), int(b) + 80, int(a), int(a) + 90) for a, b in zip(x, y, strict=True)]
    return [*boxes, (0, 1, 0, 1), (height - 1, height, width - 1, width), (99, 101, 99, 101), (100, 200, 200, 300)]


@pytest.mark.parametrize("kind", ["rice", "mask", "plain"])
@pytest.mark.parametrize("gap", [0, 20_000])
def test_planned_ranges_give_the_bits_of_the_whole_file(kind: str, gap: int, tmp_path: Path) -> None:
    path = _file(tmp_path, kind)
    archive, whole = Archive(path.read_bytes()), FitsImage(path, kind)
    image = _ranged(archive, tmp_path, gap)
    assert (image.shape, dict(image.header)) == (whole.shape, dict(whole.header))
    few = 2 if kind == "plain" else 12  # each of their rows is a request
    boxes = _boxes(1, whole.shape, few)
    planned = image.missing(boxes)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(image.fetch, planned))
    before = len(archive.asked)
    for box in boxes:
        assert image.section(*box).tobytes() == whole.section(*box).tobytes(), box
    assert len(archive.asked) == before == 1 + len(planned)
    assert image.missing(boxes) == []
    later = _boxes(2, whole.shape, 3 * few)
    for box in later:
        assert image.section(*box).tobytes() == whole.section(*box).tobytes(), box
    image.close()
    whole.close()


def test_only_the_tiles_that_are_touched_are_fetched(tmp_path: Path) -> None:
    path = _file(tmp_path, "rice")
    archive = Archive(path.read_bytes())
    image = _ranged(archive, tmp_path)
    image.section(330, 470, 210, 260)
    head = head_of(archive.data, "x")
    assert isinstance(head, Head)
    (first, later) = archive.asked[1:]
    tiles = head.places.pieces([(330, 470, 210, 260)])
    assert [first, later] == [(int(start), int(stop)) for start, stop in tiles]
    assert image.section(331, 400, 220, 230).shape == (69, 10)
    assert len(archive.asked) == 3


def test_gaps_are_filled_where_that_is_cheaper_than_a_request() -> None:
    pieces = np.array([[0, 10], [10, 20], [25, 30], [26, 28], [131, 140]])
    assert merged(pieces, 0) == [(0, 20), (25, 30), (131, 140)]
    assert merged(pieces, 5) == [(0, 30), (131, 140)]
    assert merged(pieces, 100) == [(0, 30), (131, 140)]
    assert merged(pieces, 101) == [(0, 140)]
    assert merged(pieces[:0], 5) == []


def test_a_plain_image_is_fetched_row_by_row() -> None:
    places = PlainPixels((100, 50), 2880, 4)
    rows = [(2880 + 4 * (50 * row + 10), 2880 + 4 * (50 * row + 12)) for row in (3, 4, 5)]
    assert merged(places.pieces([(3, 5, 10, 12), (4, 6, 10, 12)]), 0) == rows
    assert merged(places.pieces([(3, 5, 10, 12), (4, 6, 10, 12)]), 191) == rows
    assert merged(places.pieces([(4, 6, 10, 12), (3, 5, 10, 12)]), 192) == [(rows[0][0], rows[-1][1])]


def test_a_head_that_is_longer_than_the_first_read_is_read_on(tmp_path: Path) -> None:
    path = _file(tmp_path, "rice")
    data = path.read_bytes()
    second = 2 * 2880  # block of the header of the compressed image
    cards = b"".join(f"HISTORY {number:72d}".encode() for number in range(36 * 60))
    path.write_bytes(data[:second] + cards + data[second:])
    archive, whole = Archive(path.read_bytes()), FitsImage(path, "x")
    assert len(cards) > 2 * FIRST
    image = _ranged(archive, tmp_path)
    assert 1 < len(archive.asked) <= 4
    assert image.section(90, 210, 0, 60).tobytes() == whole.section(90, 210, 0, 60).tobytes()


def test_what_cannot_be_planned_is_read_whole(tmp_path: Path) -> None:
    cube = np.random.default_rng(1).random((3, 200, 210), np.float32)
    fitsio.write(tmp_path / "cube.fits", cube)
    packed = gzip.compress(_file(tmp_path, "plain").read_bytes())
    for data, shape in (((tmp_path / "cube.fits").read_bytes(), (3, 200, 210)), (packed, (700, 740))):
        archive = Archive(data)
        image = _ranged(archive, tmp_path)
        assert image.shape == shape
        assert archive.asked == [(0, FIRST), (FIRST, len(data))]
        assert image.section(5, 60, 100, 120).shape == (*shape[:-2], 55, 20)
        image.close()


def test_what_came_whole_is_held_against_its_checksums(tmp_path: Path) -> None:
    """A file no longer than the first read, by its cards: asked for again once, and then a bad image."""
    path = _file(tmp_path, "mask", 300)
    with fits.open(path, disable_image_compression=True) as hdus:
        hdus.writeto(tmp_path / "summed.fits", checksum=True)
    data = (tmp_path / "summed.fits").read_bytes()
    assert len(data) < FIRST
    archive = Archive(data)
    image = _ranged(archive, tmp_path)
    assert image.vouched and len(archive.asked) == 1
    image.close()
    spoilt = Archive(data[:-4000] + bytes([data[-4000] ^ 1]) + data[-3999:])
    with pytest.raises(BadImage, match=r"dr10/g\.fits: HDU 1: .*(CHECKSUM|DATASUM)"):
        _ranged(spoilt, tmp_path)
    assert len(spoilt.asked) == 2
    parts = _ranged(Archive(_file(tmp_path, "rice").read_bytes()), tmp_path)
    assert not parts.vouched
    parts.close()


def test_a_file_that_changes_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    """No image is put together of two versions."""
    old, new = _file(tmp_path, "rice").read_bytes(), None
    new = _file(tmp_path, "rice", 720).read_bytes()
    whole = FitsImage(tmp_path / "rice.fits", "x")
    archive = Archive(old)
    image = _ranged(archive, tmp_path)
    image.section(0, 50, 0, 50)
    archive.data, archive.etag = new, '"2"'
    assert image.section(300, 400, 300, 400).tobytes() == whole.section(300, 400, 300, 400).tobytes()
    assert image.shape == whole.shape
    assert image.section(0, 50, 0, 50).tobytes() == whole.section(0, 50, 0, 50).tobytes()


def test_a_file_that_never_stays_the_same_is_the_archive_s_error(tmp_path: Path) -> None:
    archive = Archive(_file(tmp_path, "rice").read_bytes())
    image = _ranged(archive, tmp_path)

    def changing(start: int, stop: int, *, etag: str | None = None, fresh: bool = False) -> Answer:
        if etag is not None:
            raise ArchiveChanged("another version")
        return archive(start, stop)

    image._read = changing
    with pytest.raises(ArchiveError, match="changed 3 times"):
        image.section(300, 400, 300, 400)


def test_a_file_cut_short_is_a_bad_image_by_name(tmp_path: Path) -> None:
    data = _file(tmp_path, "rice").read_bytes()
    for length, message in ((len(data) // 2, "cut short"), (5000, "cut short|END|no image"), (0, "dr10/g")):
        with pytest.raises(BadImage, match=message) as error:
            _ranged(Archive(data[:length]), tmp_path)
        assert "dr10/g.fits" in str(error.value)
    archive = Archive(data)
    image = _ranged(archive, tmp_path)
    archive.data = data[: len(data) // 2]
    with pytest.raises(BadImage, match="cut short: it has no bytes"):
        image.section(600, 700, 600, 700)


def test_a_page_instead_of_an_image_is_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"dr10/g\.fits"):
        _ranged(Archive(b"<html>no such layer</html>"), tmp_path)
    broken = bytearray(_file(tmp_path, "rice").read_bytes())
    at = broken.index(b"COMPRESSED_DATA")
    broken[at : at + 15] = b"SOMETHING__ELSE"
    with pytest.raises(BadImage, match="no column COMPRESSED_DATA"):
        _ranged(Archive(bytes(broken)), tmp_path)
