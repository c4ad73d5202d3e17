"""Galaxies of a run fetched again, and what each of its networks looked at, for the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.archives.access import Access
from pipeline.archives.opener import Opener
from pipeline.catalogue.attention_sky import sky_columns
from pipeline.catalogue.query import Catalogue
from pipeline.checkpoints import SHIPPED, common_image, job_checkpoints, read, shipped_names
from pipeline.data import ImageContract, ObjectId, Source, Way
from pipeline.errors import CatalogueError, CheckpointError
from pipeline.job import Job
from pipeline.planner.plan import open_plan
from pipeline.report.pictures import SUMMARY, AttentionMap, Picture
from pipeline.stages import draw_source, open_survey
from pipeline.storage import Storage
from pipeline.surveys import Survey

if TYPE_CHECKING:
    from pipeline.models.checkpoint import Checkpoint
    from pipeline.models.network import NetworkConfig

BOX = ("box_cx", "box_cy", "box_sx")  # scalars of MBAN; its box is a square
SETTINGS = "AG-CNN under other settings"  # the group of those that ship
VARIED = "agcnn"  # the shipped checkpoint whose settings those vary
VARYING = ("normalisation", "aggregation")  # of its configuration
NETWORKS = "Networks"  # the group of the maps that the catalogue's columns summarise


@dataclass(frozen=True, eq=False)
class Looker:
    """Fetches galaxies of a catalogue and runs the networks of its job over them, and others to compare with."""

    catalogue: Catalogue
    job: Job
    plan: Storage  # the output, which keeps the survey's table of tiles
    checkpoints: Mapping[str, Checkpoint]  # of the job
    others: Mapping[str, Mapping[str, Checkpoint]]  # group -> name -> the same networks under other settings
    compared: int  # galaxies that the others look at: they are many, and a reader compares few

    def __call__(self, object_ids: Sequence[ObjectId]) -> Iterator[Picture]:
        """The pictures of some rows, in their order; what cannot be fetched says why instead of an image."""
        contract, _ = common_image(dict(self.checkpoints), self.job.survey.bands)
        networks = _modules(self.checkpoints)
        others = {group: _modules(found) for group, found in self.others.items()}
        plan, job = open_plan(self.plan), self.job
        survey = open_survey(job, None if plan is None else plan.tile_table())
        way = _way(survey, job)
        with (
            Access(job.archives, job.archive_hosts()) as access,
            Opener(job.mirror, access, job.gap if way == "ranges" else None) as opener,
        ):
            for number, source in enumerate(_sources(self.catalogue, object_ids)):
                drawn = draw_source(contract, survey, opener, source, way)
                if drawn.image is None:
                    yield Picture(source.object_id, None, drawn.reason, drawn.fov_arcsec, ())
                    continue
                maps = tuple(_maps(NETWORKS, networks, drawn.image, drawn.fov_arcsec))
                if number < self.compared:
                    further = (_maps(group, named, drawn.image, drawn.fov_arcsec) for group, named in others.items())
                    maps += tuple(chain.from_iterable(further))
                yield Picture(source.object_id, _shown(drawn.image, contract), drawn.reason, drawn.fov_arcsec, maps)


def unseen(object_ids: Sequence[ObjectId]) -> Iterator[Picture]:
    """The pictures of a catalogue that is not beside its run: none, as nobody says where its images came from."""
    for object_id in object_ids:
        yield Picture(object_id, None, "not the output of a run: where its images are is not known", float("nan"), ())


def looker(catalogue: Catalogue, output: str, job: Job, others: Sequence[str] | None, compared: int) -> Looker:
    """A looker for a run's output. `others` are checkpoints as GROUP:NAME=PATH or paths, whose names say what they are.

    None stands for AG-CNN under each normalisation and each aggregation that ships, one varied at a time, where the
    job's images are its images.
    Raises CheckpointError for a checkpoint that cannot be read, or that looks at images of other planes.
    """
    checkpoints = job_checkpoints(job)
    contract, _ = common_image(dict(checkpoints), job.survey.bands)
    planes = len(contract.planes)
    grouped = _shipped_settings(planes) if others is None else _named(others, planes)
    return Looker(catalogue, job, Storage(output), checkpoints, grouped, compared)


def _shipped_settings(planes: int) -> dict[str, dict[str, Checkpoint]]:
    """Those that differ from the shipped `agcnn` in one of the two: with both at once they are too many for a page."""
    usual = read(f"{SHIPPED}:{VARIED}").config
    names = (name for name in shipped_names() if name.startswith(f"{VARIED}_"))
    found = {name.removeprefix(f"{VARIED}_").replace("_", " "): read(f"{SHIPPED}:{name}") for name in names}
    return {
        SETTINGS: {
            name: one
            for name, one in found.items()
            if len(one.image.planes) == planes and _differing(one.config, usual) == 1
        }
    }


def _differing(config: NetworkConfig, usual: NetworkConfig) -> int:
    """In how many of what VARYING names one configuration differs from another."""
    return sum(getattr(config, key) != getattr(usual, key) for key in VARYING)


def _named(others: Sequence[str], planes: int) -> dict[str, dict[str, Checkpoint]]:
    grouped: dict[str, dict[str, Checkpoint]] = {}
    for address in others:
        group, name, path = _addressed(address)
        other = read(path)
        if len(other.image.planes) != planes:
            raise CheckpointError(
                f"{path} looks at images of {len(other.image.planes)} planes, the job's have {planes}"
            )
        grouped.setdefault(group, {})[name] = other
    return grouped


def _way(survey: Survey, job: Job) -> Way:
    """How to come by the pixels of a few galaxies: a near disk's files, else as little as the survey can give."""
    far = job.mirror is None or "://" in job.mirror
    preferred: tuple[Way, ...] = ("ranges", "cutout", "file") if far else ("file", "ranges", "cutout")
    return next(way for way in preferred if way in survey.ways)


