"""What every network must stand: images that are extreme, and batches that are cut differently."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import MissingExtra
from pipeline.models import NETWORKS
from pipeline.models.network import NetworkConfig, NetworkResult


def values(result: NetworkResult) -> list[Tensor]:
    """Everything that a network says."""
    return [result.logits, result.attention, result.features, result.early, *result.scalars.values()]


def together_and_apart(module: nn.Module, images: Tensor) -> float:
    """The largest change of any output of an image, of that output's own size, between batches of 1, 7 and all."""
    changes = [0.0]
    with torch.inference_mode():
        whole = values(module(images))
        for rows in (slice(0, 1), slice(9, 10), slice(0, 7), slice(7, 14)):
            pairs = zip(values(module(images[rows])), whole, strict=True)
            changes += [((one - all_[rows]).abs().max() / all_.abs().max()).item() for one, all_ in pairs]
    return max(changes)


def extremes(config: NetworkConfig) -> Tensor:
    """Images that few think of: zero, constant, saturated, beyond any contract, one corner lit, and hard noise."""
    shape, half = (6, config.bands, config.size, config.size), config.size // 2
    images = torch.zeros(shape, dtype=torch.float64)
    images[1], images[2], images[3] = 0.5, 1.0, 1e4
    images[4, :, half:, half:] = 1.0
    images[5] = (torch.rand(shape[1:], generator=torch.Generator().manual_seed(5)) > 0.5).double()
    return images


@functools.cache
def lacking(network: str) -> str:
    """Why a network cannot be built here, "" where it can: torchvision has to fit the torch that is installed."""
    try:
        with torch.device("meta"):
            NETWORKS[network].build()
    except MissingExtra as error:
        return str(error)
    return ""


def skip_where_torchvision_lacks(network: str) -> None:
    """Skip where the one network that the development install cannot promise is not there."""
    if network == "maxvit" and (reason := lacking(network)):
        pytest.skip(reason)
