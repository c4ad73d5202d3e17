"""The networks of the review, by name. `network.py` says what a network is; each has one file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.configs.cvt import CvTConfig
from pipeline.models.configs.dieleman import DielemanConfig
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.configs.maxvit import MaxViTConfig
from pipeline.models.configs.mban import MBANConfig
from pipeline.models.configs.resnet import RESNET26, ResNetConfig
from pipeline.models.configs.tang import TangConfig
from pipeline.models.network import NetworkConfig

NETWORKS: Mapping[str, NetworkConfig] = MappingProxyType(
    {
        "dmagnet_f": DMAGNetConfig(),
        # The paper's 4.8 G read as multiply-adds: three stages (reference/networks.md sec. 3.3).
        "dmagnet_m": DMAGNetConfig(dims=(96, 192, 288), depths=(3, 4, 6), stem_kernel=4),
        # The paper's sum over the pixels drives every probability to 0 or 1, and its ReLU can shut a head for good
        # (reference/networks.md sec. 1.3 and 1.4): here the features are averaged and the ReLU leaks.
        "agcnn": AGCNNConfig(pooling="mean", head_slope=0.01),
        "agcnn_mix": AGCNNConfig(pooling="mean", head_slope=0.01, normalisation="mix"),
        "mban": MBANConfig(),
        # What the review asks for in sec. 3.2.2, but for `certain`, which has to be fitted on validation data first.
        "mban_shared": MBANConfig(shared=True, localiser="transformer", crop_size=128),
        "resnet18": ResNetConfig(),
        "resnet26": RESNET26,
        "tang": TangConfig(),
        "dieleman": DielemanConfig(),
        "cvt": CvTConfig(),
        "maxvit": MaxViTConfig(),
    }
)
