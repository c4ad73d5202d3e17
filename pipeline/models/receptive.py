"""How far a network sees: the width of the image that one position of its last feature map depends on.

Found by what happens, not by what the layers are called: columns of the image are made NaN, and a NaN passes through
every sum, product and maximum that reads it, whatever the weight. A position that stays finite does not depend on
them.
"""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import Tensor, nn

from pipeline.models.network import NetworkConfig


def receptive_field(config: NetworkConfig) -> int | None:
    """Pixels across of the part of the image that the middle of the last feature map depends on; None is all of it.

    The last feature map is the last output (N, C, h, w) of a module with more than one position: what comes after it
    is pooled over the whole image, in every network. A field that meets an edge of the image counts as all of it, and
    so does that of a network one of whose earlier maps sees all of it. The weights do not matter; torch's global
    generator is left as it was. Raises MissingExtra where the network cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        module = config.build().eval()

    def reached(first: int, last: int) -> list[bool]:
        image = torch.zeros(1, config.bands, config.size, config.size)
        image[..., first:last] = torch.nan
        return [bool(_middle(map_).isnan().any()) for map_ in _feature_maps(module, image)]

    size = config.size
    if any(reached(0, 1)) or any(reached(size - 1, size)):
        return None
    left = bisect_left(range(size), True, key=lambda columns: reached(0, columns)[-1])  # columns, to the field's first
    right = bisect_left(range(size), True, key=lambda columns: reached(size - columns, size)[-1])
    return size - (left - 1) - (right - 1)


def _feature_maps(module: nn.Module, image: Tensor) -> list[Tensor]:
    """Every output (N, C, h, w) of a module's parts with more than one position, in the order of their making."""
    maps: list[Tensor] = []

    def keep(_part: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            maps.append(output)

    hooks = [part.register_forward_hook(keep) for part in module.modules()]
    with torch.inference_mode():
        module(image)
    for hook in hooks:
        hook.remove()
    return maps


def _middle(map_: Tensor) -> Tensor:
    """The channels (C,) of the first image's position in the middle of a map (N, C, h, w)."""
    return map_[0, :, map_.shape[2] // 2, map_.shape[3] // 2]
