"""What is asked of services and trees is what astroquery and pyvo would ask, word for word."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import Angle, SkyCoord
from astroquery.hips2fits import conf as hips_settings
from astroquery.hips2fits import hips2fits
from astroquery.image_cutouts.first import First
from astroquery.image_cutouts.first import conf as first_settings
from astroquery.sdss import SDSS
from pyvo.dal.sia2 import SIA2Query

from pipeline.data import Product, Source
from pipeline.job import load_job
from pipeline.surveys.euclid import EuclidConfig
from pipeline.surveys.first import FirstConfig
from pipeline.surveys.hips import HipsConfig
from pipeline.surveys.panstarrs import PanstarrsConfig
from pipeline.surveys.sdss import SdssConfig

RA, DEC = 210.802429, 54.34875
PLACE = SkyCoord(RA, DEC, unit="deg")


def _parameters(product: Product) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(product.path).query))


def _server(product: Product) -> str:
    return product.path.partition("?")[0]


def test_first_is_asked_what_astroquery_asks() -> None:
    survey = FirstConfig().build(None)
    (product,) = survey.cutouts(Source(1, RA, DEC, "x"), 540.0, 300)
    theirs = First.get_images(PLACE, image_size=540 * units.arcsec, get_query_payload=True)
    ours = _parameters(product)
    assert set(ours) == set(theirs)
    for name in ("Equinox", "ImageType", "MaxImSize"):
        assert ours[name] == str(theirs[name])
    assert float(ours["ImageSize"]) == pytest.approx(float(theirs["ImageSize"]))
    assert [float(word) for word in ours["RA"].split()] == pytest.approx([float(word) for word in theirs["RA"].split()])
    assert _server(product) == first_settings.server
    assert FirstConfig().bands == ("1.4GHz",)


def test_hips2fits_is_asked_what_astroquery_asks() -> None:
    survey = HipsConfig(hips={"r": "CDS/P/PanSTARRS/DR1/r"}).build(None)
    (product,) = survey.cutouts(Source(1, RA, DEC, "x"), 60.0, 240)
    theirs = hips2fits.query(
        "CDS/P/PanSTARRS/DR1/r", 240, 240, "TAN", PLACE.ra, PLACE.dec, Angle(60, "arcsec"),
        format="fits", get_query_payload=True,
    )  # fmt: skip
    ours = _parameters(product)
    for name in ("hips", "width", "height", "projection", "coordsys", "format"):
        assert ours[name] == str(theirs[name])
    for name in ("ra", "dec", "fov"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-7)
    # What else astroquery sends is the service's default: no rotation, and how a picture (no FITS) is drawn.
    assert set(theirs) - set(ours) == {"rotation_angle", "min_cut", "max_cut", "cmap", "stretch"}
    assert theirs["rotation_angle"] == 0
    assert _server(product) == hips_settings.server


@pytest.mark.parametrize(("release", "folder"), [(17, "eboss"), (18, "prior-surveys/sdss4-dr17-eboss")])
def test_sdss_frames_are_where_astroquery_looks_for_them(release: int, folder: str) -> None:
    survey = SdssConfig(data_release=release, bands=("u", "z"), fields=None).build(None)
    paths = [product.path for product in survey.products("752/3/45")]
    facts = {"dr": release, "instrument": folder, "rerun": 301, "run": 752, "camcol": 3, "field": 45}
    assert paths == [SDSS.IMAGING_URL_SUFFIX.format(base="x", band=band, **facts)[2:] for band in "uz"]
    assert survey.ways == ("file",)  # the viewer's layer has no u


def test_irsa_is_asked_what_pyvo_asks() -> None:
    config = EuclidConfig()
    (wanted,) = config.tile_lists
    theirs = SIA2Query("https://irsa.ipac.caltech.edu/SIA", collection=config.collection, maxrec=1_000_000)
    ours = dict(parse_qsl(urlsplit(wanted.path).query))
    assert ours["COLLECTION"] == theirs["COLLECTION"][0]
    assert ours["MAXREC"] == str(theirs["MAXREC"])
    assert wanted.path.startswith("https://irsa.ipac.caltech.edu/SIA?")
    assert EuclidConfig(mosaics="mosaics.vot").tile_lists[0].path == "mosaics.vot"


def test_panstarrs_stacks_are_where_the_bucket_has_them() -> None:
    survey = PanstarrsConfig(bands=("g",)).build(None)
    tile = str(survey.tiles(np.array([RA]), np.array([DEC]))[0])
    (product,) = survey.products(tile)
    assert product.path == "rings.v3.skycell/2381/053/rings.v3.skycell.2381.053.stk.g.unconv.fits"
    (cutout,) = survey.cutouts(Source(1, RA, DEC, tile), 60.0, 240)
    assert _server(cutout) == "https://ps1images.stsci.edu/cgi-bin/fitscut.cgi"
    assert _parameters(cutout)["red"] == f"/{product.path}"
    assert _parameters(cutout)["size"] == "240"


def test_the_hosts_of_a_job_are_those_that_its_survey_asks_and_come_from_the_job() -> None:
    services = {
        "hips": ("alasky.cds.unistra.fr", "survey.service=http://127.0.0.1:9/h"),
        "first": ("sundog.stsci.edu", "survey.server=http://127.0.0.1:9/f"),
        "euclid": ("irsa.ipac.caltech.edu", "survey.mosaics=http://127.0.0.1:9/SIA"),
        "panstarrs": ("ps1images.stsci.edu", "survey.cutout_service=http://127.0.0.1:9/p"),
        "sdss": ("www.legacysurvey.org", "survey.cutout_service=http://127.0.0.1:9/v"),
    }
    for name, (host, elsewhere) in services.items():
        assert host in load_job(name, ["sources.table=x.csv"], environment={}).archive_hosts()
        moved = load_job(name, ["sources.table=x.csv", elsewhere], environment={}).archive_hosts()
        assert "127.0.0.1:9" in moved and host not in moved
