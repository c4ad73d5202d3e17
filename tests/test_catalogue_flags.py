"""What a published row says of its neighbours and its photometry, and whom it recommends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.catalogue.flags import CLOSEST, SAME, Surroundings, row_flags
from pipeline.catalogue.recommended import Cuts, published_cuts, recommended
from pipeline.catalogue.sky import healpix29
from pipeline.data import RowFlag

ARCSEC = 1 / 3600


def rows_at(decs: Sequence[float], **columns: Sequence[Any]) -> pa.Table:
    """Rows on one meridian, in the order of the sky."""
    count = len(decs)
    ra, dec = np.full(count, 10.0), np.array(decs, dtype=float)
    table = pa.table(
        {
            "_healpix_29": healpix29(ra, dec),
            "object_id": np.arange(count),
            "ra": ra,
            "dec": dec,
            "radius": pa.array([None] * count, pa.float32()),
            "tile": pa.array(["south/a"] * count),
            "flags": pa.array(np.zeros(count), pa.int32()),
            **columns,
        }
    )
    return table.sort_by("_healpix_29")


def flags_of(table: pa.Table) -> list[RowFlag]:
    """Flags by object_id, each row with all others around it."""
    found = row_flags(table, Surroundings.of(table), np.arange(table.num_rows)).to_pylist()
    return [RowFlag(flag) for _, flag in sorted(zip(table["object_id"].to_pylist(), found, strict=True))]


def test_two_sources_within_twice_the_seeing_are_a_close_pair() -> None:
    near, far = CLOSEST - 0.01, CLOSEST + 0.01
    assert flags_of(rows_at([0, near * ARCSEC, 1])) == [RowFlag.CLOSE_PAIR, RowFlag.CLOSE_PAIR, RowFlag(0)]
    assert flags_of(rows_at([0, far * ARCSEC])) == [RowFlag(0), RowFlag(0)]


def test_large_galaxies_are_a_close_pair_where_their_radii_meet() -> None:
    radius = pa.array([3.0, 4.0, None], pa.float32())
    close = flags_of(rows_at([0, 6.9 * ARCSEC, 12 * ARCSEC], radius=radius))
    assert close == [RowFlag.CLOSE_PAIR, RowFlag.CLOSE_PAIR, RowFlag(0)]
    huge = pa.array([60.0, 60.0], pa.float32())
    assert flags_of(rows_at([0, 10.1 * ARCSEC], radius=huge)) == [RowFlag(0), RowFlag(0)]


def test_a_neighbour_outside_the_rows_counts() -> None:
    everything = rows_at([0, 2 * ARCSEC])
    found = row_flags(everything.slice(1), Surroundings.of(everything), np.array([1]))
    assert found.to_pylist() == [int(RowFlag.CLOSE_PAIR)]


def test_of_a_galaxy_measured_on_both_sides_of_the_seam_the_row_of_the_other_side_is_flagged() -> None:
    here = 0.9 * SAME * ARCSEC
    twice = flags_of(rows_at([0, here, 1], photsys=["N", "S", "N"]))
    assert [RowFlag.SEAM in flag for flag in twice] == [True, False, False]
    apart = flags_of(rows_at([0, 1.1 * SAME * ARCSEC], photsys=["N", "S"]))
    assert not any(RowFlag.SEAM in flag for flag in apart)
    same = flags_of(rows_at([0, here], photsys=["S", "S"]))
    assert not any(RowFlag.SEAM in flag for flag in same)


def test_points_and_blends_are_known_by_the_surveys_photometry() -> None:
    table = rows_at([0, 1, 2, 3], TYPE=["PSF", "PSF ", "SER", None], FRACFLUX_R=[0.1, 1.5, None, 1.0])
    assert flags_of(table) == [RowFlag.UNRESOLVED, RowFlag.UNRESOLVED | RowFlag.BLENDED, RowFlag(0), RowFlag(0)]


def test_flags_of_the_image_stay() -> None:
    table = rows_at([0, ARCSEC], flags=pa.array([512, 1], pa.int32()))
    assert flags_of(table) == [RowFlag.PARTIAL_COVERAGE | RowFlag.CLOSE_PAIR, RowFlag.EDGE | RowFlag.CLOSE_PAIR]


def classified(**columns: Sequence[Any]) -> pa.Table:
    sound: dict[str, Any] = {"status": ["ok"], "flags": pa.array([0], pa.int32()), "net_p_spiral": [0.9]}
    return pa.table({**sound, **columns})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, True),
        ({"net_p_spiral": [0.8]}, True),
        ({"net_p_spiral": [0.79]}, False),
        ({"net_p_spiral": pa.array([None], pa.float32())}, False),
        ({"status": ["partial"]}, False),
        ({"flags": pa.array([int(RowFlag.OUT_OF_DISTRIBUTION)], pa.int32())}, False),
        ({"flags": pa.array([int(RowFlag.SEAM)], pa.int32())}, False),
        ({"flags": pa.array([int(RowFlag.EDGE | RowFlag.CLOSE_PAIR | RowFlag.FOV_LIMITED)], pa.int32())}, True),
    ],
)
def test_a_galaxy_is_recommended_where_all_cuts_hold(columns: dict[str, Any], expected: bool) -> None:
    assert recommended(classified(**columns), "net")["spiral"].to_pylist() == [expected]


def test_a_class_may_have_a_cut_of_its_own() -> None:
    cuts = replace(published_cuts(), classes={"spiral": 0.95})
    table = classified(net_p_merger=[0.9], other_p_spiral=[1.0])
    assert {name: each.to_pylist() for name, each in recommended(table, "net", cuts).items()} == {
        "spiral": [False],
        "merger": [True],
    }


def test_the_cuts_name_flags_that_there_are() -> None:
    assert RowFlag.SEAM in published_cuts().excluded
    with pytest.raises(KeyError, match="BLURRED"):
        Cuts(version=1, probability=0.5, statuses=(), flags=("BLURRED",)).excluded  # noqa: B018
