"""Which brick owns a position, compared with looking at every cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.surveys.bricks import Bricks, owned_by_north
from pipeline.surveys.legacy import LegacyConfig, LegacySurvey

STEP = 7.5  # deg: a coarse grid of the same kind as the real one
HERE = np.array


def _sky(step: float = STEP) -> list[dict[str, Any]]:
    """Every cell of the sphere: rows of `step` deg, fewer cells towards the poles, one at each; from RA 0."""
    rows = []
    for row in range(round(180 / step) + 1):
        low, high = max(-90.0, -90 + (row - 0.5) * step), min(90.0, -90 + (row + 0.5) * step)
        count = 1 if abs(-90 + row * step) == 90 else int(np.ceil(360 / step * np.cos(np.radians(-90 + row * step))))
        for column in range(count):
            rows.append(
                {
                    "brickname": f"{row:03d}x{column:04d}",
                    "ra": (column + 0.5) * 360 / count, "dec": (low + high) / 2,
                    "ra1": column * 360 / count, "ra2": (column + 1) * 360 / count, "dec1": low, "dec2": high,
                    "nexp_g": 1, "nexp_r": 0, "nexp_z": 0,
                }
            )  # fmt: skip
    return rows


WHOLE = Bricks(pa.Table.from_pylist(_sky()), "grz")


def _brute(ra: float, dec: float) -> str:
    return next(
        row["brickname"]
        for row in reversed(_sky())
        if row["ra1"] <= (ra % 360) % 360 < row["ra2"] and row["dec1"] <= dec <= row["dec2"]
    )


@settings(max_examples=100, deadline=None)
@given(st.floats(-360, 720), st.floats(-90, 90))
def test_every_position_has_the_brick_that_a_search_finds(ra: float, dec: float) -> None:
    found = WHOLE.at(HERE([ra]), HERE([dec]))[0]
    assert WHOLE.names[found] == _brute(ra, dec)


def test_the_poles_and_ra_zero_are_in_bricks() -> None:
    ra = HERE([0.0, 123.0, 360.0, -1e-20, 359.999999999999, 720.0])
    for dec in (-90.0, 90.0):
        assert len(set(WHOLE.at(ra, np.full(6, dec)))) == 1
    names = WHOLE.names[WHOLE.at(ra, np.full(6, 1.0))]
    assert names[[0, 2, 3, 5]].tolist() == [names[0]] * 4
    assert names[4] != names[0]


def test_the_last_position_before_a_cell_is_in_the_cell_before() -> None:
    """Also where the sorted key has fewer digits than RA itself."""
    rows = [row for row in _sky() if row["ra1"] > 0]
    ra, dec = np.nextafter([row["ra1"] for row in rows], 0), HERE([row["dec"] for row in rows])
    names = [row["brickname"] for row in rows]
    before = [f"{name[:4]}{int(name[4:]) - 1:04d}" for name in names]
    assert WHOLE.names[WHOLE.at(ra, dec)].tolist() == before
    assert WHOLE.names[WHOLE.at(HERE([row["ra1"] for row in rows]), dec)].tolist() == names


def test_no_position_is_no_brick() -> None:
    nowhere = WHOLE.at(HERE([np.nan, 1.0, 1.0, np.inf]), HERE([0.0, np.nan, 95.0, 0.0]))
    assert nowhere.tolist() == [-1] * 4
    empty = Bricks(pa.Table.from_pylist(_sky()).slice(0, 0), "grz")
    assert empty.at(HERE([1.0]), HERE([1.0])).tolist() == [-1]


def test_a_cell_across_ra_zero_is_found_from_both_sides() -> None:
    row = _sky()[0] | {"ra1": 359.9, "ra2": 0.1, "dec1": 0.0, "dec2": 0.25}
    bricks = Bricks(pa.Table.from_pylist([row]), "grz")
    at = bricks.at(HERE([359.89, 359.95, 0.0, 0.05, 0.11, 180.0]), np.full(6, 0.1))
    assert at.tolist() == [-1, 0, 0, 0, -1, -1]


def test_edges_that_differ_by_rounding_leave_no_gap() -> None:
    rows = [
        _sky()[0] | {"brickname": "a", "ra1": 10.0, "ra2": 10.25 - 1e-10, "dec1": 0.0, "dec2": 0.25 - 1e-10},
        _sky()[0] | {"brickname": "b", "ra1": 10.25, "ra2": 10.5, "dec1": 1e-11, "dec2": 0.25 - 1e-10},
        _sky()[0] | {"brickname": "c", "ra1": 10.0, "ra2": 10.5, "dec1": 0.25, "dec2": 0.5},
    ]
    bricks = Bricks(pa.Table.from_pylist(rows), "grz")
    ra, dec = HERE([10.25 - 1e-11, 10.25, 10.1]), HERE([0.1, 0.1, 0.25 - 1e-11])
    assert bricks.names[bricks.at(ra, dec)].tolist() == ["a", "b", "a"]


def test_a_brick_without_exposures_in_any_band_is_outside_the_footprint() -> None:
    rows = [row | {"nexp_g": 0, "nexp_r": 0, "nexp_z": column % 2} for column, row in enumerate(_sky())]
    bricks = Bricks(pa.Table.from_pylist(rows), "grz")
    assert len(bricks.names) == len(rows) // 2
    assert all(row["nexp_z"] for row in rows if row["brickname"] in bricks.number)


def test_a_brick_twice_in_a_region_is_an_error() -> None:
    table = pa.Table.from_pylist(_sky())
    with pytest.raises(JobError, match="twice"):
        Bricks(pa.concat_tables([table, table]), "grz")


def test_the_seam_gives_each_position_to_one_tree() -> None:
    table = pa.Table.from_pylist(_sky())
    both = pa.concat_tables([table.append_column("region", pa.array([r] * len(table))) for r in ("north", "south")])
    survey = LegacySurvey(LegacyConfig(release="dr9", regions=("north", "south")), both)
    # 180, +33 lies at b = +79, 0, +33 at b = -29, 90, +33 at b = +5 (by astropy's galactic frame).
    ra, dec = HERE([180.0, 180.0, 180.0, 0.0, 90.0, 85.0]), HERE([32.375, 32.3749, 60.0, 33.0, 33.0, 33.0])
    regions = [tile.partition("/")[0] for tile in survey.tiles(ra, dec)]
    assert regions == ["north", "south", "north", "south", "north", "north"]
    south = LegacySurvey(LegacyConfig(), both)
    assert [tile.partition("/")[0] for tile in south.tiles(ra, dec)] == ["", "south", "", "south", "", ""]


def test_galactic_latitude_is_astropy_s() -> None:
    from astropy.coordinates import SkyCoord

    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 2000), rng.uniform(33, 90, 2000)
    b = SkyCoord(ra, dec, unit="deg").galactic.b.deg
    clear = np.abs(b) > 1e-4
    assert (owned_by_north(ra, dec) == (b > 0))[clear].all()
    assert 100 < np.count_nonzero(b > 0) < 1900
