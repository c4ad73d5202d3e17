"""The stand-ins keep the contracts of what they stand for: nginx, and the cutout service with its traps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from astropy.io import fits

from tests.standins.faults import WRONG, Fault, possible, transient
from tests.standins.nginx import nginx
from tests.standins.viewer import MOST, Reply, answered

CENTRE = {"ra": "149.98", "dec": "1.89"}  # inside the south-western brick of the small mock sky


def asked(tree: Path, **parameters: object) -> Reply:
    wanted = {**CENTRE, "layer": "ls-dr10-south", "bands": "grz", "size": "32"}
    return answered(tree, tuple((wanted | {key: str(value) for key, value in parameters.items()}).items()))


def opened(reply: Reply) -> Any:
    assert reply.status == 200 and reply.kind == "image/fits", reply.body[:100]
    return fits.open(io.BytesIO(reply.body))


def test_a_cutout_has_bands_grid_and_headers_of_the_service(mock_tree: Path) -> None:
    reply = asked(mock_tree)
    with opened(reply) as hdus:
        header, pixels = hdus[0].header, hdus[0].data
        assert pixels.shape == (3, 32, 32) and pixels.dtype == ">f4" and (pixels != 0).mean() > 0.9
        assert (header["BANDS"], header["BAND2"], header["SURVEY"]) == ("grz", "z", "LegacySurvey")
        assert (header["CTYPE1"], header["CRPIX1"], header["CD1_1"] * 3600) == ("RA---TAN", 16.5, pytest.approx(-0.262))
    assert "ETag" not in reply.headers and {"Last-Modified", "Expires", "Content-Disposition"} <= set(reply.headers)


def test_the_traps_of_the_service(mock_tree: Path) -> None:
    with opened(asked(mock_tree, bands="r")) as hdus:
        assert hdus[0].data.shape == (32, 32)  # one band: two dimensions
    with opened(asked(mock_tree, bands="gry")) as hdus:
        assert hdus[0].header["BANDS"] == "griz"  # an unknown letter: all that the layer has
        assert not hdus[0].data[2].any()  # and no data is 0
    with opened(asked(mock_tree, layer="ls-dr11", bands="griz")) as hdus:
        assert hdus[0].header["BANDS"] == "grz"
    with opened(asked(mock_tree, bands="r", width=MOST + 500, height=2)) as hdus:
        assert hdus[0].data.shape == (2, MOST)  # clipped without a word
    with opened(asked(mock_tree, invvar="", maskbits="")) as hdus:
        assert [hdu.header["IMAGETYP"] for hdu in hdus] == ["image", "invvar", "maskbits"]
    with opened(asked(mock_tree, invvar="", pixscale=1.0)) as hdus:
        assert len(hdus) == 1  # binned images have none
    with opened(asked(mock_tree, subimage="")) as hdus:
        assert hdus[0].data is None and {hdu.header["BAND"] for hdu in hdus[1:]} == {"g", "r", "z"}


@pytest.mark.parametrize(
    ("parameters", "status", "text"),
    [
        ({"layer": "ls-dr12"}, 200, b"no such layer"),
        ({"ra": "north"}, 400, b"Need ra,dec keywords"),
        ({"ra": 10}, 500, b"Server Error (500)"),
        ({"layer": "ls-dr10", "rotate": 30}, 500, b"Server Error (500)"),
    ],
)
def test_the_refusals_of_the_service(parameters: dict[str, object], status: int, text: bytes, mock_tree: Path) -> None:
    reply = asked(mock_tree, **parameters)
    assert (reply.status, reply.body, reply.kind) == (status, text, "text/plain")


def test_nginx_gives_ranges_versions_and_limits(mock_tree: Path, tmp_path: Path) -> None:
    with nginx(mock_tree, tmp_path, rate=1, burst=2) as server, httpx.Client(base_url=server.url) as client:
        part = client.get("/mock.json", headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, (mock_tree / "mock.json").read_bytes()[2:6])
        assert part.headers["ETag"] and part.headers["Content-Range"].startswith("bytes 2-5/")
        stale = client.get("/mock.json", headers={"Range": "bytes=2-5", "If-Range": '"x"'})
        assert stale.status_code == 200
        later = [client.get("/mock.json") for _ in range(4)]
        assert later[-1].status_code == 429 and later[-1].headers["Retry-After"] == "1"
    assert [one.status for one in server.log()][:2] == [206, 200]


def test_faults_are_the_same_again_and_as_many_as_asked_for() -> None:
    plan = transient(seed=3)
    drawn = [plan(f"/viewer/cutout?ra={number}", 0) for number in range(4000)]
    assert drawn == [transient(seed=3)(f"/viewer/cutout?ra={number}", 0) for number in range(4000)]
    assert drawn != [transient(seed=4)(f"/viewer/cutout?ra={number}", 0) for number in range(4000)]
    found = [fault for fault in drawn if fault is not None]
    assert abs(len(found) / 4000 - 0.15) < 0.02
    assert set(found) == {kind for kind in Fault if possible(kind, "/viewer/")}
    assert np.isin(WRONG, found).all()
    twice = transient(seed=3, share=1.0, kinds=WRONG)
    assert all(twice("/viewer/a", attempt) not in WRONG for attempt in range(1, 9))
