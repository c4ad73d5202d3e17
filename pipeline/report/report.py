"""From a catalogue to the page: every section asked, drawn and traced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.catalogue.commits import Manifest
from pipeline.data import ObjectId
from pipeline.report import numbers, plots
from pipeline.report.galleries import Gallery, galleries, said
from pipeline.report.page import FLAG_BITS, page_data, rendered, thousands
from pipeline.report.pictures import MAP_SIDE, Picture, embedded
from pipeline.report.sky import fitting_order, sky_map, visible_order
from pipeline.report.speed import speed
from pipeline.report.traced import Asked, NetworkNames, Traced

ROWS = 10_000  # of the table of rows; a larger catalogue is sampled
WHOLE = 1024  # pixels a side: the maps of a single galaxy are shown as the networks gave them
Pictures = Callable[[Sequence[ObjectId]], Iterable[Picture]]


@dataclass(frozen=True, eq=False)
class Plot:
    """One drawing of the page."""

    key: str
    svg: str
    caption: str
    traced: Traced


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made of besides the catalogue."""

    pictures: Pictures  # fetches galaxies again and looks at them
    committed: Sequence[Manifest] = ()  # of the run, where they are at hand
    truth: pa.Table | None = None  # object_id, class


def report_page(ask: Asked, material: Material) -> str:
    """The HTML of a catalogue's report. Raises CatalogueError where it cannot be read."""
    statuses, causes, flags = numbers.statuses(ask), numbers.causes(ask), numbers.flags(ask)
    total = sum(statuses.column("galaxies"))
    shown = list(galleries(ask))
    networks = ask.networks
    rows = _rows(ask, total)
    galaxies = list(_galaxies(ask, material.pictures, shown))
    timed = speed(material.committed)
    values = {
        "alone": None,
        **_heading(ask, total),
        "total": max(total, 1),
        "tiles": _tiles(statuses, flags, networks, total),
        "statuses": {"rows": statuses.dicts(), "traced": statuses},
        "causes": {"rows": causes.dicts(), "traced": causes},
        "flags": {"rows": [(n, c) for n, c in (flags.dicts() or [{}])[0].items() if c], "traced": flags},
        "flag_bits": FLAG_BITS,
        "first_network": networks[0].prefix if networks else "the network",
        "galleries": [
            {"key": g.key, "title": g.title, "note": g.note, "traced": g.traced, "ids": [str(i) for i in g.ids]}
            for g in shown
        ],
        "gallery_note": _missing(galaxies),
        "labels": [_labels(ask, network) for network in networks],
        "networks": networks,
        "class_plots": list(_class_plots(ask)),
        **_confidence(ask, material.truth),
        "agreement_plots": list(_agreement(ask)),
        "sky_plots": list(_sky(ask)),
        "speed_plots": [] if timed is None else [_speed_plot(timed, ask)],
        "slowest": [] if timed is None else timed.slowest,
        "row_columns": rows.rows.column_names,
        "rows_traced": rows,
        "rows_note": _rows_note(total),
    }
    return rendered(values, ask.command, page_data(galaxies, networks, rows, None))


def galaxy_page(ask: Asked, pictures: Pictures, object_ids: Sequence[ObjectId]) -> str:
    """The comparison of maps alone, open at the first of `object_ids`."""
    galaxies = list(_embedded(ask, pictures, list(object_ids), WHOLE))
    ids = [galaxy["id"] for galaxy in galaxies]
    values = {"alone": ids, **_heading(ask, len(ids))}
    return rendered(values, ask.command, page_data(galaxies, ask.networks, None, ids[0] if ids else None))


def _heading(ask: Asked, total: int) -> dict[str, Any]:
    untrained = ask.catalogue.untrained
    place = ask.catalogue.table.storage.shown.rstrip("/")
    have = "has" if len(untrained) == 1 else "have"
    warnings = (
        [f"{', '.join(untrained)} {have} random weights (untrained): the classes mean nothing."] if untrained else []
    )
    return {
        "title": f"{ask.catalogue.name}: {thousands(total)} {'galaxy' if total == 1 else 'galaxies'}",
        "subtitle": f"{place}, networks {', '.join(network.prefix for network in ask.networks)}",
        "version": ask.version,
        "warnings": warnings,
        "colophon": f"galaxy-pipeline {ask.version}. The attention describes the networks, not the galaxies.",
    }


def _tiles(statuses: Traced, flags: Traced, networks: tuple[NetworkNames, ...], total: int) -> list[dict[str, str]]:
    counts = dict(zip(statuses.column("status"), statuses.column("galaxies"), strict=True))
    seen = counts.get("ok", 0) + counts.get("partial", 0)
    share = f"{seen / total:.1%}" if total else "none"
    return [
        {"name": "galaxies", "value": thousands(total)},
        {"name": f"classified ({share})", "value": thousands(seen)},
        {"name": "of these with part of the coverage", "value": thousands(counts.get("partial", 0))},
        {"name": "without a class", "value": thousands(total - seen)},
        {"name": "networks", "value": str(len(networks))},
    ]


def _rows(ask: Asked, total: int) -> Traced:
    """The rows of the page's table, all or a sample that is the same every time."""
    columns = ["object_id", "ra", "dec", "status", "flags"]
    column = numbers.magnitude(ask)
    columns += [column] if column else []
    columns += [name for network in ask.networks for name in (network.label, network.confidence)]
    which = "ORDER BY object_id" if total <= ROWS else f"ORDER BY hash(object_id) LIMIT {ROWS}"
    return ask(f"SELECT {', '.join(columns)} FROM catalogue {which}")


