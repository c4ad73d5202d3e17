"""Which galaxies to show: the surest and the least sure of each class, those in dispute, those with a flag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.data import ObjectId, RowFlag
from pipeline.report.traced import Asked, NetworkNames, Traced

EACH = 6  # galaxies a class and end
DISPUTED = 12
FLAGGED = 3  # a flag


@dataclass(frozen=True)
class Gallery:
    """Galaxies that belong beside each other."""

    key: str
    title: str
    note: str
    traced: Traced  # column object_id, and what they are ordered by

    @property
    def ids(self) -> tuple[ObjectId, ...]:
        return tuple(self.traced.column("object_id"))


def galleries(ask: Asked) -> Iterator[Gallery]:
    """Every gallery that has galaxies, by the first network of the catalogue."""
    networks = ask.networks
    if not networks:
        return
    for gallery in [*_by_class(ask, networks[0]), *_disputed(ask, networks), *_flagged(ask)]:
        if gallery.ids:
            yield gallery


def _by_class(ask: Asked, network: NetworkNames) -> Iterator[Gallery]:
    for name in network.classes:
        for end, direction in (("surest", "DESC"), ("least sure", "ASC")):
            traced = ask(
                f"""SELECT object_id, {network.confidence} FROM catalogue WHERE {network.label} = '{name}'
                ORDER BY {network.confidence} {direction}, object_id LIMIT {EACH}"""
            )
            key = f"{end.replace(' ', '-')}-{name}"
            yield Gallery(key, f"{end.capitalize()} {said(name)}", f"called {said(name)} by {network.prefix}", traced)


def _disputed(ask: Asked, networks: tuple[NetworkNames, ...]) -> Iterator[Gallery]:
    for other in networks[1:]:
        one = networks[0]
        traced = ask(
            f"""SELECT object_id, {one.label}, {other.label} FROM catalogue WHERE {one.label} <> {other.label}
            ORDER BY least({one.confidence}, {other.confidence}) DESC, object_id LIMIT {DISPUTED}"""
        )
        title = f"{one.prefix} against {other.prefix}"
        yield Gallery(f"dispute-{other.prefix}", title, "both sure, of different classes", traced)


def _flagged(ask: Asked) -> Iterator[Gallery]:
    for flag in RowFlag:
        traced = ask(
            f"""SELECT object_id, flags FROM catalogue WHERE flags & {int(flag)} <> 0
            AND status IN ('ok', 'partial') ORDER BY hash(object_id) LIMIT {FLAGGED}"""
        )
        name = said((flag.name or "").lower())
        yield Gallery(f"flag-{flag.name}".lower(), f"Flag: {name}", "a sample of those with an image", traced)


def said(name: str) -> str:
    """A column's word as a person says it."""
    return name.replace("_", " ")
