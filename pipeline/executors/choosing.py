"""By which way the tiles of a job come: its links and the costs of its survey's tiles, for the plan and the dry run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pipeline.data import ImageContract, Source, Way
from pipeline.errors import JobError, SourceError
from pipeline.job import Job
from pipeline.planner.kinds import TileKind, on_this_disk, tile_kind
from pipeline.planner.link import Link
from pipeline.planner.planning import Choose
from pipeline.planner.ways import TileCosts
from pipeline.preprocess import field_of_view, width_to_cut
from pipeline.surveys import Survey

DISK = Link(latency=0.0, bandwidth=math.inf, in_flight=1, rate=math.inf)  # files in place ask nobody


def chooser(job: Job, image: ImageContract, survey: Survey) -> Choose:
    """The way of each tile that takes the least time, of those that the job and the survey allow.

    Raises JobError where none is left.
    """
    allowed = [way for way in survey.ways if way in job.ways.use]
    if not allowed:
        raise JobError(
            f"ways.use: the survey {job.survey.kind} comes by {', '.join(survey.ways)}, "
            f"the job allows {', '.join(job.ways.use)}"
        )

    def choose(sample: Sequence[Source]) -> Callable[[int], Way]:
        if len(allowed) == 1 or not sample:
            return lambda sources: allowed[0]
        costs = tile_costs(job, image, survey, sample)
        among = [way for way in allowed if way in costs.tables] or allowed[:1]
        return lambda sources: costs.best(sources, among)

    return choose


def tile_costs(job: Job, image: ImageContract, survey: Survey, sample: Sequence[Source]) -> TileCosts:
    """What tiles cost by every way that there is for them, allowed or not."""
    widths = [width_to_cut(image, field_of_view(image.fov, source.radius)[0]) for source in sample]
    found = tile_kind(survey, sample[0], widths, job.mirror)
    kind = replace(
        found,
        listings=found.listings if job.archives.published_sums else 0,
        chunk=job.units.chunk,
        kept=job.archives.cache.url is not None,
    )
    cores = job.engine.loads or job.ways.cores
    return TileCosts.of(kind, _links(job, survey, sample[0], kind), cores)


def _links(job: Job, survey: Survey, source: Source, kind: TileKind) -> Mapping[Way, Link]:
    links: dict[Way, Link] = {}
    product = next(iter(survey.products(source.tile)), None)
    if product is not None and "file" in survey.ways:
        local = on_this_disk(job.mirror, product) is not None
        links["file"] = DISK if local else job.link(product.path if "://" in product.path else str(job.mirror))
        if "ranges" in survey.ways and kind.files and not local:
            links["ranges"] = links["file"]
    if "cutout" in survey.ways and kind.answers:
        links["cutout"] = job.link(_service(survey, source))
    return links


def _service(survey: Survey, source: Source) -> str:
    try:
        return survey.cutouts(source, 60.0, 256)[0].path
    except (SourceError, IndexError):
        return ""
