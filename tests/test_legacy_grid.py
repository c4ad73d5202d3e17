"""A brick's header is checked once, and again where another version of the file came."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import BadImage
from pipeline.surveys import legacy_grid
from pipeline.surveys.legacy_grid import BrickProjections
from pipeline.surveys.tan import Tan
from tests.skies import ArrayImage, tan_header

CENTRE, SIZE = (150.0, 2.0), 40


def _image(centre: tuple[float, float] = CENTRE) -> ArrayImage:
    return ArrayImage(np.ones((SIZE, SIZE), np.float32), tan_header(*centre, SIZE))


def test_a_header_is_checked_once_however_many_sources_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Counted(Tan):
        @classmethod
        def of(cls, header: object, name: str) -> Tan:  # type: ignore[override]
            read.append(name)
            return Tan.of(header, name)  # type: ignore[arg-type]

    monkeypatch.setattr(legacy_grid, "Tan", Counted)
    projections, image = BrickProjections(), _image()
    assert projections.of(image, "a.fits", CENTRE) is projections.of(image, "a.fits", CENTRE)
    assert read == ["a.fits"]


def test_another_version_of_the_file_is_checked_again() -> None:
    projections = BrickProjections()
    projections.of(_image(), "a.fits", CENTRE)
    with pytest.raises(BadImage, match=r"a\.fits: by its header"):
        projections.of(_image((150.1, 2.0)), "a.fits", CENTRE)


def test_only_the_newest_headers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_grid, "_KEPT", 2)
    projections = BrickProjections()
    for name in "abc":
        projections.of(_image(), name, CENTRE)
    assert list(projections._known) == ["b", "c"]
