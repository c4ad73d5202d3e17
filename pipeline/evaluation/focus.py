"""Attention of several checkpoints in one table: on drawn galaxies out of the centre, and on real images.

Beside each network stand what needs no network, a Gaussian in the centre and the image's brightest pixel, and the same
network with its weights drawn anew. What a network has over them is what it learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data import ImageContract
from pipeline.evaluation.answers import planes
from pipeline.evaluation.intervals import Estimate, Floats, mean
from pipeline.evaluation.sets import Labelled
from pipeline.models.checkpoint import Checkpoint
from pipeline.training.consistency import rank_correlation, rotation_consistency
from pipeline.training.examples import Examples
from pipeline.training.localisation import mass_gain, mass_in_mask, pointing_game, unpacked_masks
from pipeline.training.perturbation import Steps, blurred, deletion, insertion, no_flux
from pipeline.training.randomisation import randomised

Attend = Callable[[Tensor], Tensor]

TOLERANCE = 0.03  # image sides, as focus_quality's Terms
BLUR = 1 / 8.5  # image sides: one half-light radius
CENTRED_SIGMA = 1 / 8.5  # image sides, of the Gaussian in the centre: a galaxy's half-light radius in the frame
SMOOTHED = 5  # px: the brightest pixel is that of a box of this side, so that noise does not decide
STEPS = Steps(count=16)
CONTROL_SEED = 7919  # of the drawn weights; not one that a training began with
BATCH = 32


@dataclass(frozen=True, eq=False)
class Scene:
    """Images to measure attention on, as a network of one size sees them."""

    drawn: Tensor  # (N, C, S, S) galaxies out of the centre
    masks: Tensor  # (N, H, H) bool, where they are
    real: Tensor  # (M, C, S, S)


@dataclass(frozen=True, eq=False)
class Measured:
    """Per image; those of place of drawn galaxies, the others of real images."""

    hit: Floats  # (N,) the highest pixel lies on the galaxy
    mass: Floats  # (N,) share of the attention on it
    gain: Floats  # (N,) that share over its share of the image
    deletion: Floats  # (M,) small where the class hangs on what the map marks
    insertion: Floats  # (M,) large there
    rotation: Floats  # (M,) correlation under quarter turns


@dataclass(frozen=True)
class FocusRow:
    """One network, or one way of marking that needs none, in the table."""

    name: str
    hit: Estimate
    mass: Estimate
    gain: Estimate
    over_centre: Estimate | None  # hit rate over the centred Gaussian's, paired
    over_brightest: Estimate | None  # hit rate over the brightest pixel's, paired
    deletion: Estimate | None
    insertion: Estimate | None
    margin: Estimate | None  # insertion less deletion
    rotation: Estimate | None
    control_hit: Estimate | None  # with weights drawn anew
    control_gain: Estimate | None
    control_margin: Estimate | None
    likeness: Estimate | None  # rank correlation of the maps with the control's


def scene(drawn: Labelled, real: Examples, size: int, count: tuple[int, int] = (200, 64)) -> Scene:
    """The first `count` drawn and real images at `size` pixels a side. Raises ValueError where masks lack."""
    if len(drawn.masks) != len(drawn.examples):
        raise ValueError(f"{drawn.name}: expected a mask an image, got {len(drawn.masks)} of {len(drawn.examples)}")
    rows = np.sort(np.random.default_rng(0).permutation(len(real))[: count[1]])
    return Scene(
        drawn=planes(drawn.examples, slice(0, count[0]), size),
        masks=unpacked_masks(drawn.masks[: count[0]]),
        real=planes(real.take(rows), slice(None), size),
    )


def controls(seen: Scene) -> list[FocusRow]:
    """The rows of what needs no network."""
    attends = {"Gaussian in the centre": centred, "brightest pixel": brightest}
    return [_control_row(name, attend, seen) for name, attend in attends.items()]


def focus_row(name: str, checkpoint: Checkpoint, seen: Scene, device: str = "cpu") -> FocusRow:
    """A checkpoint's row. The cost is 2 (T + 5) forward passes a real image, and 2 a drawn one, twice."""
    module = checkpoint.build().to(device)
    control = randomised(module, checkpoint.config.build, CONTROL_SEED).eval()
    found, drawn = (measured(one, seen, checkpoint.image, device) for one in (module, control))
    base = {one: pointing_game(attend(seen.drawn), seen.masks, TOLERANCE).numpy() for one, attend in _BASES.items()}
    with torch.inference_mode():
        likeness = torch.cat(
            [
                rank_correlation(module(part.to(device)).attention, control(part.to(device)).attention).cpu()
                for part in torch.split(seen.drawn, BATCH)
            ]
        )
    return FocusRow(
        name=name,
        hit=mean(found.hit),
        mass=mean(found.mass),
        gain=mean(found.gain),
        over_centre=mean(found.hit - base["centre"]),
        over_brightest=mean(found.hit - base["brightest"]),
        deletion=mean(found.deletion),
        insertion=mean(found.insertion),
        margin=mean(found.insertion - found.deletion),
        rotation=mean(found.rotation),
        control_hit=mean(drawn.hit),
        control_gain=mean(drawn.gain),
        control_margin=mean(drawn.insertion - drawn.deletion),
        likeness=mean(likeness.numpy()),
    )