def _rows_note(total: int) -> str:
    if total <= ROWS:
        return f"All {thousands(total)} rows. Those with a button have their maps in this page."
    return (
        f"A sample of {thousands(ROWS)} of {thousands(total)} rows, the same every time. The numbers above are of all."
    )


def _galaxies(ask: Asked, pictures: Pictures, shown: Sequence[Gallery]) -> Iterator[dict[str, Any]]:
    yield from _embedded(ask, pictures, list(dict.fromkeys(found for gallery in shown for found in gallery.ids)))


def _embedded(ask: Asked, pictures: Pictures, ids: list[ObjectId], side: int = MAP_SIDE) -> Iterator[dict[str, Any]]:
    rows = ask.catalogue.ids(*ids).select(*_shown_columns(ask)).to_table()
    by_id = {row["object_id"]: row for row in rows.to_pylist()}
    for picture in pictures(ids):
        yield embedded(picture, by_id.get(picture.object_id, {}), side)


def _shown_columns(ask: Asked) -> list[str]:
    own = ("_healpix_29", "run_id", "data_release")
    return [name for name in ask.catalogue.columns if name not in own and not name.endswith("_checkpoint")]


def _missing(galaxies: Sequence[Mapping[str, Any]]) -> str:
    lacking = sum(galaxy["image"] is None for galaxy in galaxies)
    return f" {lacking} of {len(galaxies)} could not be fetched again." if lacking else ""


def _labels(ask: Asked, network: NetworkNames) -> dict[str, Any]:
    traced = numbers.labels(ask, network)
    total = max(sum(traced.column("galaxies")), 1)
    return {"prefix": network.prefix, "rows": traced.dicts(), "total": total, "traced": traced}


def _class_plots(ask: Asked) -> Iterator[Plot]:
    column = numbers.magnitude(ask)
    for network in ask.networks[:1] if column else ():
        traced = numbers.fractions(ask, network, column or "")
        if plots.filled(traced):
            caption = f"Shares of the classes of {network.prefix}, with 95 % intervals; bins of five galaxies or more."
            yield Plot("fractions", plots.fractions_plot(traced, network.classes), caption, traced)


def _confidence(ask: Asked, truth: pa.Table | None) -> dict[str, Any]:
    traced = [(network.prefix, numbers.confidences(ask, network)) for network in ask.networks]
    drawn = (
        [Plot("confidences", plots.confidence_plot(traced), "All classified galaxies.", traced[0][1])] if traced else []
    )
    if truth is None:
        note = "Reliability needs the true classes: `pipeline report --truth TABLE` draws it."
        return {"confidence_plots": drawn, "confidence_note": note}
    for network in ask.networks:
        drawn += _reliability(ask, network, truth)
    return {"confidence_plots": drawn, "confidence_note": "Reliability against the true classes that were given."}


def _reliability(ask: Asked, network: NetworkNames, truth: pa.Table) -> list[Plot]:
    traced, right, sure, _ = numbers.beside_truth(ask, network, truth)
    if not len(right):
        return []
    caption = (
        f"{network.prefix}: {right.mean():.1%} of {thousands(len(right))} galaxies right; bars are 95 % intervals."
    )
    return [Plot(f"reliability-{network.prefix}", plots.reliability_plot(sure, right, network.prefix), caption, traced)]


def _agreement(ask: Asked) -> Iterator[Plot]:
    for other in ask.networks[1:]:
        one = ask.networks[0]
        traced = numbers.agreement(ask, one, other)
        if not traced.rows.num_rows or one.classes != other.classes:
            continue
        same = sum(row["galaxies"] for row in traced.dicts() if row["one"] == row["other"])
        every = sum(traced.column("galaxies"))
        caption = f"{one.prefix} and {other.prefix} agree on {same / every:.1%} of {thousands(every)} galaxies."
        drawn = plots.agreement_plot(traced, one.classes, one.prefix, other.prefix)
        yield Plot(f"agreement-{other.prefix}", drawn, caption, traced)


def _sky(ask: Asked) -> Iterator[Plot]:
    galaxies, *cells = numbers.occupied(ask).dicts()[0].values()
    if not galaxies:
        return
    order = fitting_order(cells, galaxies)
    covered = numbers.cells(ask, order)
    seen = visible_order(order, np.array(covered.column("pixel"), dtype=np.int64))
    if seen < order:
        order, covered = seen, numbers.cells(ask, seen)
    pixels = np.array(covered.column("pixel"), dtype=np.int64)
    counts = np.array(covered.column("galaxies"), dtype=float)
    caption = f"Coverage: galaxies in each HEALPix pixel of order {order}."
    yield Plot("coverage", sky_map(order, pixels, counts, "galaxies a pixel", "sky coverage"), caption, covered)
    for network in ask.networks[:1]:
        means = numbers.class_cells(ask, network, max(order - 1, 0))
        pixels = np.array(means.column("pixel"), dtype=np.int64)
        for name in network.classes:
            values = np.array(means.column(name), dtype=float)
            drawn = sky_map(max(order - 1, 0), pixels, values, "mean probability", f"{said(name)} on the sky")
            yield Plot(f"sky-{name}", drawn, f"{said(name).capitalize()}: mean probability by {network.prefix}.", means)


def _speed_plot(timed: Any, ask: Asked) -> Plot:
    traced = Traced(pa.table({}), "", f"{ask.url.rstrip('/')}/units/*/*/*.json")
    caption = "Seconds of all tasks of a unit, an image; by the time of its commit."
    return Plot("cost", plots.throughput_plot(timed.ends, timed.stages), caption, traced)
