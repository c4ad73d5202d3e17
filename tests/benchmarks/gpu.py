"""The networks on a GPU against the card's own floor: `python -m tests.benchmarks.gpu` (`make bench-gpu`).

Needs torch, numpy and safetensors alone. Measures the card's bfloat16 matrix rate and memory bandwidth, counts the
operations and bytes of every layer, says which of the two binds it, and then runs each network through the Predictor:
images/s of batches that lie on the card, of batches that come from the host, per cent of the floor, and watts. Writes
one JSON file, network by network, so that a limit of time leaves what was measured. `--quick --device cpu` checks the
script. It has never run on a GPU: none was at hand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.forward import images_second, wait
from pipeline.inference import Predictor, drawn_images
from pipeline.models import NETWORKS
from pipeline.models.checkpoint import untrained_checkpoint

NETWORKS_MEASURED = ("dmagnet_f", "dmagnet_m", "agcnn", "mban")
FIRST_GOAL = 20_000  # images/s of DMAGNet-F on an H200
FED = 0.95  # of the resident rate, that batches from the host should reach
LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d)
COLUMNS: tuple[str, ...] = (
    *("network", "resident_images_second", "fed_images_second", "fed_over_resident", "floor_images_second"),
    *("of_floor", "floor_bound_by_bytes", "watts"),
)
SHOWN = 12  # layers of the longest floors


@dataclass(frozen=True)
class Size:
    """How much is run."""

    side: int  # of the matrices
    bytes: int  # of the copy
    seconds: float  # each network is fed for
    batch: int | None  # None: the Predictor finds it


QUICK, FULL = Size(512, 2**24, 0.5, 4), Size(8192, 2**30, 8.0, None)


@dataclass(frozen=True)
class Layer:
    """One layer's work on one image, and the least time that it can take."""

    name: str
    operations: float
    bytes: float  # read and written, activations and the batch's share of the weights
    seconds: float
    binds: str


def least_seconds(call: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    call()
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        call()
        wait(device)
        best = min(best, time.perf_counter() - started)
    return best


def matrix_rate(device: torch.device, side: int) -> float:
    """Operations a second of a square bfloat16 product."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / least_seconds(partial(torch.mm, one, other), device)


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second, read and written, of a copy on the device."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / least_seconds(partial(target.copy_, source), device)


def layers(network: str, rate: float, bytes_second: float, batch: int = 256) -> list[Layer]:
    """Every layer that has a module, at two bytes a number, by its least time; what has none adds to no floor."""
    config = NETWORKS[network]
    found: list[Layer] = []
    module = untrained_checkpoint(network, 0).build()

    def note(name: str, part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weights = sum(parameter.numel() for parameter in part.parameters())
        moved = 2.0 * (inputs[0].numel() + output.numel() + weights / batch)
        outputs = {nn.Conv2d: "out_channels", nn.Linear: "out_features"}
        width = next((getattr(part, name) for kind, name in outputs.items() if isinstance(part, kind)), 0)
        operations = 2.0 * weights / width * output.numel() if width else float(output.numel())
        computing, moving = operations / rate, moved / bytes_second
        binds = "operations" if computing > moving else "bytes"
        found.append(Layer(name, operations, moved, max(computing, moving), binds))

    hooks = [
        part.register_forward_hook(partial(note, name))
        for name, part in module.named_modules()
        if isinstance(part, LAYERS)
    ]
    with torch.inference_mode():
        module(torch.zeros(1, config.bands, config.size, config.size))
    for hook in hooks:
        hook.remove()
    return found


def watts(device: torch.device) -> float | None:
    """What the card draws now, where it tells."""
    if device.type != "cuda":
        return None
    asked = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", f"--id={device.index or 0}"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
        return float(done.stdout.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def fed(predictor: Predictor, images: Tensor, seconds: float) -> tuple[float, float | None]:
    """Images/s of images in the host's memory, as the runs give them, and the watts meanwhile."""
    array = images.numpy()
    predictor(array)
    started, count, drawn = time.perf_counter(), 0, None
    while time.perf_counter() - started < seconds:
        predictor(array)
        count += len(array)
        drawn = drawn or watts(torch.device(predictor.device))
    return count / (time.perf_counter() - started), drawn


def network_figures(network: str, device: str, size: Size, floor: Mapping[str, float]) -> dict[str, object]:
    """One line of the table, in figures."""
    precision = "bfloat16" if device != "cpu" else None  # untrained networks have no classes to keep
    predictor = Predictor(
        {network: untrained_checkpoint(network, 0)}, device=device, batch=size.batch, precision=precision
    )
    config = NETWORKS[network]
    batches = drawn_images(8 * predictor.batch if size is FULL else 2 * predictor.batch, config.bands, config.size)
    with torch.inference_mode():
        resident = images_second(predictor.chosen, batches[: predictor.batch].to(device))
    host, drawn = fed(predictor, batches, size.seconds)
    parts = layers(network, floor["operations_second"], floor["bytes_second"])
    least = sum(part.seconds for part in parts)
    return {
        "network": network,
        "choice": predictor.choice,
        "resident_images_second": resident,
        "fed_images_second": host,
        "fed_over_resident": host / resident,
        "floor_images_second": 1 / least,
        "of_floor": resident * least,
        "gflop": sum(part.operations for part in parts) / 1e9,
        "megabytes": sum(part.bytes for part in parts) / 1e6,
        "floor_bound_by_bytes": sum(part.seconds for part in parts if part.binds == "bytes") / least,
        "watts": drawn,
        "layers": [asdict(part) for part in sorted(parts, key=lambda part: -part.seconds)[:SHOWN]],
    }


def table(figures: list[dict[str, object]]) -> str:
    """As text: torch alone is at hand."""
    lines = [COLUMNS] + [tuple(_figure(one[column]) for column in COLUMNS) for one in figures]
    widths = [max(len(line[number]) for line in lines) for number in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS_MEASURED)
    parser.add_argument("--quick", action="store_true", help="small sizes: does the script run?")
    parser.add_argument("--json", type=Path, default=Path("bench-gpu.json"))
    options = parser.parse_args(arguments)
    size, device = QUICK if options.quick else FULL, torch.device(options.device)
    floor = {"operations_second": matrix_rate(device, size.side), "bytes_second": bandwidth(device, size.bytes)}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU: a check of the script, no result"
    sys.stdout.write(
        f"{name}: {floor['operations_second'] / 1e12:.3g} TFLOP/s, {floor['bytes_second'] / 1e9:.4g} GB/s\n"
    )
    figures: list[dict[str, object]] = []
    for network in options.networks:
        figures.append(network_figures(network, options.device, size, floor))
        sys.stdout.write(f"{figures[-1]['choice']}\n")
        found = {"device": name, "torch": torch.__version__, **floor, "networks": figures}
        options.json.write_text(json.dumps(found, indent=2) + "\n")  # as far as it came, should the time run out
    sys.stdout.write(f"{table(figures)}\nfirst goal: {FIRST_GOAL:,} images/s of dmagnet_f on an H200; fed {FED:.0%}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
