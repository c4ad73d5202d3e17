"""How good is a network's attention? Every measure of it, image by image, and beside an untrained control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.attention import distribution
from pipeline.data import ImageContract
from pipeline.training.consistency import flip_consistency, rank_correlation, rotation_consistency
from pipeline.training.localisation import mass_gain, mass_in_mask, pointing_game
from pipeline.training.perturbation import Steps, blurred, deletion, insertion, no_flux
from pipeline.training.randomisation import Build, randomised

Measure = NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """On what terms attention is measured. Only measures taken on the same terms can be compared."""

    contract: ImageContract = field(default_factory=ImageContract)  # of the images: what no flux looks like
    # Image sides: the paper's 15 pixels (pointing game, arXiv:1608.00507), of the about 500 of its PASCAL VOC images.
    tolerance: float = 0.03
    blur: float = 1 / 8.5  # image sides, sigma: one half-light radius in the contract's field of view
    steps: Steps = field(default_factory=Steps)
    batch: int = 32  # images

    def __post_init__(self) -> None:
        if self.tolerance < 0 or not self.blur > 0 or self.batch < 1:
            raise ValueError(f"impossible terms: {self}")


@dataclass(frozen=True, eq=False)
class FocusQuality:
    """Each measure of N images, (N,) float64, NaN where it is not defined."""

    hit: Measure  # 0 to 1: the highest pixel lies on the source; NaN where the mask is empty
    mass: Measure  # 0 to 1: share of the attention on the source; NaN where the mask is empty
    gain: Measure  # `mass` over that of a uniform map; NaN where the mask is empty
    deletion: Measure  # 0 to 1: area under the curve to no flux; small is good
    insertion: Measure  # 0 to 1: area under the curve from the blurred image; large is good
    rotation: Measure  # -1 to 1: correlation under quarter turns; NaN where a map is flat
    flip: Measure  # -1 to 1: correlation under mirroring; NaN where a map is flat
    flat: Measure  # 1 where the map says nothing

    @property
    def means(self) -> Mapping[str, float]:
        """The mean of each measure over the images for which it is defined, NaN where there is none."""
        return {name: _mean(values) for name, values in asdict(self).items()}

    @property
    def defined(self) -> Mapping[str, int]:
        """For how many images each measure is defined."""
        return {name: int(np.isfinite(values).sum()) for name, values in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Controlled:
    """A network's measures beside those of the same network with its weights drawn anew.

    What training put there is what `trained` has over `control`.
    """

    trained: FocusQuality
    control: FocusQuality
    likeness: Measure  # (N,) rank correlation of the two networks' maps, NaN where either is flat


def focus_quality(module: nn.Module, images: Tensor, masks: Tensor, terms: Terms = Terms()) -> FocusQuality:
    """Measure a network in eval mode on images (N, C, S, S) float32 in [0, 1] with masks (N, H, W) bool.

    Masks cover the images' field, the same way up, on a grid of their own. Module, images and masks are on one
    device. The cost is 2 T + 10 forward passes an image, T the steps. Raises ValueError where the module is in
    training mode, or images and masks do not go together.
    """
    if module.training:
        raise ValueError("expected a module in eval mode: in training mode, images depend on their batch")
    if len(images) != len(masks) or len(images) == 0:
        raise ValueError(f"expected as many masks as images and at least 1, got {len(masks)} and {len(images)}")
    with torch.inference_mode():
        batches = zip(torch.split(images, terms.batch), torch.split(masks, terms.batch), strict=True)
        measured = [_measured(module, *batch, terms) for batch in batches]
    names = [measure.name for measure in fields(FocusQuality)]
    columns = {name: torch.cat([batch[name] for batch in measured]) for name in names}
    return FocusQuality(**{name: column.double().cpu().numpy() for name, column in columns.items()})


def controlled_focus_quality(
    module: nn.Module, build: Build, images: Tensor, masks: Tensor, terms: Terms = Terms(), *, seed: int
) -> Controlled:
    """`focus_quality` of a module and of a copy with all its weights as `build` draws them from `seed`.

    Not the seed that training began with: the control would be the network's own beginning. Raises
    ValueError as `focus_quality` and `randomised` do.
    """
    control = randomised(module, build, seed)
    with torch.inference_mode():
        likeness = [
            rank_correlation(module(batch).attention, control(batch).attention)
            for batch in torch.split(images, terms.batch)
        ]
    return Controlled(
        focus_quality(module, images, masks, terms),
        focus_quality(control, images, masks, terms),
        torch.cat(likeness).cpu().numpy(),
    )


def _measured(module: nn.Module, images: Tensor, masks: Tensor, terms: Terms) -> dict[str, Tensor]:
    """The measures (B,) of one batch, by the names of FocusQuality."""

    def attend(images: Tensor) -> Tensor:
        return module(images).attention

    def classify(images: Tensor) -> Tensor:
        return module(images).logits.softmax(1)

    maps, sky, soft = attend(images), no_flux(images, terms.contract), blurred(images, terms.blur)
    return {
        "hit": pointing_game(maps, masks, terms.tolerance),
        "mass": mass_in_mask(maps, masks),
        "gain": mass_gain(maps, masks),
        "deletion": deletion(classify, images, sky, maps, terms.steps).area,
        "insertion": insertion(classify, images, soft, maps, terms.steps).area,
        "rotation": rotation_consistency(attend, images),
        "flip": flip_consistency(attend, images),
        "flat": distribution(maps)[1],
    }


def _mean(values: Measure) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
