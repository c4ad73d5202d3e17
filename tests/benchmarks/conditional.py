"""What MBAN saves by asking its second backbone only where it is uncertain: `python -m tests.benchmarks.conditional`.

The two-backbone network with random weights, on one thread, in CPU time, so that other load on the machine hardly
counts. The limit `certain` is set to leave each share of the images; all shares and the network that asks the branch
about every image take turns, and the best round of each counts. Two backbones of
equal work would give 2 / (1 + share).
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pipeline.models.configs.mban import MBANConfig
from pipeline.models.mban import MBAN
from pipeline.models.network import NetworkResult
from tests.benchmarks.rows import Row

SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)  # of the images that the second backbone is asked about
BATCH = 16


def network(config: MBANConfig) -> MBAN:
    """The same random weights for every limit."""
    torch.manual_seed(0)
    return config.build().eval()


def answers(module: MBAN, images: Tensor) -> tuple[NetworkResult, float]:
    """What the network says of images (N, C, S, S), batch by batch, and the CPU seconds that it took."""
    started = time.process_time()
    results = [module(batch) for batch in torch.split(images, BATCH)]
    seconds = time.process_time() - started
    scalars = {name: torch.cat([result.scalars[name] for result in results]) for name in results[0].scalars}
    names = ("logits", "attention", "features", "early")
    logits, attention, features, early = (torch.cat([getattr(result, name) for result in results]) for name in names)
    return NetworkResult(logits, attention, scalars, features, early), seconds


def limits(module: MBAN, images: Tensor, shares: tuple[float, ...]) -> list[float]:
    """The `certain` that leaves each share of the images to the second backbone."""
    primary = torch.cat([module.branches(batch).primary for batch in torch.split(images, BATCH)])
    first, second = primary.softmax(1).topk(2, 1).values.unbind(1)
    margins = (first - second).sort().values
    ends = torch.cat([margins.new_zeros(1), (margins[1:] + margins[:-1]) / 2, margins.new_ones(1)])  # between margins
    return [float(ends[round(share * len(margins))]) for share in shares]


def measure(images: Tensor, config: MBANConfig, rounds: int) -> list[tuple[float, float, float, float]]:
    """(share asked, seconds, seconds of the full network, largest change of a logit that was asked for) a share."""
    full = network(config)
    certain = [replace(config, certain=limit) for limit in limits(full, images, SHARES)]
    modules = [full, *(network(each) for each in certain)]
    whole, _ = answers(full, images)  # warms up, too
    best = [float("inf")] * len(modules)
    found = [whole] * len(modules)
    for _ in range(rounds):
        for number, module in enumerate(modules):
            found[number], seconds = answers(module, images)
            best[number] = min(best[number], seconds)
    rows = []
    for result, seconds in zip(found[1:], best[1:], strict=True):
        used = result.scalars["aux_used"].bool()
        change = (result.logits - whole.logits)[used].abs()
        rows.append((used.float().mean().item(), seconds, best[0], change.max().item() if used.any() else 0.0))
    return rows


@torch.inference_mode()
def rows(images: int = 32, rounds: int = 2, side: int = 128) -> list[Row]:
    """For `make bench`: at half the side, which leaves the shares of the two backbones as they are."""
    torch.set_num_threads(1)
    config = MBANConfig(size=side, crop_size=side)
    found = measure(torch.rand(images, config.bands, side, side), config, rounds)
    return [
        Row(
            f"MBAN asking {share:.0%}",
            full / seconds,
            "x of asking all",
            2 / (1 + share),
            "equal halves",
            repeats=rounds,
        )
        for share, seconds, full, _ in found
    ]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = MBANConfig(size=arguments.size, crop_size=arguments.size)
    images = torch.rand(arguments.images, config.bands, config.size, config.size)
    table = Table(title=f"{arguments.images} images, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    for name in ("asked", "images/s of a core", "of all branches'", "2 / (1 + asked)", "largest change of a logit"):
        table.add_column(name, justify="right")
    for share, seconds, full, change in measure(images, config, arguments.rounds):
        speed, gain = arguments.images / seconds, full / seconds
        table.add_row(f"{share:.0%}", f"{speed:.2f}", f"{gain:.2f}x", f"{2 / (1 + share):.2f}x", f"{change:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
