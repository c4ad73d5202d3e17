"""Did training put attention there? The same network with its weights drawn anew, as a control.

The model parameter randomisation test of Adebayo et al. 2018, arXiv:1810.03292: a map that stays as it was
when the weights are drawn anew says nothing of what was learned. Architectures alone mark edges and bright spots,
so that a measure counts only by what it has over the control.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from pipeline.training.consistency import rank_correlation

Build = Callable[[], nn.Module]  # `NetworkConfig.build`: untrained weights from torch's global generator


def randomised(module: nn.Module, build: Build, seed: int, layers: int | None = None) -> nn.Module:
    """A copy of a module with its last `layers` layers as `build` draws them from `seed`; None is all of them.

    A layer is a submodule with parameters of its own; its buffers, such as the statistics of a batch norm, go with
    them. The last is the last that the network's file defines: its head. Neither `module` nor torch's generators
    change. Raises ValueError where `build` gives another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fresh = dict(_layers(build()))
    drawn = copy.deepcopy(module)
    old = dict(_layers(drawn))
    if [*old] != [*fresh]:
        raise ValueError(f"expected the layers {[*old]}, build gave {[*fresh]}")
    count = len(old) if layers is None else layers
    if not 0 <= count <= len(old):
        raise ValueError(f"expected 0 to {len(old)} layers, got {count}")
    for name in [*old][len(old) - count :]:
        _overwrite(old[name], fresh[name])
    return drawn


def cascade(module: nn.Module, build: Build, images: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
    """From the head down, each layer's name and how like the maps are once it and all after it are drawn anew.

    Likeness is the rank correlation (N,) of the maps with the module's own: it should fall. The paper's cascading
    randomisation. One forward pass a layer, over all the images at once.
    """
    names = [name for name, _ in _layers(module)]
    with torch.inference_mode():
        maps = module(images).attention
        for layers, name in enumerate(reversed(names), start=1):
            yield name, rank_correlation(maps, randomised(module, build, seed, layers)(images).attention)


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in module.named_modules():
        if next(layer.parameters(recurse=False), None) is not None:
            yield name, layer


@torch.no_grad()
def _overwrite(layer: nn.Module, fresh: nn.Module) -> None:
    for mine, drawn in zip(_own(layer), _own(fresh), strict=True):
        if mine.shape != drawn.shape:
            raise ValueError(f"expected a tensor of {tuple(mine.shape)}, build gave {tuple(drawn.shape)}")
        mine.copy_(drawn)


def _own(layer: nn.Module) -> list[Tensor]:
    return [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
