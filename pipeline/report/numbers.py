"""The questions that a reader has of a catalogue, as queries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.data import RowFlag
from pipeline.report.traced import SEEN, Asked, NetworkNames, Traced

MAGNITUDE_BIN = 0.5  # mag
CONFIDENCE_BINS = 20
CAUSES = 20  # that the page lists
MAGNITUDES = ("dered_mag_r", "mag_r")  # of the r band, the first that the catalogue has
ORDER = 29  # of `_healpix_29`
FINEST = 11  # order of a map: 1.7 arcmin


def statuses(ask: Asked) -> Traced:
    """status, galaxies."""
    return ask("SELECT status, count(*) AS galaxies FROM catalogue GROUP BY status ORDER BY galaxies DESC, status")


def causes(ask: Asked) -> Traced:
    """Why rows are not ok: status, cause, galaxies and one of them; numbers within a cause are counted as one."""
    return ask(
        f"""SELECT status, regexp_replace(reason, '\\b[0-9]+([.][0-9]+)?\\b', '#', 'g') AS cause, count(*) AS galaxies,
        min(object_id) AS example FROM catalogue WHERE status <> 'ok'
        GROUP BY ALL ORDER BY galaxies DESC, cause LIMIT {CAUSES}"""
    )


def flags(ask: Asked) -> Traced:
    """One column a flag: how many rows have it."""
    counted = ", ".join(f"count_if(flags & {int(flag)} <> 0) AS {flag.name.lower()}" for flag in RowFlag if flag.name)
    return ask(f"SELECT {counted} FROM catalogue")


def labels(ask: Asked, network: NetworkNames) -> Traced:
    """class, galaxies, confidence (mean)."""
    return ask(
        f"""SELECT {network.label} AS class, count(*) AS galaxies, round(avg({network.confidence}), 3) AS confidence
        FROM catalogue WHERE {network.label} IS NOT NULL GROUP BY 1 ORDER BY galaxies DESC, class"""
    )


def magnitude(ask: Asked) -> str | None:
    """The column of r magnitudes, where there is one."""
    return next((name for name in MAGNITUDES if ask.has(name)), None)


def fractions(ask: Asked, network: NetworkNames, column: str) -> Traced:
    """magnitude (lower edge of the bin), class, galaxies."""
    return ask(
        f"""SELECT floor({column} / {MAGNITUDE_BIN}) * {MAGNITUDE_BIN} AS magnitude, {network.label} AS class,
        count(*) AS galaxies FROM catalogue WHERE {network.label} IS NOT NULL AND isfinite({column})
        GROUP BY ALL ORDER BY ALL"""
    )


def confidences(ask: Asked, network: NetworkNames) -> Traced:
    """confidence (lower edge of the bin), galaxies."""
    return ask(
        f"""SELECT least(floor({network.confidence} * {CONFIDENCE_BINS}), {CONFIDENCE_BINS - 1}) / {CONFIDENCE_BINS}
        AS confidence, count(*) AS galaxies FROM catalogue WHERE {network.label} IS NOT NULL
        GROUP BY 1 ORDER BY 1"""
    )


def agreement(ask: Asked, one: NetworkNames, other: NetworkNames) -> Traced:
    """one, other (classes), galaxies."""
    return ask(
        f"""SELECT {one.label} AS one, {other.label} AS other, count(*) AS galaxies FROM catalogue
        WHERE {one.label} IS NOT NULL AND {other.label} IS NOT NULL GROUP BY ALL ORDER BY ALL"""
    )


def cells(ask: Asked, order: int) -> Traced:
    """pixel (HEALPix of `order`, NESTED), galaxies, classified."""
    return ask(
        f"""SELECT _healpix_29 >> {2 * (ORDER - order)} AS pixel, count(*) AS galaxies, count_if({SEEN}) AS classified
        FROM catalogue GROUP BY 1 ORDER BY 1"""
    )


def class_cells(ask: Asked, network: NetworkNames, order: int) -> Traced:
    """pixel (HEALPix of `order`, NESTED), galaxies, and a column a class: the mean probability."""
    means = ", ".join(f'avg({network.prefix}_p_{name}) AS "{name}"' for name in network.classes)
    return ask(
        f"""SELECT _healpix_29 >> {2 * (ORDER - order)} AS pixel, count(*) AS galaxies, {means} FROM catalogue
        WHERE {network.label} IS NOT NULL GROUP BY 1 ORDER BY 1"""
    )


def occupied(ask: Asked) -> Traced:
    """galaxies, and a column an order of HEALPix, coarsest first: in how many of its pixels they are."""
    counted = (f"count(DISTINCT _healpix_29 >> {2 * (ORDER - order)}) AS order_{order}" for order in range(FINEST + 1))
    return ask(f"SELECT count(*) AS galaxies, {', '.join(counted)} FROM catalogue")


def beside_truth(
    ask: Asked, network: NetworkNames, truth: pa.Table
) -> tuple[Traced, NDArray[np.bool_], NDArray[np.float64], float]:
    """What a network said of the galaxies whose class is known, `truth` having object_id and class.

    What was asked; of each (N,) whether its label is right and how confident it was; the share that the commonest
    class has, which is what a network that knows nothing could have right.
    """
    traced = ask(
        f"SELECT object_id, {network.label}, {network.confidence} FROM catalogue WHERE {network.label} IS NOT NULL"
    )
    joined = traced.rows.join(truth, "object_id", join_type="inner")
    right = pc.equal(joined[network.label], joined["class"]).to_numpy(zero_copy_only=False).astype(np.bool_)
    counts = joined["class"].value_counts().field("counts").to_numpy()
    commonest = float(counts.max() / counts.sum()) if len(counts) else float("nan")
    return traced, right, joined[network.confidence].to_numpy().astype(np.float64), commonest
