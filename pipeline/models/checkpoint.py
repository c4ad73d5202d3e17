"""Checkpoints: safetensors with a JSON contract in the header (contract.py). Nothing here ever unpickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.errors import CheckpointError
from pipeline.models.contract import VERSION, Contract, StoredContract, known, read_contract
from pipeline.models.images import IMAGES, MORPHOLOGY, Images
from pipeline.models.network import NetworkConfig
from pipeline.models.novelty import PREFIX as NOVELTY
from pipeline.models.novelty import Novelty, novelty_of

CLASSES = MORPHOLOGY
NAMED = 3  # tensors that a message names


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint(StoredContract):
    """A contract and the weights that keep it."""

    weights: Mapping[str, Tensor]
    novelty: Novelty | None = None  # None: the checkpoint cannot tell novel images

    def build(self) -> nn.Module:
        """The network with its weights, on the CPU in eval mode. The weights are shared, not copied."""
        module = _empty(self.config)
        module.load_state_dict(dict(self.weights), assign=True)
        return module.eval().requires_grad_(False)


def read_checkpoint(data: bytes, name: str) -> Checkpoint:
    """The checkpoint in `data`; `name` is what messages call it.

    Raises CheckpointError where the bytes are no safetensors or are cut off, where the contract is missing,
    malformed or of an unknown network, and where the tensors are not those of its network or not finite.
    """
    contract = read_contract(data, name)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{name}: the file is damaged or cut off: {error}") from error
    weights = {key: _whole(value) for key, value in tensors.items() if not key.startswith(NOVELTY)}
    _check_weights(contract, weights, name)
    novelty = _read_novelty({key: value for key, value in tensors.items() if key.startswith(NOVELTY)}, contract, name)
    kept = {field.name: getattr(contract, field.name) for field in fields(contract)}
    return Checkpoint(**kept, weights=weights, novelty=novelty)


def write_checkpoint(
    contract: Contract, weights: Mapping[str, Tensor], novelty: Novelty | None = None, *, half: int | None = None
) -> bytes:
    """The file that `read_checkpoint` reads; the same contract, weights and model of novelty give the same bytes.

    `half` stores tensors of so many values or more in float16: they are read as the float32 nearest to them. One with a
    value beyond float16's range, as the variances of a batch norm can have, stays as it is.
    """
    promised = {field.name: getattr(contract, field.name) for field in fields(Contract)}
    promised["config"] = asdict(contract.config)  # type: ignore[call-overload]
    promised["image"] = asdict(contract.image)
    promised["metrics"] = dict(contract.metrics)
    promised["prior"] = None if contract.prior is None else asdict(contract.prior)
    text = json.dumps({"version": VERSION, **promised}, sort_keys=True, allow_nan=False)
    kept = {key: value.half() if _halved(value, half) else value for key, value in weights.items()}
    every = {**kept, **({} if novelty is None else novelty.tensors())}
    tensors = {key: value.detach().cpu().contiguous() for key, value in every.items()}
    return save(tensors, {"contract": text})


def _halved(tensor: Tensor, least: int | None) -> bool:
    if least is None or tensor.dtype != torch.float32 or tensor.numel() < least:
        return False
    return not tensor.numel() or float(tensor.abs().max()) <= torch.finfo(torch.float16).max


def untrained_checkpoint(
    network: str, seed: int, config: NetworkConfig | None = None, images: str = "decals"
) -> Checkpoint:
    """Random weights, the same for the same seed and torch, and marked untrained.

    `config` replaces the network's own, for a smaller one; `images`, a key of IMAGES, says what it sees and calls
    it. Torch's global generator is left as it was. Raises CheckpointError for an unknown network or images.
    """
    if images not in IMAGES:
        raise CheckpointError(f"unknown images {images!r}, expected one of {', '.join(IMAGES)}")
    seen = IMAGES[images]
    config = config or _fitted(known(network, "checkpoint"), seen)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        weights = config.build().state_dict()
    contract = Contract(
        network=network,
        config=config,
        classes=seen.classes,
        image=seen.contract,
        training=f"none: random weights of seed {seed}",
        metrics={},
        temperature=1.0,
        untrained=True,
    )
    return read_checkpoint(write_checkpoint(contract, weights), f"untrained {network}")


def _fitted(config: NetworkConfig, images: Images) -> NetworkConfig:
    """A network for other images: its planes, pixels and classes are theirs."""
    contract = images.contract
    return replace(config, bands=len(contract.planes), classes=len(images.classes), size=contract.size)  # type: ignore[type-var]


def _empty(config: NetworkConfig) -> nn.Module:
    """The network with weights that nobody reads.

    On the CPU: 0.15 s for DMAGNet-F, where torch's device `meta` imports its compiler first and takes 1.8 s.
    """
    with torch.random.fork_rng(devices=[]):
        return config.build()


def _wanted(contract: Contract) -> dict[str, str]:
    """The shapes that the weights should have; a network larger than the package's own takes no memory for that."""
    own = _numbers(known(contract.network, "the contract"))
    large = any(value > own.get(name, 0) for name, value in _numbers(contract.config).items())
    with torch.device("meta") if large else nullcontext():
        return _shapes(_empty(contract.config).state_dict())


def _numbers(config: NetworkConfig) -> dict[str, int]:
    """The whole numbers in a config by name, of several the largest, and how many there are."""
    found: dict[str, int] = {}
    for name, value in vars(config).items():
        if isinstance(value, int):
            found[name] = value
        elif isinstance(value, tuple):
            found |= {name: max(value, default=0), f"{name}, how many": len(value)}
    return found


def _check_weights(contract: Contract, weights: Mapping[str, Tensor], name: str) -> None:
    expected = _wanted(contract)
    found = _shapes(weights)
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    complaints = {
        "missing tensors": [key for key in expected if key not in found],
        "unknown tensors": sorted(found.keys() - expected.keys()),
        "tensors that do not fit": [f"{key} (expected {expected[key]}, got {found[key]})" for key in wrong],
        "tensors that are not finite": [key for key, value in weights.items() if not value.isfinite().all()],
    }
    texts = [f"{what}: {_few(keys)}" for what, keys in complaints.items() if keys]
    if texts:
        raise CheckpointError(f"{name}: {'; '.join(texts)}")


def _read_novelty(tensors: Mapping[str, Tensor], contract: Contract, name: str) -> Novelty | None:
    if not tensors:
        return None
    try:
        found = novelty_of(tensors)
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from error
    config = contract.config
    parts = (("features", config.features, found.late), ("early features", config.early, found.early))
    for what, width, classes in parts:
        if width != len(classes.centre):
            raise CheckpointError(f"{name}: {width} {what} for a model of novelty of {len(classes.centre)}")
    return found


def _whole(tensor: Tensor) -> Tensor:
    """A stored tensor as networks have it: float16 and bfloat16 are ways to store float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: f"{list(value.shape)} {value.dtype}" for key, value in tensors.items()}


def _few(keys: list[str]) -> str:
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")
