"""What each network is, in a sentence, and which part of the review it answers: for lists that people read.

The review is Zhao, "A comprehensive investigation of attention-based CNNs for galaxy morphology classification"; its
sections 2.1 to 2.3 are the three networks, 3.2.1 and 3.2.2 what it asks of their successors, 1 the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Description:
    what: str
    review: str  # sections
    extra: str = ""  # of this package, that has its library


DESCRIPTIONS: Mapping[str, Description] = MappingProxyType(
    {
        "dmagnet_f": Description(
            "DMAGNet (Ma 2025), the default: dynamic large kernels, multi-scale feed-forward layers and "
            "attentional fusion in four stages, pooled by attention. The paper's 4.8 G read as operations.",
            "2.3",
        ),
        "dmagnet_m": Description(
            "DMAGNet with the paper's 4.8 G read as multiply-adds: as many parameters in three wider stages, twice the "
            "work, and an attention map twice as fine.",
            "2.3",
        ),
        "agcnn": Description(
            "AG-CNN (Bowles 2021): three attention gates over a small CNN, each map stretched by its own range, the "
            "gates' answers joined by one layer.",
            "2.1",
        ),
        "agcnn_mix": Description(
            "AG-CNN's future: the same gates, but each image chooses its own mix of range, sigmoid and softmax, and "
            "how sharp its maps are.",
            "3.2.1",
        ),
        "mban": Description(
            "MBAN (Zhang 2021): a ResNet-18 on the whole image, a second one on the crop that the first attended to, "
            "by a Gaussian around its brightest pixel.",
            "2.2",
        ),
        "mban_shared": Description(
            "MBAN's future: one backbone for both branches, and a learned spatial transformer in the Gaussian's place.",
            "3.2.2",
        ),
        "resnet18": Description("ResNet-18 (He 2015): MBAN's backbone alone, without a second look.", "2.2, 2.3"),
        "resnet26": Description(
            "ResNet-26 (after Dai 2018) in its plain form: two bottleneck blocks a stage, without their widening.",
            "1",
        ),
        "tang": Description("The CNN of Tang 2019 for radio galaxies, which AG-CNN was compared with.", "2.1"),
        "dieleman": Description(
            "The winner of Galaxy Zoo's challenge (Dieleman 2015): one CNN looks at sixteen turned and mirrored parts.",
            "1",
        ),
        "cvt": Description(
            "CvT-13 (Wu 2021): a transformer whose tokens, queries and keys are made by convolutions; its map is the "
            "class token's attention.",
            "1",
            "baselines",
        ),
        "maxvit": Description(
            "MaxViT-T (Tu 2022): attention within windows and across a grid by turns; one that DMAGNet was compared "
            "with.",
            "2.3",
            "maxvit",
        ),
        "ann": Description(
            "Three layers over axis ratio, concentration, asymmetry, Gini and M20 (after Storrie-Lombardi 1992): for "
            "comparison only, no job can name it.",
            "1",
            "baselines",
        ),
    }
)