def measured(module: nn.Module, seen: Scene, contract: ImageContract, device: str = "cpu") -> Measured:
    """Every measure of a module in eval mode."""

    def attend(images: Tensor) -> Tensor:
        return module(images).attention

    def classify(images: Tensor) -> Tensor:
        return module(images).logits.softmax(1)

    place: list[Tensor] = []
    change: list[Tensor] = []
    with torch.inference_mode():
        for images, masks in zip(torch.split(seen.drawn, BATCH), torch.split(seen.masks, BATCH), strict=True):
            maps = attend(images.to(device)).cpu()
            part = [pointing_game(maps, masks, TOLERANCE), mass_in_mask(maps, masks), mass_gain(maps, masks)]
            place.append(torch.stack(part))
        for images in (part.to(device) for part in torch.split(seen.real, BATCH)):
            maps = attend(images)
            gone = deletion(classify, images, no_flux(images, contract), maps, STEPS).area
            come = insertion(classify, images, blurred(images, BLUR), maps, STEPS).area
            change.append(torch.stack([gone, come, rotation_consistency(attend, images)]).cpu())
    hit, mass, gain = torch.cat(place, 1).double().numpy()
    gone, come, turned = torch.cat(change, 1).double().numpy()
    return Measured(hit, mass, gain, gone, come, turned)


def centred(images: Tensor) -> Tensor:
    """(N, S, S) the same Gaussian in the centre of every image."""
    side = images.shape[2]
    away = ((torch.arange(side) + 0.5) / side - 0.5) ** 2
    blob = torch.exp(-(away[:, None] + away) / (2 * CENTRED_SIGMA**2))
    return blob.expand(len(images), -1, -1)


def brightest(images: Tensor) -> Tensor:
    """(N, S, S) the grey image under a small box: its highest pixel is the brightest place."""
    grey = images.mean(1, keepdim=True)
    return nn.functional.avg_pool2d(grey, SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)[:, 0]


_BASES: dict[str, Attend] = {"centre": centred, "brightest": brightest}


def _control_row(name: str, attend: Attend, seen: Scene) -> FocusRow:
    maps = attend(seen.drawn)
    return FocusRow(
        name=name,
        hit=mean(pointing_game(maps, seen.masks, TOLERANCE).numpy()),
        mass=mean(mass_in_mask(maps, seen.masks).numpy()),
        gain=mean(mass_gain(maps, seen.masks).numpy()),
        **dict.fromkeys(_OF_NETWORKS),
    )


_OF_NETWORKS: Sequence[str] = (
    *("over_centre", "over_brightest", "deletion", "insertion", "margin", "rotation"),
    *("control_hit", "control_gain", "control_margin", "likeness"),
)
