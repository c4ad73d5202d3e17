"""Checkpoints: what is written comes back, and what cannot be trusted is refused with a reason."""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save

from pipeline.data import FieldOfView, ImageContract
from pipeline.errors import CheckpointError
from pipeline.models.checkpoint import CLASSES, Checkpoint, read_checkpoint, untrained_checkpoint, write_checkpoint
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.contract import Contract, contract_differences
from pipeline.models.header import read_fields
from pipeline.models.prior import Prior

TINY = DMAGNetConfig(size=32, dims=(8, 16), depths=(1, 1), head_channels=8)
SEED_0 = untrained_checkpoint("dmagnet_f", 0, TINY)
PRIOR = Prior(training=(0.25, 0.25, 0.2, 0.1, 0.1, 0.1), target=(0.4, 0.2, 0.1, 0.1, 0.1, 0.1))


def file(checkpoint: Checkpoint = SEED_0) -> bytes:
    return write_checkpoint(checkpoint, checkpoint.weights)


def with_header(change: Mapping[str, Any], without: tuple[str, ...] = ()) -> bytes:
    """The file of SEED_0 with keys of its contract replaced, or left out."""
    data = file()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    promised = json.loads(header["__metadata__"]["contract"]) | change
    for key in without:
        promised.pop(key)
    return save(dict(SEED_0.weights), {"contract": json.dumps(promised)})


def test_what_is_written_comes_back() -> None:
    wrote = replace(
        SEED_0,
        training="galaxies of a test",
        metrics={"accuracy": 0.5},
        temperature=1.5,
        untrained=False,
        image=ImageContract(size=64, fov=FieldOfView(fixed=None, radius_multiple=3.0)),
        calibrated_on="other galaxies of a test",
        prior=PRIOR,
        experimental=("merger",),
    )
    data = file(wrote)
    found = read_checkpoint(data, "a.safetensors")
    for field in fields(Contract):
        assert getattr(found, field.name) == getattr(wrote, field.name), field.name
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.weights.keys() == wrote.weights.keys()
    assert all(torch.equal(found.weights[key], wrote.weights[key]) for key in wrote.weights)


def test_a_checkpoint_of_before_these_keys_is_still_read() -> None:
    found = read_checkpoint(with_header({}, without=("calibrated_on", "prior", "experimental")), "x")
    assert (found.calibrated_on, found.prior, found.experimental, found.novelty) == ("", None, (), None)
    younger = ("mapping", "clip_sigma", "surroundings")
    image = {key: value for key, value in asdict(ImageContract()).items() if key not in younger}
    assert read_checkpoint(with_header({"image": image}), "x").image == ImageContract()


def test_a_checkpoint_builds_its_network_with_its_weights() -> None:
    module = SEED_0.build()
    assert not module.training
    assert module.state_dict().keys() == SEED_0.weights.keys()
    assert all(torch.equal(value, SEED_0.weights[key]) for key, value in module.state_dict().items())


def test_a_seed_gives_the_same_file_and_another_seed_another() -> None:
    assert untrained_checkpoint("dmagnet_f", 0, TINY).sha256 == SEED_0.sha256
    assert untrained_checkpoint("dmagnet_f", 1, TINY).sha256 != SEED_0.sha256
    assert hashlib.sha256(file()).hexdigest() == SEED_0.sha256


def test_an_untrained_checkpoint_says_so_and_knows_the_six_classes() -> None:
    assert SEED_0.untrained
    assert SEED_0.training == "none: random weights of seed 0"
    assert SEED_0.classes == CLASSES == ("round", "in_between", "cigar", "edge_on", "spiral", "merger")


def test_random_weights_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    untrained_checkpoint("dmagnet_f", 0, TINY).build()
    assert torch.equal(torch.rand(3), expected)


