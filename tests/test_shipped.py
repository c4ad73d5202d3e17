"""The checkpoints that come with the package: they load, are what their cards say, and know a galaxy."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from pipeline.checkpoints import job_checkpoints, read, shipped_names
from pipeline.data import ImageContract
from pipeline.errors import CheckpointError
from pipeline.inference import Predictor
from pipeline.job import job_names, load_job
from pipeline.mock.stamps import TELESCOPES, stamps
from pipeline.models.checkpoint import CLASSES
from pipeline.models.images import IMAGES

WEIGHTS = files("pipeline.models") / "weights"
LIMIT = 60e6  # bytes, of all
GALAXIES = 48


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_checkpoint_is_trained_finished_and_named_by_its_sum_in_its_card(name: str) -> None:
    data = (WEIGHTS / f"{name}.safetensors").read_bytes()
    checkpoint = read(f"shipped:{name}")
    assert checkpoint.sha256 == hashlib.sha256(data).hexdigest()
    assert f"`{checkpoint.sha256}`" in (WEIGHTS / f"{name}.md").read_text()
    assert not checkpoint.untrained
    assert checkpoint.calibrated_on
    assert checkpoint.metrics


def test_what_ships_is_small() -> None:
    assert sum(len((WEIGHTS / f"{name}.safetensors").read_bytes()) for name in shipped_names()) < LIMIT


@pytest.mark.parametrize("name", job_names())
def test_every_checkpoint_that_a_job_names_is_there(name: str) -> None:
    assert job_checkpoints(load_job(name, ["sources.table=x.parquet"], environment={}))


def test_a_shipped_network_serves_the_images_of_another_survey() -> None:
    other = read("shipped:agcnn:sdss")
    assert other.image == IMAGES["sdss"].contract
    assert other.sha256 == read("shipped:agcnn").sha256
    with pytest.raises(CheckpointError, match="unknown images 'first', expected one of decals, sdss, euclid"):
        read("shipped:agcnn:first")


def test_the_networks_of_the_default_job_know_drawn_galaxies() -> None:
    """Four classes, of which chance has a quarter right and the commonest half: smooth, edge-on, spiral, merger."""
    drawn = list(stamps(GALAXIES, 5, TELESCOPES["decals"], replace(ImageContract(), size=128), crowd=0.0))
    job = load_job("decals", (), environment={})
    said = Predictor(job_checkpoints(job), device="cpu")(np.stack([one.image for one in drawn]))
    assert set(said) == {"dmagnet", "agcnn"}
    true = [_four(one.galaxy.kind) for one in drawn]
    for prefix, output in said.items():
        called = [_four(CLASSES[k]) for k in output.probabilities.argmax(1)]
        right = np.mean([a == b for a, b in zip(called, true, strict=True)])
        assert right > 0.6, (prefix, right)
        assert len(set(called)) >= 3, prefix


def _four(name: str) -> str:
    return "smooth" if name in ("round", "in_between", "cigar") else name


def test_a_checkpoint_that_is_not_there_is_said_to_be_missing_without_the_secrets_of_its_url() -> None:
    with pytest.raises(CheckpointError) as told:
        read("file:///weights/mine.safetensors?token=hunter2")
    assert str(told.value).endswith("there is no such file")
    assert "hunter2" not in str(told.value)
