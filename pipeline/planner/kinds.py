"""What the tiles of a survey have in common, as far as it decides what fetching them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from pipeline.data import Layout, PixelGrid, Product, Source
from pipeline.errors import SourceError
from pipeline.surveys import Survey
from pipeline.surveys.boxes import Box
from pipeline.surveys.served import side

FITS_HEADER = 2 * 2880  # bytes, of an answer
WHOLE_FRAME = 64.0  # arcsec, taken for a job whose field of view is the survey's own frame


@dataclass(frozen=True, slots=True)
class TileKind:
    """The files of a tile, and how its sources are cut."""

    files: tuple[Layout, ...]  # of a tile, images first; () where the layout of one is not known
    images: int  # of those: what a neighbour is opened for
    halves: tuple[float, ...]  # pixels: half the width of sources' boxes, a representative sample
    answers: tuple[float, ...] = ()  # bytes of the cutout service's answers for one source
    count: int = 0  # files of a tile, known or not
    listings: int = 0  # of their published sums, that come with whole files
    chunk: int = 256  # sources of a load task
    kept: bool = False  # in a cache for the whole run: then a neighbour's files are there, before or after


def tile_kind(survey: Survey, source: Source, widths: Sequence[float | None], root: str | None) -> TileKind:
    """The kind of tile that `source` is on; `widths` arcsec of sky are cut, None for the survey's own frame.

    Of files on this disk the real size counts.
    """
    products = survey.products(source.tile)
    known = [product.layout for product in products if product.layout is not None]
    arcsec = [WHOLE_FRAME if width is None else width for width in widths]
    layouts = [_on_disk(product, root) for product in products] if len(known) == len(products) else []
    found = [layout for layout in layouts if layout is not None]
    images = sum(product.kind == "image" and product.band is not None for product in products)
    scale = found[0].pixel_scale if found else 1.0
    return TileKind(
        files=tuple(found),
        images=images,
        halves=tuple(_half(width, scale) for width in arcsec),
        answers=_answers(survey, source, arcsec),
        count=len(products),
        listings=len({product.expected.sums for product in products if product.expected.sums}),
    )


def on_this_disk(root: str | None, product: Product) -> Path | None:
    """Where a product lies on this disk, None for one that has to be fetched."""
    if "://" in product.path or (root is not None and "://" in root):
        return None
    return Path(product.path) if root is None else Path(root) / product.path


def _on_disk(product: Product, root: str | None) -> Layout | None:
    path = on_this_disk(root, product)
    if product.layout is None or path is None or not path.is_file():
        return product.layout
    return replace(product.layout, bytes=float(path.stat().st_size))


def _half(width: float, scale: float) -> float:
    """Half the side in pixels of the box around a source in the middle of a pixel."""
    box = Box.around(PixelGrid((0.0, 0.0), np.diag([-1 / scale, 1 / scale])), width)
    return (box.x1 - box.x0 - 1) / 2


def _answers(survey: Survey, source: Source, widths: Sequence[float]) -> tuple[float, ...]:
    """Mean bytes of each of the answers about one source; () without a service."""
    if "cutout" not in survey.ways:
        return ()
    try:
        asked = [survey.cutouts(source, width, side(width, _scale(survey, source, width))) for width in widths]
    except SourceError:
        return ()
    return tuple(float(np.mean([_size(answer) for answer in answers])) for answers in zip(*asked, strict=True))


def _scale(survey: Survey, source: Source, width: float) -> float:
    """Arcsec a pixel of the service."""
    products = survey.cutouts(source, width, 256)
    return next((product.expected.pixel_scale for product in products if product.expected.pixel_scale), width / 256)


def _size(product: Product) -> float:
    planes = len(product.expected.bands or "x")
    return FITS_HEADER + 4.0 * planes * prod(product.expected.shape or (256, 256))
