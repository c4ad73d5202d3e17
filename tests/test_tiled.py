"""Tiles that overlap: strips from neighbours across RA 0 and near a pole, bands on pixels of their own, north up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data import ImageContract, RowFlag, Source
from pipeline.errors import ArchiveError, BadImage, JobError, NoCoverage
from pipeline.preprocess import contract_image
from pipeline.surveys.euclid import EuclidConfig
from pipeline.surveys.first import FirstConfig
from pipeline.surveys.hips import HipsConfig
from pipeline.surveys.moc import Moc
from pipeline.surveys.panstarrs import PanstarrsConfig
from pipeline.surveys.sdss import SdssConfig
from pipeline.surveys.tan import Tan
from pipeline.surveys.tiled import Covered, Objects, TiledSurvey
from pipeline.surveys.tiles import TilesConfig
from tests.skies import SCATTERED, Blob, BrickSky
from tests.survey_services import FirstServer
from tests.survey_trees import Archive, corners_of, drawn_on, euclid_mosaics, footprint_table, sky_of, turned_header

SCALE, SHAPE = 0.3, (330, 260)
PLACES = [(0.0, 60.0), (359.999, 0.0), (180.0, -89.8), (123.0, 89.8)]  # deg


def _two_tiles(ra: float, dec: float, **cards: Any) -> tuple[TiledSurvey, Archive, BrickSky]:
    """A tile west of a place and one east of it, turned against each other, that share a strip of 6 arcsec."""
    sky = sky_of(ra % 360, dec, *SCATTERED)
    archive, rows = Archive(), {}
    for name, east, angle in (("west", -36.0, 0.0), ("east", 36.0, 8.0)):
        header = turned_header(*sky.position(east, 0.0), SHAPE, SCALE, angle)
        archive.files[f"{name}.fits"] = drawn_on(sky, header, SHAPE, lambda light: light * SCALE**2, **cards)
        rows[name, "r"] = f"{name}.fits", corners_of(header, SHAPE)
    return TilesConfig(bands=("r",)).build(footprint_table(rows)), archive, sky


def _source(survey: TiledSurvey, sky: BrickSky, east: float, north: float) -> Source:
    ra, dec = sky.position(east, north)
    return Source(1, ra, dec, str(survey.tiles(np.array([ra]), np.array([dec]))[0]))


@pytest.mark.parametrize(("ra", "dec"), PLACES)
def test_what_leaves_a_tile_comes_from_the_one_beside_it(ra: float, dec: float) -> None:
    survey, archive, sky = _two_tiles(ra, dec, BUNIT="nanomaggy")
    for east, tile in ((-3.0, "west"), (3.0, "east")):
        source = _source(survey, sky, east, 4.0)
        assert source.tile == tile
        cutout = survey.cut(archive, source, 30.0)
        header = archive.files[f"{tile}.fits"].header
        x, y = Tan.of(header, tile).to_pixels(np.array([source.ra]), np.array([source.dec]))
        rows, columns = np.indices(cutout.flux.shape[1:], dtype=np.float64)
        truth = sky.brightness(header, columns - cutout.grid.centre[0] + x, rows - cutout.grid.centre[1] + y)
        assert cutout.flags == RowFlag.EDGE
        assert not cutout.bad.any()
        assert np.abs(cutout.flux[0] - truth).max() < 0.01 * truth.max()
        assert np.isnan(cutout.masked_fraction)


def test_the_middle_of_a_tile_opens_no_other() -> None:
    survey, archive, sky = _two_tiles(10.0, 5.0, BUNIT="nanomaggy")
    assert survey.cut(archive, _source(survey, sky, -36.0, 0.0), 15.0).flags == RowFlag(0)
    assert archive.asked == ["west.fits"]


def test_a_neighbour_that_the_archive_lacks_leaves_its_part_empty() -> None:
    survey, archive, sky = _two_tiles(10.0, 5.0, BUNIT="nanomaggy")
    del archive.files["west.fits"]
    cutout = survey.cut(archive, _source(survey, sky, 3.0, 0.0), 30.0)
    assert cutout.flags == RowFlag.EDGE
    assert 0.1 < cutout.bad.mean() < 0.6
    with pytest.raises(ArchiveError, match="west: the footprint promises images"):
        survey.cut(archive, _source(survey, sky, -3.0, 0.0), 30.0)


def test_turned_tiles_give_the_image_of_tiles_that_are_not() -> None:
    """North is up and east is left, however the field lay on the sky: SDSS has every angle, and mirrors none."""
    sky = sky_of(150.0, 2.0, Blob(4, 6, 1.2, 40), Blob(-6, 2, 1.0, 20), Blob(3, -8, 1.1, 30))
    contract = ImageContract(bands=("r",), planes=("r",), scales=(3.4,), min_bands=1, size=64)
    images = []
    for angle in (0.0, 90.0, 37.0, 200.0, -93.0):
        header = turned_header(150.0, 2.0, SHAPE, SCALE, angle)
        archive = Archive({"one.fits": drawn_on(sky, header, SHAPE, lambda light: light * SCALE**2, BUNIT="nanomaggy")})
        table = footprint_table({("one", "r"): ("one.fits", corners_of(header, SHAPE))})
        cutout = TilesConfig(bands=("r",)).build(table).cut(archive, Source(1, 150.0, 2.0, "one"), 30.0)
        images.append(contract_image(cutout, contract, 30.0)[0].astype(int))
    brightest = np.unravel_index(images[0].argmax(), images[0].shape)
    assert brightest[0] < 32 and brightest[1] < 32  # Blob(4, 6): north is the first row, east the first column
    for image in images[1:]:
        assert np.abs(image - images[0]).max() <= 3


@pytest.mark.parametrize(
    ("cards", "settings", "message"),
    [
        ({}, {}, "BUNIT is '' and there is no MAGZERO: say the zero point"),
        ({"BUNIT": "counts"}, {}, "BUNIT is 'counts'"),
        ({"MAGZERO": "deep"}, {}, "MAGZERO is 'deep', expected a number"),
    ],
)
def test_numbers_without_a_unit_are_refused(cards: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    survey, archive, sky = _two_tiles(10.0, 5.0, **cards)
    with pytest.raises(BadImage, match=message):
        survey.cut(archive, _source(survey, sky, -36.0, 0.0), 15.0)


@pytest.mark.parametrize(("cards", "zero_point"), [({"MAGZERO": 25.0}, None), ({}, 25.0), ({"MAGZERO": 9.0}, 25.0)])
def test_a_zero_point_is_a_unit(cards: dict[str, float], zero_point: float | None) -> None:
    survey, archive, sky = _two_tiles(10.0, 5.0, BUNIT="nanomaggy")
    source = _source(survey, sky, -36.0, 0.0)
    for image in archive.files.values():
        image.header = {**image.header, **cards, "BUNIT": ""}
    counts = TilesConfig(bands=("r",), zero_point=zero_point).build(_table_of(archive)).cut(archive, source, 15.0)
    for image in archive.files.values():
        image.header = {**image.header, "BUNIT": "nanomaggy"}
    flux = survey.cut(archive, source, 15.0).flux
    assert counts.flux / flux == pytest.approx(0.1, rel=1e-5)  # 2.5 mag fainter


def test_tables_that_contradict_themselves_are_refused() -> None:
    header = turned_header(10.0, 5.0, SHAPE, SCALE)
    good = footprint_table({("one", "r"): ("a.fits", corners_of(header, SHAPE))})
    with pytest.raises(JobError, match="the band 'r' of tile one twice"):
        TilesConfig(bands=("r",)).build(good.take([0, 0]))
    with pytest.raises(JobError, match="lacks the columns path, ra4"):
        TilesConfig(bands=("r",)).build(good.drop_columns(["path", "ra4"]))
    crossed = corners_of(header, SHAPE)[[0, 2, 1, 3]]
    with pytest.raises(JobError, match=r"tile one .* corners are in disorder"):
        TilesConfig(bands=("r",)).build(footprint_table({("one", "r"): ("a.fits", crossed)}))
    for config in (TilesConfig(), SdssConfig(), EuclidConfig(), FirstConfig(footprint="maps.csv")):
        with pytest.raises(JobError, match="needs"):
            config.build(None)


def test_a_mosaic_of_another_bucket_is_refused() -> None:
    corners = corners_of(turned_header(60.0, -48.0, SHAPE, 0.1), SHAPE)
    table = euclid_mosaics({"q1/MER/1/VIS/EUC_TILE1-A.fits": ("VIS", corners)}, bucket="elsewhere")
    with pytest.raises(JobError, match=r"of the bucket elsewhere, survey\.bucket is nasa-irsa-euclid-q1"):
        EuclidConfig().build(table)
    with pytest.raises(JobError, match="no polygon of four corners"):
        EuclidConfig(bucket="elsewhere").build(table.set_column(1, "s_region", [["CIRCLE ICRS 1 2 3"] * 2]))


def test_outside_its_moc_a_survey_of_objects_asks_for_nothing() -> None:
    survey = FirstConfig(moc="first.fits").build(None)
    assert survey.tiles(np.array([10.0]), np.array([20.0])).tolist() == ["010.000000+20.000000"]
    inside = Moc.of(pa.table({"UNIQ": [4]}))  # the first of the twelve: RA 0 to 90, Dec 0 to 90 in part
    limited = replace(survey, ground=Covered(Objects(), inside))
    assert limited.tiles(np.array([45.0, 200.0]), np.array([40.0, -40.0])).tolist() == ["045.000000+40.000000", ""]
    server = FirstServer(sky_of(200.0, -40.0))
    with pytest.raises(NoCoverage):
        limited.cut(server, Source(1, 200.0, -40.0, ""), 270.0)
    assert server.asked == []


def test_outside_its_moc_no_stack_of_panstarrs_is_asked_for() -> None:
    config = PanstarrsConfig(moc="ps1.fits")
    assert [found.path for found in config.tile_lists] == ["ps1.fits"]
    ra, dec = np.array([45.0, 45.0]), np.array([40.0, -20.0])
    everywhere = PanstarrsConfig().build(None).tiles(ra, dec)
    limited = config.build(pa.table({"UNIQ": [4]}))
    assert all(everywhere)
    assert limited.tiles(ra, dec).tolist() == [everywhere[0], ""]
    with pytest.raises(NoCoverage):
        limited.cut(Archive(), Source(1, 45.0, -20.0, ""), 60.0)


def test_previews_say_so_in_the_row() -> None:
    assert HipsConfig().build(None).flags == RowFlag.PREVIEW


def _table_of(archive: Archive) -> pa.Table:
    names = {path.removesuffix(".fits"): path for path in archive.files}
    rows = {(name, "r"): (path, corners_of(archive.files[path].header, SHAPE)) for name, path in names.items()}
    return footprint_table(rows)
