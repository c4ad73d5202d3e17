"""From a cutout to the network's image: the one place where sky becomes colours.

Serving, training and evaluation all come through here, and every choice is the checkpoint's `ImageContract`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.data import Cutout, FieldOfView, ImageContract, PixelGrid, RowFlag, Status
from pipeline.resample import LOBES, Floats, resample_axes, sample_at

NOISE_SIGMA, NOISE_ROUNDS = 3.0, 5  # of MiraBest
MAX_SKEW = 0.5  # pixels of the image by which the fast path may misplace its edge; see `_resample`


def field_of_view(fov: FieldOfView, radius: float | None) -> tuple[float | None, bool]:
    """The width of sky to show, arcsec, and whether a limit bound it; None is the survey's whole frame.

    A radius that is missing, NaN, zero or negative (a point source has zero) counts as no radius.
    """
    if fov.radius_multiple is None or radius is None or not (math.isfinite(radius) and radius > 0):
        return fov.fixed, False
    wanted = fov.radius_multiple * radius
    width = min(max(wanted, fov.minimum), fov.maximum)
    return width, width != wanted


def width_to_cut(contract: ImageContract, width: float | None) -> float | None:
    """The width of sky, arcsec, that an image of `width` is made from; None is the survey's whole frame."""
    return None if width is None else width * contract.surroundings


def frame_width(cutout: Cutout) -> float:
    """The width in arcsec of the whole frame: of its shorter side, so that the image is full of sky."""
    return min(cutout.flux.shape[1:]) * cutout.grid.pixel_scale


def judge(cutout: Cutout, contract: ImageContract, width: float | None = None) -> tuple[Status, RowFlag, str]:
    """The status of a cutout by the coverage of the image to be made from it, its flags, and the reason.

    `width` arcsec as for `contract_image`; None is the whole frame. Sky outside the frame is not covered.
    """
    shown = frame_width(cutout) if width is None else width
    good = _good_fractions(cutout, shown)  # (C,)
    absent = [band for band, part in zip(contract.bands, good, strict=True) if part < contract.min_coverage]
    thin = [
        f"{band} {part:.0%}"
        for band, part in zip(contract.bands, good, strict=True)
        if contract.min_coverage <= part < contract.full_coverage
    ]
    flags = cutout.flags
    if len(absent) == len(contract.bands):
        return Status.NO_COVERAGE, flags, f"no data in any of {', '.join(contract.bands)}"
    if absent:
        flags |= RowFlag.MISSING_BAND
    if thin:
        flags |= RowFlag.PARTIAL_COVERAGE
    missing = f"no data in {', '.join(absent)}" if absent else ""
    if len(contract.bands) - len(absent) < contract.min_bands:
        return Status.BAD_IMAGE, flags, f"{missing}: at least {contract.min_bands} bands are needed"
    if contract.mapping == "clipped" and not _above_noise(cutout, contract, shown):
        return Status.BAD_IMAGE, flags, f"nothing is above {contract.clip_sigma:g} sigma of the noise"
    if absent or thin:
        covered = f"covered in part: {', '.join(thin)}" if thin else ""
        return Status.PARTIAL, flags, "; ".join(filter(None, (missing, covered)))
    return Status.OK, flags, ""


def contract_image(cutout: Cutout, contract: ImageContract, width: float | None = None) -> NDArray[np.uint8]:
    """(C, size, size): `width` arcsec of sky centred on the source, None the whole frame; north up, east left.

    Pixels without data get the colour of no flux.
    """
    flux = _resample(cutout, contract.size, frame_width(cutout) if width is None else width)
    if contract.mapping == "clipped":
        return clipped(flux, contract.clip_sigma * noise(cutout))
    return colours(flux * np.float32(contract.reference_pixel**2), contract)


def colours(flux: Floats, contract: ImageContract) -> NDArray[np.uint8]:
    """The arcsinh colour mapping of (C, H, W) nanomaggies a reference pixel, in the order of the bands.

    The Legacy Surveys viewer's `sdss_rgb` (legacysurvey/imagine, map/views.py; after Lupton et al. 2004,
    PASP 116, 133), planes in the order of `contract.planes`, rounded half up. In float64, so that the last
    bit of arcsinh, which differs between processors, does not show.
    """
    if len(flux) != len(contract.bands):
        raise ValueError(f"the contract has the bands {contract.bands}, the image has {len(flux)} planes")
    scales = np.asarray(contract.scales, dtype=np.float64)[:, None, None]
    scaled = flux * scales  # (C, H, W)
    scaled += contract.offset
    intensity = np.maximum(scaled[0], 0)
    for plane in scaled[1:]:
        intensity += np.maximum(plane, 0)
    intensity /= len(scaled)
    stretched = np.arcsinh(contract.softening * intensity)
    stretched /= math.sqrt(contract.softening)
    intensity[intensity == 0] = 1e-6
    stretched /= intensity
    scaled *= stretched
    np.clip(scaled, 0, 1, out=scaled)
    scaled *= 255
    scaled += 0.5
    # What is not negative is rounded down by the cast.
    return scaled.astype(np.uint8)[[contract.bands.index(band) for band in contract.planes]]


