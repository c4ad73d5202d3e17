"""What an image costs on this machine's CPU, network by network: `python -m tests.benchmarks.predictor`.

One thread, the Predictor as the runs use it, CPU time (other load on the machine hardly counts), best of the rounds.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.inference import Predictor
from pipeline.models import NETWORKS
from pipeline.models.checkpoint import untrained_checkpoint
from pipeline.models.network import gflops
from tests.network_probes import lacking


def cpu_seconds(network: str, images: int, rounds: int) -> tuple[float, str]:
    """Seconds an image, and the choice that the Predictor made."""
    predictor = Predictor({"network": untrained_checkpoint(network, 0)}, device="cpu", threads=1)
    size = NETWORKS[network].size
    sample = np.random.default_rng(0).integers(0, 255, (images, NETWORKS[network].bands, size, size), dtype=np.uint8)
    predictor(sample[: predictor.batch])
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        predictor(sample)
        best = min(best, time.process_time() - started)
    return best / images, predictor.choice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    here = [name for name in NETWORKS if not lacking(name)]
    parser.add_argument("--networks", nargs="+", default=here, choices=here)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(title=f"{arguments.images} images, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    for name in ("network", "CPU ms an image", "GFLOPs", "GFLOP/s of a core"):
        table.add_column(name, justify="left" if name == "network" else "right")
    for network in arguments.networks:
        seconds, _ = cpu_seconds(network, arguments.images, arguments.rounds)
        cost = gflops(NETWORKS[network])
        table.add_row(network, f"{seconds * 1e3:.1f}", f"{cost:.2f}", f"{cost / seconds:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
