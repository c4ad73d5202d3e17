"""One image contract: the same sky gives the same image, whatever the pixels, the tile and the machine."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace

import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data import Cutout, FieldOfView, ImageContract, PixelGrid, RowFlag, Status
from pipeline.mock.light import light
from pipeline.mock.sources import Galaxy
from pipeline.preprocess import colours, contract_image, field_of_view, frame_width, judge
from tests.skies import PIXEL, Blob, drawn, matrix

CONTRACT = ImageContract()
SHINE = Blob(0, 0, 40.0, 3000)  # light everywhere
SMALL = replace(CONTRACT, size=64)


def _frame(scale: float = PIXEL, angle: float = 0.0, half: int = 60, **how: bool) -> PixelGrid:
    return PixelGrid((float(half), float(half)), matrix(scale, angle, **how))


def _centroid(plane: NDArray[np.uint8]) -> tuple[float, float]:
    """x, y of what is brighter than the background."""
    light = plane.astype(np.float64) - np.median(plane)
    y, x = np.indices(light.shape)
    return float((light * x).sum() / light.sum()), float((light * y).sum() / light.sum())


def _mock_galaxy(kind: str, scale: float, width: float) -> Cutout:
    """A galaxy of the mock sky on pixels of `scale` arcsec, with the same seeing on all, off the pixels' centres."""
    galaxy = light(Galaxy(kind, 150.0, 2.0, 3.0, 0.15 if kind == "edge_on" else 0.7, 33.0, 17.0, 7))
    size = int(np.ceil((width * 1.1 + 8 * scale) / scale)) | 1
    images = [galsim.ImageD(size, size, scale=scale) for _ in "grz"]
    for band, image in zip("grz", images, strict=True):
        galaxy.seen(band).drawImage(image, method="no_pixel", offset=(0.3, -0.2))
    flux = np.stack([image.array for image in images]).astype(np.float32) / np.float32(scale**2)
    middle = (size - 1) / 2
    grid = PixelGrid((middle + 0.3, middle - 0.2), matrix(scale))
    return Cutout(flux, np.zeros(flux.shape, np.bool_), grid)


@pytest.mark.parametrize("kind", ["round", "spiral", "edge_on", "merger"])
def test_the_same_galaxy_at_three_pixel_scales_gives_the_same_image(kind: str) -> None:
    """Half of the pixels equal, 99.9 % within 3 counts of 255, all within 5."""
    images = {s: contract_image(_mock_galaxy(kind, s, 25.5), CONTRACT, 25.5).astype(int) for s in (0.1, 0.262, 0.4)}
    assert images[0.262].max() > 150
    for scale in (0.1, 0.4):
        difference = np.abs(images[scale] - images[0.262])
        assert np.median(difference) == 0
        assert np.percentile(difference, 99.9) <= 3
        assert difference.max() <= 5


