"""Each kind of file read as the product reads it: from bytes and an empty folder to a result, or an error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.archives.answers import Answer, Invalid
from pipeline.archives.cache import Cache, Facts
from pipeline.archives.files import ArchiveFiles
from pipeline.archives.images import FitsImage
from pipeline.archives.opener import Opener
from pipeline.archives.policy import CacheSection
from pipeline.archives.ranges import RangedImage
from pipeline.archives.validation import check_expected
from pipeline.catalogue.commits import committed_attempts, each_latest, manifest_name, parquet_name, unit_rows
from pipeline.catalogue.verify import verify
from pipeline.data import Expected, ImageContract, Source, Status
from pipeline.errors import PipelineError
from pipeline.job import load_job
from pipeline.models.checkpoint import read_checkpoint
from pipeline.planner.plan import open_plan
from pipeline.planner.staging import stage
from pipeline.sources.batches import Columns, source_batches
from pipeline.sources.sweeps import sweep_batches
from pipeline.stages import draw_source
from pipeline.storage import Storage
from pipeline.surveys.files import FilesConfig
from pipeline.surveys.legacy import LegacyConfig
from pipeline.surveys.units import is_nanomaggies
from pipeline.surveys.wcs import linearised
from tests.fuzz.specimens import IMAGES
from tests.plans import Squares

Read = Callable[[bytes, Path], None]
Sound = dict[str, bytes]  # the files that lie beside the spoilt one

EXPECTED = Expected(bands="grz", shape=(60, 50), pixel_scale=0.262, centre=(150.0, 2.0))
BOXES = ((0, 60, 0, 50), (17, 23, 24, 26), (59, 60, 49, 50))
COLUMNS = Columns(object_id="OBJID", ra="ra", dec="dec", radius="shape_r")
KEY = "https://archive.example/a.fits"
ORIGINAL = b"pixels" * 9


class Broken(Exception):
    """What was read is not what the product promises."""


def image(data: bytes, folder: Path) -> None:
    """As one galaxy's own file, as a file held against what is expected, and by ranges."""
    path = folder / "image.fits"
    path.write_bytes(data)
    source = Source(1, 150.0, 2.0, str(path), 2.0)
    with Opener(None) as opener:
        drawn = draw_source(ImageContract(size=32), FilesConfig().build(None), opener, source, "file")
    if drawn.status not in Status or (drawn.image is None) == (drawn.status in (Status.OK, Status.PARTIAL)):
        raise Broken(f"status {drawn.status}, image {drawn.image is not None}")
    for attempt in (partial(_held_against, path), partial(_sections, path), partial(_by_ranges, data, folder / "part")):
        _refused(attempt)


def _refused(attempt: Callable[[], None]) -> None:
    """Let an error of our own pass: the next reader of the same bytes is to have its turn."""
    try:
        attempt()
    except (PipelineError, Invalid) as error:
        if len(str(error)) > 2000:
            raise Broken(f"an error of {len(str(error))} characters") from error


def _held_against(path: Path) -> None:
    check_expected(path, "image.fits", EXPECTED)


def _sections(path: Path) -> None:
    opened = FitsImage(path, "image.fits")
    try:
        linearised(opened.header, (opened.shape[-2], opened.shape[-1]), (150.0, 2.0), "image.fits")
        is_nanomaggies(str(opened.header.get("BUNIT", "")))
        _all_boxes(opened)
    finally:
        opened.close()


def _by_ranges(data: bytes, path: Path) -> None:
    def read(start: int, stop: int, *, etag: str | None = None, fresh: bool = False) -> Answer:
        part = data[start:stop]
        return Answer("image.fits", len(part), hashlib.sha256(part).hexdigest(), '"1"', None, len(data), part)

    opened = RangedImage(read, path, "image.fits", 100)
    try:
        _all_boxes(opened)
    finally:
        opened.close()


def _all_boxes(opened: FitsImage | RangedImage) -> None:
    height, width = opened.shape[-2:]
    for y0, y1, x0, x1 in BOXES:
        if y1 <= height and x1 <= width:
            np.isfinite(opened.section(y0, y1, x0, x1)).sum()


