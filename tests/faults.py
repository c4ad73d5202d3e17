"""Archives that fail in every way, and what a run makes of them: `python -m tests.faults --seeds 20`.

For each seed the mock sky is loaded by whole files, by ranges and by the cutout service through a proxy that spoils
15 % of all requests, and then with one file or cutout spoilt for good. Every row must come out as from the healthy
archive; where a fault is permanent, exactly the rows that need the file must say so.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.archives.access import Access
from pipeline.archives.opener import Opener
from pipeline.archives.policy import ArchivesSection
from pipeline.data import Chunk, Integrity, Product, Source, Status, Way
from pipeline.errors import SourceError
from pipeline.executors.prepare import prepare
from pipeline.planner.plan import Plan as RunPlan
from pipeline.preprocess import field_of_view, width_to_cut
from pipeline.stages import Work, load, open_survey
from pipeline.surveys import TileImage
from tests.runs import mock_job, tiny_checkpoint
from tests.standins.fast import FAST, PATIENT
from tests.standins.faults import Fault, FaultProxy, Plan, fault_proxy, permanent, transient
from tests.standins.nginx import nginx
from tests.standins.viewer import viewer

SETTINGS = FAST.model_copy(update={"default": PATIENT.model_copy(update={"timeout": 1.0, "failures": 1000})})
UNHURRIED = FAST.model_copy(update={"default": PATIENT.model_copy(update={"timeout": 60.0})})
WITHOUT_SUMS = tuple(kind for kind in Fault if kind is not Fault.FLIP)  # parts of files have no checksum
KINDS: dict[Way, tuple[Fault, ...]] = {"file": tuple(Fault), "ranges": WITHOUT_SUMS, "cutout": WITHOUT_SUMS}

HEX = "[0-9a-f]{16}"
Said = tuple[Fault | int, Status, str]
"""A fault that stays, and the status and the end of the reason of the rows that it hits."""
_DOWN: tuple[Said, ...] = (
    (403, Status.ARCHIVE_ERROR, r": HTTP 403$"),
    (Fault.UNAVAILABLE, Status.ARCHIVE_ERROR, r": HTTP 503 \(7 requests\)$"),
    (Fault.RESET, Status.ARCHIVE_ERROR, r": ReadError \(7 requests\)$"),
)
PAGE = r": the answer is no FITS file, it starts with b'<!DOCTYPE' \(7 requests\)$"
SAID: dict[Way, tuple[Said, ...]] = {
    "file": (
        *_DOWN,
        (Fault.PAGE, Status.ARCHIVE_ERROR, PAGE),
        (Fault.SHORT_WITHOUT_LENGTH, Status.ARCHIVE_ERROR, r": .*cut short.* \(7 requests\)$"),
        (Fault.FLIP, Status.BAD_IMAGE, rf": its SHA-256 {HEX} is not the published {HEX}$"),
    ),
    "ranges": _DOWN,
    "cutout": (
        *_DOWN,
        (500, Status.ARCHIVE_ERROR, r": HTTP 500 twice$"),
        (Fault.BANDS, Status.BAD_IMAGE, r": BANDS is 'zrgy', asked for 'grz'$"),
        (Fault.NAN, Status.BAD_IMAGE, r": band z is NaN in every pixel$"),
    ),
}


def healthy(path: str, attempt: int) -> None:
    """The plan of an archive without faults."""


@dataclass(frozen=True)
class Planned:
    """A run before its loads, and what they give when nothing fails."""

    work: Work
    plan: RunPlan
    truth: list[Chunk]

    def needs(self, tree: Path, named: str) -> set[int]:
        """Numbers of the rows that read a file or a cutout whose path contains `named`."""
        survey, image = open_survey(self.work.job, self.plan.tile_table()), self.work.image
        way: Way = self.work.job.ways.use[0]
        found: set[int] = set()
        with Opener(str(tree)) as opener:
            for number, source in enumerate(self.sources()):
                opened: list[Product] = []
                width = width_to_cut(image, field_of_view(image.fov, source.radius)[0])
                with suppress(SourceError, _Enough):
                    survey.cut(partial(_recorded, opener, opened), source, width, way)
                if any(named in product.path for product in opened):
                    found.add(number)
        return found

    def sources(self) -> list[Source]:
        columns = ("object_id", "ra", "dec", "tile", "radius")
        rows = [self.plan.rows(unit).select(columns).to_pylist() for unit in self.plan.units()]
        return [Source(**row) for part in rows for row in part]


class _Enough(Exception):
    """A cutout is known by its URL alone."""


def _recorded(opener: Opener, opened: list[Product], product: Product) -> TileImage:
    opened.append(product)
    if product.kind == "cutout":
        raise _Enough
    return opener(product)


@dataclass
class FaultyArchive:
    """A mock tree behind nginx, and its cutout service, both behind the proxy."""

    tree: Path
    checkpoint: Path
    folder: Path
    proxy: FaultProxy
    plans: dict[Way, Planned] = field(default_factory=dict)

    def planned(self, way: Way) -> Planned:
        if way not in self.plans:
            self.proxy.reset(healthy)
            service = f"{self.proxy.url}/viewer/fits-cutout" if way == "cutout" else "null"
            job = mock_job(
                Path(self.proxy.url), self.checkpoint, f"ways.use=[{way}]", f"survey.cutout_service={service}",
                f"mirror={self.proxy.url}", "units.sources=64", "units.chunk=64",
            ).model_copy(update={"archives": UNHURRIED})  # fmt: skip
            prepared = prepare(job, str(self.folder / way), "run", lambda message: None)
            truth = _loaded(prepared.work, prepared.plan, UNHURRIED)
            self.plans[way] = Planned(prepared.work, prepared.plan, truth)
        return self.plans[way]

    def loaded(self, way: Way, plan: Plan, settings: ArchivesSection = SETTINGS) -> list[Chunk]:
        """Every chunk, while the archive fails by `plan`."""
        planned = self.planned(way)
        self.proxy.reset(plan)
        return _loaded(planned.work, planned.plan, settings)


@contextmanager
def faulty_archive(tree: Path, checkpoint: Path, folder: Path) -> Iterator[FaultyArchive]:
    with (
        nginx(tree, folder) as files,
        viewer(tree) as service,
        fault_proxy({"/": files.url, "/viewer": service}, healthy) as proxy,
    ):
        yield FaultyArchive(tree, checkpoint, folder, proxy)


def differing(got: list[Chunk], want: list[Chunk]) -> list[int]:
    """Numbers of the rows whose status, reason, integrity, flags or image differ."""
    number, rows = 0, []
    for ours, theirs in zip(got, want, strict=True):
        image, its = iter(ours.images), iter(theirs.images)
        for row in range(theirs.rows):
            one = next(image).tobytes() if ours.with_image[row] else b""
            other = next(its).tobytes() if theirs.with_image[row] else b""
            facts = [
                (chunk.status[row], chunk.reason[row], chunk.integrity[row], chunk.flags[row])
                for chunk in (ours, theirs)
            ]
            if one != other or facts[0] != facts[1]:
                rows.append(number + row)
        number += theirs.rows
    return rows


def _facts(chunk: Chunk, row: int) -> tuple[object, ...]:
    return chunk.status[row], chunk.reason[row], chunk.integrity[row], chunk.flags[row]


def wrong_pixels(got: list[Chunk], want: list[Chunk]) -> int:
    """Rows that are classified, whose integrity was checked, and whose image is not the true one."""
    wrong = 0
    for ours, theirs in zip(got, want, strict=True):
        truth = dict(zip(np.flatnonzero(theirs.with_image), theirs.images, strict=True))
        for row, image in zip(np.flatnonzero(ours.with_image), ours.images, strict=True):
            if ours.integrity[row] == Integrity.CHECKED and ours.status[row] == theirs.status[row]:
                wrong += not np.array_equal(image, truth[row])
    return wrong


def column(chunks: list[Chunk], name: str) -> list[str]:
    return [str(value) for chunk in chunks for value in getattr(chunk, name)]


def _loaded(work: Work, plan: RunPlan, settings: ArchivesSection) -> list[Chunk]:
    with Access(settings, work.job.archive_hosts()) as access:
        return [load(work, unit, chunk, access) for unit in plan.units() for chunk in range(len(unit.chunks))]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=20)
    seeds = options.parse_args().seeds
    with tempfile.TemporaryDirectory() as folder:
        return _all_seeds(Path(folder), seeds)


def _all_seeds(folder: Path, seeds: int) -> int:
    from pipeline.mock import MockSky, write_mock

    sky = MockSky(columns=2, rows=2, brick_pixels=500, galaxies=24, stars=16, max_radius=5.0)
    tree = write_mock(folder / "sky", sky=sky).root
    failures, injected = 0, Counter[str]()
    with faulty_archive(tree, tiny_checkpoint(folder), folder) as archive:
        for seed in range(seeds):
            for way in KINDS:
                failures += _one(archive, way, seed, injected)
    for kind, count in sorted(injected.items()):
        sys.stdout.write(f"{count:6} {kind}\n")
    sys.stdout.write(
        f"{seeds} seeds, {injected.total()} faults: {failures or 'no'} rows differ from the healthy archive's\n"
    )
    return int(failures > 0)


def _one(archive: FaultyArchive, way: Way, seed: int, injected: Counter[str]) -> int:
    """Rows that are not as they should be, with transient faults and then with one that stays."""
    planned = archive.planned(way)
    rows = differing(archive.loaded(way, transient(seed, kinds=KINDS[way])), planned.truth)
    injected.update(str(logged.fault) for logged in archive.proxy.log if logged.fault is not None)
    asked = sorted({logged.path for logged in archive.proxy.log if "coadd" in logged.path or "viewer" in logged.path})
    named, (fault, status, message) = asked[seed % len(asked)], SAID[way][seed % len(SAID[way])]
    spoilt = archive.loaded(way, permanent(fault, named))
    injected[f"{fault}, always"] += 1
    bad = {number for number, found in enumerate(column(spoilt, "status")) if found == status}
    reasons = column(spoilt, "reason")
    rows += sorted(bad ^ planned.needs(archive.tree, named.lstrip("/")))
    rows += [number for number in bad if not re.search(message, reasons[number])]
    rows += [number for number in differing(spoilt, planned.truth) if number not in bad]
    for row in rows:
        sys.stdout.write(f"seed {seed}, way {way}: row {row} is not as it should be\n")
    return len(rows) + wrong_pixels(spoilt, planned.truth)


if __name__ == "__main__":
    raise SystemExit(main())