@pytest.mark.parametrize("angle", [0.0, 0.1, 0.5, 30.0, 90.0, 137.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_north_is_up_and_east_is_left_however_the_tile_lies(angle: float, mirrored: bool) -> None:
    blobs = (Blob(0, 0, 1.2, 20), Blob(6, 2, 0.8, 10), Blob(-1, 7, 0.8, 6))
    upright = contract_image(drawn(blobs, _frame(), (121, 121)), CONTRACT, 24.0)
    turned = contract_image(drawn(blobs, _frame(0.2, angle, 100, mirrored=mirrored), (201, 201)), CONTRACT, 24.0)
    assert np.abs(turned.astype(int) - upright).max() <= 6
    east, north = _image_of(Blob(6, 0)), _image_of(Blob(0, 6))
    assert _centroid(east)[0] < 20 < 44 < 64 - _centroid(north)[1]


def _image_of(blob: Blob) -> NDArray[np.uint8]:
    return contract_image(drawn([blob], _frame(), (121, 121)), SMALL, 24.0)[1]


def test_a_source_moved_by_half_a_pixel_moves_the_image_by_as_much() -> None:
    pitch = 24.0 / 64
    for east, north in ((0.5, 0.0), (0.0, -0.5), (0.25, 0.5)):
        here = _centroid(_image_of(Blob(1.0, 1.0, 0.7, 3)))
        there = _centroid(_image_of(Blob(1.0 + east * pitch, 1.0 + north * pitch, 0.7, 3)))
        assert there[0] - here[0] == pytest.approx(-east, abs=0.02)
        assert there[1] - here[1] == pytest.approx(-north, abs=0.02)


def test_the_source_is_in_the_middle_wherever_it_is_between_pixels() -> None:
    for shift in (0.0, 0.25, 0.5, 0.77):
        grid = PixelGrid((60.0 + shift, 60.0 - shift), matrix(PIXEL))
        image = contract_image(drawn([Blob(0, 0, 0.8, 3)], grid, (121, 121)), SMALL, 24.0)[0]
        assert _centroid(image) == pytest.approx((31.5, 31.5), abs=0.01)


@pytest.mark.parametrize("width", [10.0, 24.0, 60.0])
@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_resampling_keeps_the_flux(width: float, angle: float) -> None:
    """In a mapping that is nearly linear, the image's light is that of the sky."""
    contract = replace(SMALL, softening=1e-4, offset=0.0, scales=(0.1, 0.1, 0.1))
    sigma = width / 12
    flux = 10_000 * 2 * math.pi * sigma**2  # 175 counts at the peak
    half = int(width / PIXEL) + 12
    cutout = drawn([Blob(0.3, -0.2, sigma, flux)], _frame(PIXEL, angle, half), (2 * half + 1, 2 * half + 1))
    image = contract_image(cutout, contract, width)[0]
    slope = 255 * 0.1 * CONTRACT.reference_pixel**2 * math.sqrt(1e-4)
    total = image.sum() / slope * (width / 64) ** 2
    assert image.max() == pytest.approx(175, abs=2)
    assert total == pytest.approx(flux, rel=0.005)


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_what_is_finer_than_the_image_is_averaged_not_sampled(angle: float) -> None:
    """Stripes of one pixel, three to a pixel of the image, are the even grey of their mean."""
    flux = np.zeros((3, 301, 301), np.float32)
    flux[:, :, ::2] = 1.0
    striped = Cutout(flux, np.zeros(flux.shape, np.bool_), PixelGrid((150.0, 150.0), matrix(0.1, angle)))
    even = replace(striped, flux=np.full(flux.shape, 0.5, np.float32))
    images = [contract_image(cutout, SMALL, 19.2).astype(int) for cutout in (striped, even)]
    assert np.abs(images[0] - images[1])[:, 4:-4, 4:-4].max() <= 2


def test_the_colours_are_those_of_the_published_formula() -> None:
    """Worked by hand for two pixels: g, r, z = 0.01, 0.02, 0.03 and -1, 0.1, 0.5 nanomaggies."""
    flux = np.array([[[0.01, -1.0]], [[0.02, 0.1]], [[0.03, 0.5]]], dtype=np.float32)
    # 0.01 * 6 + .03 = 0.09, 0.02 * 3.4 + .03 = 0.098, 0.03 * 2.2 + .03 = 0.096; I = 0.094667;
    # arcsinh(20 I) / sqrt(20) = 1.394553 / 4.472136 = 0.311832; over I 3.294
    first = [0.096 * 3.294, 0.098 * 3.294, 0.09 * 3.294]
    # -5.97, 0.37, 1.13; I = (0 + 0.37 + 1.13) / 3 = 0.5; arcsinh(10) / sqrt(20) = 0.670422; over I 1.340844
    second = [1.0, 0.37 * 1.340844, 0.0]
    image = colours(flux, CONTRACT)
    assert image[:, 0, 0].tolist() == [math.floor(255 * value + 0.5) for value in first]
    assert image[:, 0, 1].tolist() == [math.floor(255 * value + 0.5) for value in second]


def test_planes_follow_the_contract() -> None:
    flux = np.stack([np.full((1, 1), value, np.float32) for value in (0.05, 0.0, 0.0)])
    assert np.argmax(colours(flux, CONTRACT)[:, 0, 0]) == 2  # g is the blue plane
    assert np.argmax(colours(flux, replace(CONTRACT, planes=("g", "r", "z")))[:, 0, 0]) == 0
    with pytest.raises(ValueError, match="2 planes"):
        colours(flux[:2], CONTRACT)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1e4, 1e8, width=32),
    st.floats(0.05, 2.0),
    st.floats(5.0, 300.0),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_anything_finite_or_not_becomes_a_picture(
    level: float, scale: float, width: float, seed: int, turned: bool
) -> None:
    rng = np.random.default_rng(seed)
    flux = (level * rng.standard_normal((3, 30, 24))).astype(np.float32)
    bad = rng.random(flux.shape) < rng.choice([0.0, 0.1, 0.9, 1.0])
    flux[rng.random(flux.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    centre = float(rng.uniform(-3, 30)), float(rng.uniform(-3, 30))
    cutout = Cutout(flux, bad, PixelGrid(centre, matrix(scale, 20.0 if turned else 0.0)))
    image = contract_image(cutout, replace(CONTRACT, size=16), width)
    assert image.shape == (3, 16, 16)
    assert image.dtype == np.uint8
    status, _, reason = judge(cutout, CONTRACT, width)
    assert (status == Status.OK) == (reason == "")


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_bad_pixels_leave_no_trace_around_them(angle: float) -> None:
    """Whatever stands in a bad pixel, the image is the same, and near it nothing rings."""
    sky = drawn([Blob(0, 0, 3.0, 60), SHINE], _frame(PIXEL, angle), (121, 121))
    bad = np.zeros(sky.bad.shape, np.bool_)
    bad[:, 55:59, 60:64] = bad[:, :, 80] = True
    whole = contract_image(sky, CONTRACT, 24.0).astype(int)
    images = []
    for value in (0.0, 1e9, np.nan, -np.inf):
        flux = np.where(bad, np.float32(value), sky.flux)
        images.append(contract_image(Cutout(flux, bad, sky.grid), CONTRACT, 24.0).astype(int))
        assert (images[-1] == images[0]).all()
    empty = colours(np.zeros((3, 1, 1), np.float32), CONTRACT)
    filled = (images[0] != empty).any(axis=0)
    assert np.abs(images[0] - whole)[:, filled].max() <= 8
    assert 0.9 < filled.mean() < 1.0
    assert (images[0][:, :, :60] == whole[:, :, :60]).all()  # the east, out of their reach


def test_pixels_without_data_have_the_colour_of_no_flux() -> None:
    sky = drawn([SHINE], _frame(), (121, 121))
    bad = sky.bad.copy()
    bad[:, 61:] = True  # the north
    image = contract_image(Cutout(sky.flux, bad, sky.grid), CONTRACT, 24.0)
    empty = colours(np.zeros((3, 1, 1), np.float32), CONTRACT)
    assert (image[:, :120] == empty).all()
    assert (image[:, 136:] != empty).all()


def test_the_bits_are_the_same_in_another_process_with_other_threads() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from pipeline.data import Cutout, ImageContract, PixelGrid\n"
        "from pipeline.preprocess import contract_image\n"
        "from tests.skies import matrix\n"
        "flux = np.random.default_rng(4).normal(0.02, 0.1, (3, 120, 120)).astype('f4')\n"
        "bad = flux < -0.25\n"
        "for angle in (0.0, 12.0):\n"
        "    cutout = Cutout(flux, bad, PixelGrid((60.3, 59.8), matrix(0.262, angle)))\n"
        "    print(hashlib.sha256(contract_image(cutout, ImageContract(), 24.0).tobytes()).hexdigest())\n"
    )
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    answers = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | dict.fromkeys(variables, threads),
            capture_output=True, text=True, check=True,
        ).stdout
        for threads in ("1", "2")
    }  # fmt: skip
    assert len(answers) == 1
    assert len(answers.pop().split()) == 2