def sweep(data: bytes, folder: Path) -> None:
    place = folder / "dr10/south/sweep/10.1"
    place.mkdir(parents=True)
    (place / "sweep-150p000-160p005.fits").write_bytes(data)
    with ArchiveFiles(str(folder)) as files:
        batches = list(sweep_batches(files, LegacyConfig().sweeps))
    _staged(iter(batches), folder)


def table(name: str, data: bytes, folder: Path) -> None:
    (folder / name).write_bytes(data)
    _staged(source_batches(str(folder / name), COLUMNS), folder)


def _staged(batches: object, folder: Path) -> None:
    stage(batches, Squares(), folder)  # type: ignore[arg-type]


def job(data: bytes, folder: Path) -> None:
    (folder / "job.yaml").write_bytes(data)
    made = load_job(str(folder / "job.yaml"), environment={})
    made.digest({"dmagnet": "0" * 64})
    made.archive_hosts()


def checkpoint(data: bytes, folder: Path) -> None:
    read_checkpoint(data, "spoilt").build()


def sidecar(data: bytes, folder: Path) -> None:
    _cached(folder, lambda place: next(place.glob("names/*/*.json")).write_bytes(data))


def held_object(data: bytes, folder: Path) -> None:
    _cached(folder, lambda place: next(place.glob("objects/*/*")).write_bytes(data))


def _cached(folder: Path, spoil: Callable[[Path], object]) -> None:
    """Whatever lies in the cache, what comes out of it is a file whose bytes are those of its facts."""
    bystander = folder / "bystander"
    bystander.write_bytes(b"not of the cache")
    cache = Cache(CacheSection(url=str(folder / "cache")), lambda: 2.0)
    cache.file(KEY, folder, _fetched)
    spoil(folder / "cache")
    try:
        held = cache.file(KEY, folder, _fetched)
    except FileNotFoundError:  # a sidecar may say that the archive has none
        return
    if hashlib.sha256(held.path.read_bytes()).hexdigest() != held.facts.sha256:
        raise Broken("the cache gave bytes that are not those of their facts")
    if bystander.read_bytes() != b"not of the cache":
        raise Broken("a file outside the cache was changed")


def _fetched(target: Path) -> Facts:
    target.write_bytes(ORIGINAL)
    return Facts(KEY, sha256=hashlib.sha256(ORIGINAL).hexdigest(), size=len(ORIGINAL))


def manifest(sound: Sound, data: bytes, folder: Path) -> None:
    _verified(folder, {manifest_name("ab12", 1): data, parquet_name("ab12", 1): sound["unit"]})


def unit(sound: Sound, data: bytes, folder: Path) -> None:
    """With a manifest that has the sum of the spoilt bytes: they were written so."""
    facts = json.loads(sound["manifest"])
    facts |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    _verified(folder, {manifest_name("ab12", 1): json.dumps(facts).encode(), parquet_name("ab12", 1): data})


def _verified(folder: Path, files: Sound) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    storage = Storage(str(folder))
    committed_attempts(storage)
    for found in each_latest(storage):
        verify(storage)
        unit_rows(storage, found)


def plan(name: str, sound: Sound, data: bytes, folder: Path) -> None:
    for other in ("plan/plan.json", "plan/units.parquet", "plan/part-00000.parquet"):
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).write_bytes(data if other == name else sound[other])
    opened = open_plan(Storage(str(folder)))
    if opened is None:
        raise Broken("there is a plan.json, and no plan")
    for found in opened.units():
        opened.rows(found)
        opened.rows(found, 0)


def readers(sound: Sound) -> dict[str, Read]:
    """By name. `sound` are the bytes of all specimens."""
    named: dict[str, Read] = dict.fromkeys(IMAGES, image)
    named |= {name: partial(table, name) for name in sound if name.startswith("table.")}
    named |= {name: partial(plan, name, sound) for name in sound if name.startswith("plan/")}
    simple: dict[str, Read] = {"sweep": sweep, "job": job, "checkpoint": checkpoint}
    cached: dict[str, Read] = {"sidecar": sidecar, "object": held_object}
    return {**named, **simple, **cached, "manifest": partial(manifest, sound), "unit": partial(unit, sound)}
