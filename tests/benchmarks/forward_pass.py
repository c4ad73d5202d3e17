"""The networks' forward pass on one CPU core, against ConvNeXt-Pico and against the bare network.

    python -m tests.benchmarks.forward_pass

One thread, float32, CPU time, the least of rounds in which all take turns. ConvNeXt-Pico (timm's widths and depths, at
its 288 pixels: 2.27 GMACs against DMAGNet-F's 2.42) is transformers' own, under the same allocator. The bare network is
the one that the Predictor runs, on a batch that lies ready; the Predictor takes uint8 images in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from pipeline.checkpoints import read
from pipeline.inference import CPU_BATCH, FLIPS, Predictor, drawn_images
from pipeline.models import NETWORKS
from pipeline.models.checkpoint import untrained_checkpoint
from tests.benchmarks.rows import Row, in_turns, spread
from tests.network_probes import lacking

PICO_WIDTHS, PICO_DEPTHS = [64, 128, 256, 512], [2, 2, 6, 2]
PICO_SIZE = 288  # pixels a side
BATCHES = 2  # that the Predictor is given at once


def pico() -> Callable[[], object]:
    """One batch through ConvNeXt-Pico without its classifier."""
    from transformers import ConvNextConfig, ConvNextModel

    torch.manual_seed(0)
    network: nn.Module = ConvNextModel(ConvNextConfig(hidden_sizes=PICO_WIDTHS, depths=PICO_DEPTHS))
    network.eval()
    images = torch.rand(CPU_BATCH, 3, PICO_SIZE, PICO_SIZE)
    return lambda: network(images)


def plain(network: str) -> Callable[[], object]:
    """One batch through the network as it is trained: contiguous, nothing folded."""
    module = untrained_checkpoint(network, 0).build()
    images = torch.rand(CPU_BATCH, NETWORKS[network].bands, NETWORKS[network].size, NETWORKS[network].size)
    return lambda: module(images)


@torch.inference_mode()
def rows(rounds: int = 3, flipped: int = 512) -> list[Row]:
    torch.set_num_threads(1)
    found = [*against_pico(rounds), feeding(rounds), precision(flipped)]
    for network in ("agcnn", "mban", "resnet18"):
        if not lacking(network):
            found.append(against_plain(network, rounds))
    return found


def against_pico(rounds: int) -> list[Row]:
    predictor = Predictor({"network": untrained_checkpoint("dmagnet_f", 0)}, device="cpu", threads=1)
    batch = drawn_images(CPU_BATCH, 3, 256)
    ours, theirs, eager = in_turns([partial(predictor.forward, batch), pico(), plain("dmagnet_f")], rounds)
    one = 1e3 / CPU_BATCH
    return [
        Row(
            "DMAGNet-F",
            one * min(ours),
            "CPU-ms/image",
            one * min(theirs),
            "ConvNeXt-Pico at 288 px",
            spread(ours),
            rounds,
        ),
        Row("DMAGNet-F", one * min(ours), "CPU-ms/image", one * min(eager), "as it is trained", spread(ours), rounds),
    ]


def precision(images: int) -> Row:
    """The share of drawn images whose class bfloat16 changes, with weights that were trained."""
    predictor = Predictor({"network": read("shipped:dmagnet_f")}, device="cpu", threads=1)
    share = 100 * predictor.flips("bfloat16", images)
    return Row(f"DMAGNet-F, classes that bfloat16 changes, {images} images", share, "%", 100 * FLIPS, "allowed")


def against_plain(network: str, rounds: int) -> Row:
    config = NETWORKS[network]
    predictor = Predictor({"network": untrained_checkpoint(network, 0)}, device="cpu", threads=1)
    batch = drawn_images(CPU_BATCH, config.bands, config.size)
    ours, eager = in_turns([partial(predictor.forward, batch), plain(network)], rounds)
    one = 1e3 / CPU_BATCH
    return Row(network, one * min(ours), "CPU-ms/image", one * min(eager), "as it is trained", spread(ours), rounds)


def feeding(rounds: int) -> Row:
    """The Predictor from images in memory to rows on the host, over the networks alone."""
    predictor = Predictor({"network": untrained_checkpoint("dmagnet_f", 0)}, device="cpu", threads=1)
    images = drawn_images(BATCHES * CPU_BATCH, 3, 256)
    array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = images.numpy()
    planes = images.to(torch.float32, memory_format=torch.channels_last) / 255
    module = next(iter(predictor._networks.values())).module  # the benchmark times what lies inside

    def bare() -> None:
        for batch in torch.split(planes, CPU_BATCH):
            module(batch)

    whole, alone = in_turns([partial(predictor, array), bare], rounds)
    one = 1e3 / len(images)
    return Row(
        "Predictor on uint8", one * min(whole), "CPU-ms/image", one * min(alone), "bare forward", spread(whole), rounds
    )


if __name__ == "__main__":
    from tests.benchmarks.__main__ import show

    show(rows())