@pytest.mark.parametrize(
    ("fov", "radius", "expected"),
    [
        (FieldOfView(fixed=64.0), 5.0, (64.0, False)),
        (FieldOfView(fixed=None), None, (None, False)),
        (FieldOfView(radius_multiple=8.5), 4.0, (34.0, False)),
        (FieldOfView(radius_multiple=8.5), 1.0, (16.0, True)),
        (FieldOfView(radius_multiple=8.5), 100.0, (256.0, True)),
        (FieldOfView(radius_multiple=8.0), 2.0, (16.0, False)),
        (FieldOfView(radius_multiple=8.5), None, (64.0, False)),
        (FieldOfView(radius_multiple=8.5), math.nan, (64.0, False)),
        (FieldOfView(radius_multiple=8.5), 0.0, (64.0, False)),
        (FieldOfView(radius_multiple=8.5, fixed=None), -1.0, (None, False)),
    ],
)
def test_the_field_of_view_follows_the_radius_between_its_limits(
    fov: FieldOfView, radius: float | None, expected: tuple[float | None, bool]
) -> None:
    assert field_of_view(fov, radius) == expected


@pytest.mark.parametrize(
    ("good", "status", "flags", "reason"),
    [
        ((1.0, 1.0, 1.0), Status.OK, RowFlag(0), ""),
        ((0.85, 1.0, 1.0), Status.OK, RowFlag(0), ""),
        ((0.75, 1.0, 1.0), Status.PARTIAL, RowFlag.PARTIAL_COVERAGE, "covered in part: g 75%"),
        ((0.0, 1.0, 1.0), Status.PARTIAL, RowFlag.MISSING_BAND, "no data in g"),
        (
            (0.0, 0.5, 1.0), Status.PARTIAL, RowFlag.MISSING_BAND | RowFlag.PARTIAL_COVERAGE,
            "no data in g; covered in part: r 50%",
        ),
        ((0.0, 1.0, 0.025), Status.BAD_IMAGE, RowFlag.MISSING_BAND, "no data in g, z: at least 2 bands are needed"),
        ((0.0, 0.0, 0.0), Status.NO_COVERAGE, RowFlag(0), "no data in any of g, r, z"),
    ],
)  # fmt: skip
def test_the_status_follows_the_coverage(good: tuple[float, ...], status: Status, flags: RowFlag, reason: str) -> None:
    bad = np.ones((3, 40, 40), np.bool_)
    for band, part in enumerate(good):
        bad[band, : round(part * 40)] = False
    cutout = Cutout(np.ones(bad.shape, np.float32), bad, PixelGrid((19.5, 19.5), matrix(0.5)), RowFlag.EDGE)
    assert judge(cutout, CONTRACT, 20.0) == (status, flags | RowFlag.EDGE, reason)
    assert judge(cutout, CONTRACT) == (status, flags | RowFlag.EDGE, reason)
    assert frame_width(cutout) == 20.0


def test_coverage_is_of_the_box_of_the_image_alone() -> None:
    bad = np.ones((3, 80, 80), np.bool_)
    bad[:, 30:50, 30:50] = False  # 10 arcsec of 0.5
    cutout = Cutout(np.ones(bad.shape, np.float32), bad, PixelGrid((39.5, 39.5), matrix(0.5)))
    assert judge(cutout, CONTRACT, 10.0)[0] == Status.OK
    assert judge(cutout, CONTRACT, 20.0)[2] == "covered in part: g 25%, r 25%, z 25%"


def test_sky_outside_the_frame_is_not_covered() -> None:
    cutout = Cutout(
        np.ones((3, 20, 20), np.float32), np.zeros((3, 20, 20), np.bool_), PixelGrid((9.5, 9.5), matrix(0.5))
    )
    assert judge(cutout, CONTRACT, 20.0)[2] == "covered in part: g 25%, r 25%, z 25%"
    assert judge(cutout, CONTRACT)[0] == Status.OK
