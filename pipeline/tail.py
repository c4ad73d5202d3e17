"""Which survey tiles took longest, and on what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

KEPT = 3  # of a unit: its tail, not its log


@dataclass(frozen=True, slots=True)
class TileTime:
    """What the sources of one tile took, all chunks of a unit together."""

    tile: str
    sources: int
    fetch: float  # s in which they waited for files
    cut: float  # s of reading sections, cutting and drawing
    failed: int = 0  # sources that got no image

    @property
    def seconds(self) -> float:
        return self.fetch + self.cut

    @property
    def why(self) -> str:
        """What most of the time went into, in words."""
        what = "waiting for its files" if self.fetch >= self.cut else "reading, cutting and drawing"
        failed = f", {self.failed} of them without an image" if self.failed else ""
        return f"{max(self.fetch, self.cut):.1f} of {self.seconds:.1f} s {what}; {self.sources} sources{failed}"


def slowest(times: Iterable[TileTime], kept: int = KEPT) -> tuple[TileTime, ...]:
    """The tiles that took longest, the slowest first; several times of one tile are added up."""
    by_tile: dict[str, TileTime] = {}
    for time in times:
        before = by_tile.get(time.tile)
        by_tile[time.tile] = time if before is None else _sum(before, time)
    return tuple(sorted(by_tile.values(), key=lambda time: -time.seconds)[:kept])


def _sum(one: TileTime, other: TileTime) -> TileTime:
    return replace(
        one,
        sources=one.sources + other.sources,
        fetch=one.fetch + other.fetch,
        cut=one.cut + other.cut,
        failed=one.failed + other.failed,
    )