def _addressed(address: str) -> tuple[str, str, str]:
    """Group, name and path: "AG-CNN:softmax=path" says all; a path alone is named by its file."""
    title, equals, path = address.partition("=")
    if not equals:
        name = address.rsplit("/", 1)[-1].removesuffix(".safetensors")
        return "Other checkpoints", name, address
    group, _, name = title.rpartition(":")
    return group or "Other checkpoints", name, path


def _sources(catalogue: Catalogue, object_ids: Sequence[ObjectId]) -> Iterator[Source]:
    """The rows of the catalogue as sources again. Raises CatalogueError for an id that it does not have."""
    rows = catalogue.ids(*object_ids).select("object_id", "ra", "dec", "tile", "radius").to_table()
    found = {row["object_id"]: Source(**row) for row in rows.to_pylist()}
    for object_id in object_ids:
        if object_id not in found:
            raise CatalogueError(f"the catalogue {catalogue.name} has no object_id {object_id}")
        yield found[object_id]


def _shown(image: NDArray[np.uint8], contract: ImageContract) -> NDArray[np.uint8]:
    """The planes that a screen has: the first three where there are more, one in grey where there are fewer."""
    return image[:3] if len(contract.planes) >= 3 else image[:1]


Look = Callable[[NDArray[np.uint8]], "Looked"]  # an image (C, S, S) uint8


@dataclass(frozen=True, eq=False)
class Looked:
    """One network's answer to one image."""

    attention: NDArray[np.float32]  # (h, w)
    parts: Mapping[str, NDArray[np.float32]]  # name -> (h, w)
    verdict: str  # the class and its probability
    box: tuple[float, float, float] | None  # of the crop that it looked at again


def _modules(checkpoints: Mapping[str, Checkpoint]) -> dict[str, Look]:
    return {name: _look(checkpoint) for name, checkpoint in checkpoints.items()}


def _look(checkpoint: Checkpoint) -> Look:
    import torch

    from pipeline.inference import planes_at
    from pipeline.models.calibration import probabilities

    module = checkpoint.build()
    shift = None if checkpoint.prior is None else torch.tensor(checkpoint.prior.shift)

    def look(image: NDArray[np.uint8]) -> Looked:
        with torch.inference_mode():
            result = module(planes_at(torch.from_numpy(image)[None], checkpoint.config.size))
        said = probabilities(result.logits, checkpoint.temperature, shift)[0].numpy()
        best = int(said.argmax())
        box = tuple(float(result.scalars[name][0]) for name in BOX) if set(BOX) <= set(result.scalars) else None
        return Looked(
            result.attention[0].float().numpy(),
            {part: found[0].float().numpy() for part, found in result.parts.items()},
            f"{checkpoint.classes[best].replace('_', ' ')} {said[best]:.2f}",
            cast("tuple[float, float, float] | None", box),
        )

    return look


def _maps(group: str, networks: Mapping[str, Look], image: NDArray[np.uint8], fov: float) -> Iterator[AttentionMap]:
    """Each network's own map first, then, for the job's networks, those of its parts in a group of their own."""
    looked = {name: look(image) for name, look in networks.items()}
    for name, found in looked.items():
        numbers = _summary(found.attention, fov)
        yield AttentionMap(group, name, found.attention, found.verdict, numbers, found.box)
    for name, found in looked.items() if group == NETWORKS else ():
        for title, values in found.parts.items():
            yield AttentionMap(f"Parts of {name}", title, values, numbers=_summary(values, fov))


def _summary(values: NDArray[np.float32], fov: float) -> dict[str, float]:
    """The numbers of a map (h, w) by the names of SUMMARY, as the catalogue's columns have them."""
    import torch

    from pipeline.attention import summarise
    from pipeline.models.network import ATTENTION_COLUMNS

    statistics, _ = summarise(torch.from_numpy(values)[None])
    columns = {name: statistics[:, at].double().numpy() for at, name in enumerate(ATTENTION_COLUMNS)}
    columns |= sky_columns(columns, np.array([fov]), np.array([0.0]))
    return {name: float(columns[name][0]) for name in SUMMARY}