def test_a_network_of_the_catalogue_needs_no_config() -> None:
    assert untrained_checkpoint("dmagnet_f", 0).config == DMAGNetConfig()


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["torch", "legacy torch", "pickle"])
def test_a_pickle_is_refused_unread(kind: str, tmp_path: Path) -> None:
    trap, buffer = Trap(tmp_path / "sprung"), io.BytesIO()
    if kind == "pickle":
        pickle.dump(trap, buffer)
    else:
        torch.save(trap, buffer, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(CheckpointError, match=r"model\.pt is a pickle .* never read"):
        read_checkpoint(buffer.getvalue(), "model.pt")
    assert not trap.folder.exists()


@pytest.mark.parametrize("data", [b"", b"hello", b"<html>not found</html>", b"\x05" + b"\0" * 7 + b"{oops"])
def test_other_bytes_are_no_safetensors(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="x is no safetensors file"):
        read_checkpoint(data, "x")


@pytest.mark.parametrize("kept", [20, 3000, -1])
def test_a_file_that_is_cut_off_is_refused(kept: int) -> None:
    with pytest.raises(CheckpointError, match="cut off"):
        read_checkpoint(file()[:kept], "x")


def test_a_foreign_safetensors_file_has_no_contract() -> None:
    for metadata in (None, {"format": "pt"}):
        with pytest.raises(CheckpointError, match="x has no contract"):
            read_checkpoint(save(dict(SEED_0.weights), metadata), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 1, got 2"),
        ({"network": "resnet"}, "unknown network 'resnet', expected one of dmagnet_f, dmagnet_m"),
        ({"classes": ["round", "spiral"]}, r"6 logits for the classes \('round', 'spiral'\)"),
        ({"temperature": 0.0}, "above 0, got 0.0"),
        ({"temperature": math.nan}, "temperature: expected float, got nan"),
        ({"untrained": "no"}, "untrained: expected bool, got 'no'"),
        ({"colour": "red"}, "unknown keys colour"),
        ({"config": {"bands": 3}}, "config lacks classes, size"),
        ({"config": 3}, "config: expected an object, got 3"),
        ({"image": {}}, "image lacks bands"),
        ({"prior": {"training": [0.5, 0.5], "target": [0.5, 0.5]}}, "6 logits for a prior of 2 shares"),
        ({"prior": {"training": [0.5, 0.5], "target": [0.5, 0.4]}}, "prior: expected target shares above 0 of sum 1"),
        ({"prior": {"training": [1.0, 0.0], "target": [0.5, 0.5]}}, "prior: expected training shares above 0 of sum 1"),
        ({"prior": {"training": [1.0], "target": [0.5, 0.5]}}, "prior: expected as many shares, got 1 and 2"),
        ({"experimental": ["comet"]}, "experimental classes comet are none of"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(with_header(change), "x")


def test_a_choice_is_one_of_its_values() -> None:
    types = {"stretch": Literal["asinh", "log"]}
    assert read_fields(types, {"stretch": "log"}, "image") == {"stretch": "log"}
    with pytest.raises(CheckpointError, match=r"image\.stretch: expected one of 'asinh', 'log', got 'linear'"):
        read_fields(types, {"stretch": "linear"}, "image")


def test_a_contract_that_lacks_a_key_is_refused() -> None:
    with pytest.raises(CheckpointError, match="contract lacks training"):
        read_checkpoint(with_header({}, without=("training",)), "x")


def test_an_image_of_other_channels_than_the_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match="3 channels for the planes"):
        read_checkpoint(file(replace(SEED_0, image=ImageContract(planes=("r",)))), "x")


def test_an_image_contract_that_contradicts_itself_is_refused() -> None:
    image = {**asdict(SEED_0.image), "scales": [1.0, 2.0]}
    with pytest.raises(CheckpointError, match=r"image: .* do not fit together"):
        read_checkpoint(with_header({"image": image}), "x")


def test_a_config_that_cannot_be_built_is_refused() -> None:
    broken = {**asdict(TINY), "depths": [1]}
    with pytest.raises(CheckpointError, match="config: expected one depth for each"):
        read_checkpoint(with_header({"config": broken}), "x")


def test_a_network_that_fits_in_no_memory_is_refused_for_its_tensors() -> None:
    promised = json.loads(json.dumps(vars(SEED_0.config))) | {"hidden_ratio": 10**13}
    with pytest.raises(CheckpointError, match="tensors that do not fit"):
        read_checkpoint(with_header({"config": promised}), "giant")


def test_tensors_that_do_not_fit_are_named() -> None:
    weights = dict(SEED_0.weights)
    del weights["classifier.weight"]
    wrong = {"extra": torch.zeros(1), "classifier.bias": torch.zeros(7), "norm.weight": torch.zeros(16).double()}
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(write_checkpoint(SEED_0, weights | wrong), "x")
    message = str(caught.value)
    assert "missing tensors: classifier.weight" in message
    assert "unknown tensors: extra" in message
    assert "classifier.bias (expected [6] torch.float32, got [7] torch.float32)" in message
    assert "norm.weight (expected [16] torch.float32, got [16] torch.float64)" in message


def test_of_many_wrong_tensors_the_first_are_named() -> None:
    with pytest.raises(CheckpointError, match=r"stem\.0\.bias, .* and \d+ more"):
        read_checkpoint(write_checkpoint(SEED_0, {"norm.weight": torch.zeros(16)}), "x")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    bias = torch.zeros(6)
    bias[3] = value
    data = write_checkpoint(SEED_0, {**SEED_0.weights, "classifier.bias": bias})
    with pytest.raises(CheckpointError, match=r"not finite: classifier\.bias"):
        read_checkpoint(data, "x")


OWN = ImageContract()


@pytest.mark.parametrize(
    "other",
    [
        ImageContract(bands=("g", "r", "i", "z"), scales=(6.0, 3.4, 3.0, 2.2)),
        ImageContract(planes=("g", "r", "z")),
        ImageContract(scales=(6.0, 3.4, 2.0)),
        ImageContract(offset=0.0),
        ImageContract(softening=10.0),
        ImageContract(reference_pixel=0.4),
    ],
)
def test_other_channels_or_values_are_an_error(other: ImageContract) -> None:
    errors, warnings = contract_differences(OWN, other)
    assert errors
    assert not warnings


@pytest.mark.parametrize("other", [ImageContract(size=224), ImageContract(fov=FieldOfView(fixed=40.0))])
def test_another_view_of_the_same_values_is_a_warning(other: ImageContract) -> None:
    errors, warnings = contract_differences(OWN, other)
    assert not errors
    assert len(warnings) == 1


def test_a_difference_names_both_values() -> None:
    assert contract_differences(OWN, ImageContract(size=224)) == ([], ["size: expected 256, got 224"])
    assert contract_differences(OWN, OWN) == ([], [])


def test_weights_stored_in_half_come_back_as_the_nearest_and_take_half_the_bytes() -> None:
    made = untrained_checkpoint("tang", 5)
    contract = Contract(**{field.name: getattr(made, field.name) for field in fields(Contract)})
    whole, half = (write_checkpoint(contract, made.weights, half=half) for half in (None, 0))
    assert len(half) < 0.55 * len(whole)
    back = read_checkpoint(half, "half").weights
    for name, tensor in made.weights.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor.half().float() if tensor.is_floating_point() else tensor)


def test_weights_too_large_for_half_stay_as_they_are() -> None:
    made = untrained_checkpoint("tang", 5)
    contract = Contract(**{field.name: getattr(made, field.name) for field in fields(Contract)})
    weights = {name: tensor * 1e6 if tensor.dim() == 2 else tensor for name, tensor in made.weights.items()}
    back = read_checkpoint(write_checkpoint(contract, weights, half=0), "loud").weights
    large = {name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.abs().max() > 65504}
    assert large
    for name, tensor in weights.items():
        halved = tensor.is_floating_point() and name not in large
        assert torch.equal(back[name], tensor.half().float() if halved else tensor), name


def test_a_header_without_bounds_is_refused_unread() -> None:
    data = (10**12).to_bytes(8, "little") + b"{"
    with pytest.raises(CheckpointError, match="a header of 1000000000000 bytes"):
        read_checkpoint(data, "vast")
