"""Sources at the edges of bricks, where coordinates end and where two trees meet, loaded from files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.archives.opener import Opener
from pipeline.data import Cutout, ImageContract, RowFlag, Source, Status
from pipeline.executors.prepare import prepare
from pipeline.mock.files import image_bytes, table_bytes, write
from pipeline.preprocess import contract_image
from pipeline.stages import load, open_survey
from pipeline.surveys.boxes import SMALLEST_IMAGE
from pipeline.surveys.legacy import LegacySurvey
from pipeline.surveys.tan import Tan
from tests.runs import mock_job, tiny_checkpoint
from tests.skies import PIXEL, SCATTERED, Blob, BrickSky, cell_side, path, polar_cells, tan_header

SIZE = 360  # pixels of a brick
WIDTH = 59.5  # arcsec of sky in an image: 8.5 radii of 7 arcsec
BRIGHTER = 1.25  # the north's telescope over the south's
Place = tuple[float, float]  # arcsec east and north of the middle of the sky
CORNER: tuple[Place, ...] = ((1.0, 2.0), (-2.0, 15.0), (14.0, -1.0), (-3.0, -4.0), (0.0, 0.0), (20.0, -18.0))
AROUND: tuple[Place, ...] = ((0.0, 0.0), (0.3, 25.0), (-33.0, 0.5), (22.0, -21.0), (30.0, 30.0), (-3.0, -44.0))
PLACES: dict[str, tuple[str, tuple[float, float], tuple[Place, ...]]] = {  # regions, middle of the sky, sources
    "ra 0": ("south", (0.0, 10.0), CORNER),
    "north pole": ("north", (180.0, 90.0), AROUND),
    "south pole": ("south", (180.0, -90.0), AROUND),
    "seam": ("south, north", (200.0, 32.375), CORNER),
}


@dataclass(frozen=True, eq=False)
class Loaded:
    """The rows of one place."""

    survey: LegacySurvey
    opener: Opener
    contract: ImageContract
    skies: dict[str, BrickSky]  # by region
    sources: list[Source]
    status: list[str]
    flags: list[RowFlag]
    images: list[NDArray[np.uint8]]

    def sky(self, source: Source) -> BrickSky:
        return self.skies[source.tile.partition("/")[0]]


@cache
def _sky(ra: float, dec: float, brightness: float) -> BrickSky:
    blobs = tuple(Blob(blob.east, blob.north, blob.sigma, blob.flux * brightness) for blob in SCATTERED)
    cells = polar_cells(round(dec), cell_side(SIZE)) if abs(dec) == 90 else ()
    return BrickSky(ra, dec, SIZE, blobs, 0.01 * brightness, cells=cells)


def _write(root: Path, sky: BrickSky, region: str) -> None:
    """The tree of one region, compressed as the survey's."""
    tree = {"south": "dr10/south", "north": "dr9/north"}[region]
    for brick in sky.centres:
        image, mask = sky.images[path(brick, "g")], sky.images[path(brick, None)]
        cards = [{"name": key, "value": value} for key, value in image.header.items()]
        names = {band: root / path(brick, band).replace("dr10/south", tree) for band in ("g", "r", "z", None)}
        write(names[None], image_bytes(mask.pixels, cards))
        drawn = image_bytes(image.pixels, cards)
        for band in "grz":
            write(names[band], drawn)
    rows = sky.table().drop_columns(["region"]).to_pylist()
    kinds = [(key, "U8" if isinstance(value, str) else "f8") for key, value in rows[0].items()]
    table = table_bytes(np.array([tuple(row.values()) for row in rows], dtype=kinds))
    write(root / tree / f"survey-bricks-{tree.replace('/', '-')}.fits.gz", table)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose images find all their pixels inside the cutout."""
    folder = tmp_path_factory.mktemp("larger")
    return tiny_checkpoint(folder, image=replace(ImageContract(), size=SMALLEST_IMAGE))


@pytest.fixture(scope="module", params=PLACES)
def loaded(request: pytest.FixtureRequest, larger: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    regions, middle, places = PLACES[request.param]
    folder = tmp_path_factory.mktemp("edge")
    skies = {name: _sky(*middle, BRIGHTER if name == "north" else 1.0) for name in regions.split(", ")}
    for name, sky in skies.items():
        _write(folder / "tree", sky, name)
    positions = [next(iter(skies.values())).position(*place) for place in places]
    ra, dec = zip(*positions, strict=True)
    number, radius = np.arange(len(places)), np.full(len(places), WIDTH / 8.5)
    pq.write_table(pa.table({"object_id": number, "ra": ra, "dec": dec, "radius": radius}), folder / "t.parquet")
    settings = [f"survey.regions=[{regions}]", f"sources.table={folder}/t.parquet", "sources.columns.radius=radius"]
    job = mock_job(folder / "tree", larger, *settings)
    prepared = prepare(job, str(folder / "out"), "run", lambda message: None)
    rows, chunks = [], []
    for unit in prepared.plan.units():
        rows += prepared.plan.rows(unit).select(["object_id", "ra", "dec", "tile", "radius"]).to_pylist()
        chunks += [load(prepared.work, unit, chunk) for chunk in range(len(unit.chunks))]
    survey = open_survey(job, prepared.plan.tile_table())
    assert isinstance(survey, LegacySurvey)
    with Opener(str(folder / "tree")) as opener:
        yield Loaded(
            survey, opener, prepared.work.image, skies, [Source(**row) for row in rows],
            [status for chunk in chunks for status in chunk.status],
            [RowFlag(int(flag)) for chunk in chunks for flag in chunk.flags],
            [image for chunk in chunks for image in chunk.images],
        )  # fmt: skip


def _north_up(sky: BrickSky, source: Source) -> Cutout:
    """The sky around a source, drawn on pixels of its own: no brick has a part in it."""
    size = round(1.5 * WIDTH / PIXEL)
    header = tan_header(source.ra, source.dec, size)
    y, x = np.indices((size, size), dtype=np.float64)
    if source.dec == 90:
        header["LONPOLE"] = 180.0
    flux = np.stack([sky.brightness(header, x, y).astype(np.float32)] * 3)
    return Cutout(flux, np.zeros(flux.shape, np.bool_), Tan.of(header, "sky").grid_at(source.ra, source.dec))


def test_every_image_shows_the_sky_north_up(loaded: Loaded) -> None:
    """Every row is ok; its image is that of a sky without bricks to within four of 255 levels.

    Pixels that are turned, as around a pole, lie up to half a pixel of the image off (preprocess.MAX_SKEW).
    """
    assert len(loaded.sources) == 6
    assert set(loaded.status) == {Status.OK}
    for source, image in zip(loaded.sources, loaded.images, strict=True):
        truth = contract_image(_north_up(loaded.sky(source), source), loaded.contract, WIDTH)
        off = np.abs(image.astype(int) - truth)
        assert truth.max() > 100
        assert off.max() <= (25 if abs(source.dec) > 89 else 4), (source, off.max())
        assert off.mean() < 0.2
        assert np.abs(image.astype(int) - truth[:, ::-1, ::-1]).mean() > 1


def test_own_pixels_are_the_file_s_and_the_strip_is_within_a_hundredth_of_the_peak(loaded: Loaded) -> None:
    strips = 0
    for source in loaded.sources:
        sky, name = loaded.sky(source), source.tile.partition("/")[2]
        cutout = loaded.survey.cut(loaded.opener, source, WIDTH)
        header = sky.images[path(name, "g")].header
        tan, (height, length) = Tan.of(header, name), cutout.flux.shape[1:]
        at = np.subtract(tan.grid_at(source.ra, source.dec).centre, cutout.grid.centre)
        x0, y0 = (round(float(offset)) for offset in at)
        rows, columns = np.indices((height, length), dtype=np.float64)
        truth = sky.brightness(header, columns + x0, rows + y0)
        inside = np.s_[max(0, -y0) : SIZE - y0, max(0, -x0) : SIZE - x0]
        product = loaded.survey.products(source.tile)[0]
        stored = loaded.opener(product).section(max(0, y0), min(SIZE, y0 + height), max(0, x0), min(SIZE, x0 + length))
        area = np.float32(tan.pixel_scale**2)
        assert cutout.flux[0][inside].tobytes() == (stored / area).tobytes()
        assert np.abs(cutout.flux[0] - truth)[inside].max() < 1e-4 / PIXEL**2
        assert np.abs(cutout.flux - truth).max() < 0.01 * truth.max()
        assert not cutout.bad.any()
        strips += bool(cutout.flags & RowFlag.EDGE)
    assert strips >= 4


def test_rows_are_flagged_for_what_they_cross(loaded: Loaded) -> None:
    seam = len(loaded.skies) == 2
    assert all(bool(flags & RowFlag.SEAM) == seam for flags in loaded.flags)
    tiles = {source.tile for source in loaded.sources}
    assert len({tile.partition("/")[0] for tile in tiles}) == len(loaded.skies)
    assert len(tiles) >= 3