def clipped(flux: Floats, least: float) -> NDArray[np.uint8]:
    """One band of a radio map (1, H, W) as MiraBest draws it; rounded half up.

    What is not above `least`, and what lies outside the circle that fills the image, is 0; the rest runs from the
    least to the greatest inside it. All black where that is one number (Porter & Scaife 2023, RASTI 2, 293; its
    builder's mirabest_processing.py divides by 0 there).
    """
    height, length = flux.shape[-2:]
    y, x = np.indices((height, length)) - np.array([(height - 1) / 2, (length - 1) / 2])[:, None, None]
    circle = np.hypot(y, x) <= min(height, length) / 2
    kept = np.where(flux > least, flux, 0).astype(np.float64)
    low, high = float(kept[..., circle].min()), float(kept[..., circle].max())
    if not high > low:
        return np.zeros(flux.shape, np.uint8)
    shown = np.where(circle, (kept - low) / (high - low), 0.0)
    return np.floor(shown * 255 + 0.5).astype(np.uint8)


def noise(cutout: Cutout) -> float:
    """The standard deviation of the good pixels of all bands, without what is beyond 3 of it from the median.

    In five rounds at most, as astropy's sigma_clipped_stats(sigma=3, maxiters=5). 0 where nothing is good.
    """
    values = cutout.flux[~cutout.bad].astype(np.float64)
    for _ in range(NOISE_ROUNDS):
        if not len(values):
            return 0.0
        near = np.abs(values - np.median(values)) <= NOISE_SIGMA * values.std()
        if near.all():
            break
        values = values[near]
    return float(values.std()) if len(values) else 0.0


def _above_noise(cutout: Cutout, contract: ImageContract, width: float) -> bool:
    """Whether a pixel of the cutout, inside the circle of the image, would be seen."""
    (x0, y0), inverse = cutout.grid.centre, np.linalg.inv(cutout.grid.matrix)
    y, x = np.indices(cutout.flux.shape[1:])
    east, north = np.tensordot(inverse, np.stack([x - x0, y - y0]), axes=1)
    seen = (np.hypot(east, north) <= width / 2) & ~cutout.bad
    return bool((cutout.flux[seen] > contract.clip_sigma * noise(cutout)).any())


def _resample(cutout: Cutout, size: int, width: float) -> Floats:
    """The cutout on the image's own pixels, (C, size, size) nanomaggies / arcsec2; 0 where there is no data.

    Where the tile's rows run east-west to within MAX_SKEW at the edge of the image, each axis is resampled by
    itself. Other tiles are first brought to the pixel size of the image on their own axes, where that is the
    coarser one, and then sampled point by point.
    """
    pitch = width / size  # arcsec
    step = (np.arange(size) - (size - 1) / 2) * pitch  # (size,) arcsec
    (x0, y0), matrix = cutout.grid.centre, cutout.grid.matrix
    across, up = abs(matrix[0, 0]), abs(matrix[1, 1])
    if abs(matrix[0, 1]) * size / 2 <= MAX_SKEW * across and abs(matrix[1, 0]) * size / 2 <= MAX_SKEW * up:
        x = x0 - matrix[0, 0] * step  # column 0 is the eastern edge
        y = y0 - matrix[1, 1] * step  # row 0 is the northern edge
        return resample_axes(cutout.flux, cutout.bad, x, y)[0]
    cutout = _coarsened(cutout, pitch, width)
    (x0, y0), matrix = cutout.grid.centre, cutout.grid.matrix
    east, north = -step[None, :], -step[:, None]
    x = (x0 + matrix[0, 0] * east + matrix[0, 1] * north).ravel()
    y = (y0 + matrix[1, 0] * east + matrix[1, 1] * north).ravel()
    values, _ = sample_at(cutout.flux, cutout.bad, x, y)
    return values.reshape(-1, size, size)


def _coarsened(cutout: Cutout, pitch: float, width: float) -> Cutout:
    """The cutout with pixels no finer than `pitch` arcsec, on its own axes; itself where they are not."""
    matrix = cutout.grid.matrix
    spacing = np.maximum(1.0, pitch * np.hypot(matrix[:, 0], matrix[:, 1]))  # (2,) pixels along x and y
    if np.all(spacing == 1.0):
        return cutout
    half = np.abs(matrix).sum(axis=1) * width / 2 / spacing + LOBES  # (2,) new pixels, with the kernel's reach
    counts = 2 * np.ceil(half).astype(int) + 1
    x, y = (
        centre + spacing[axis] * np.arange(-(counts[axis] // 2), counts[axis] // 2 + 1)
        for axis, centre in enumerate(cutout.grid.centre)
    )
    flux, bad = resample_axes(cutout.flux, cutout.bad, x, y)
    middle = (float(counts[0] // 2), float(counts[1] // 2))
    return Cutout(flux, bad, PixelGrid(middle, matrix / spacing[:, None]))


def _good_fractions(cutout: Cutout, width: float) -> NDArray[np.float64]:
    """(C,) good pixels in the box of the image, over the pixels that the box would hold if all were there."""
    (x0, y0), inverse = cutout.grid.centre, np.linalg.inv(cutout.grid.matrix)
    height, length = cutout.flux.shape[1:]
    dx, dy = np.arange(length)[None, :] - x0, np.arange(height)[:, None] - y0
    half = width / 2 * (1 + 1e-9)  # a pixel centre on the very edge counts
    inside = (np.abs(inverse[0, 0] * dx + inverse[0, 1] * dy) <= half) & (
        np.abs(inverse[1, 0] * dx + inverse[1, 1] * dy) <= half
    )
    good = np.count_nonzero(inside & ~cutout.bad, axis=(1, 2))
    pixels = max(int(np.count_nonzero(inside)), round((width / cutout.grid.pixel_scale) ** 2), 1)
    return good / pixels
