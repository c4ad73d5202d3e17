"""Recipes: what a file may say, what it may leave out, and what is refused with a word on how it is meant."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pipeline.data import ImageContract
from pipeline.errors import JobError
from pipeline.models.images import IMAGES
from pipeline.training import clusters
from pipeline.training.recipe import parse_recipe, plain, read_recipe
from tests.training_sets import recipe, tree

JOBS = Path(__file__).parent.parent / "jobs/training"
LAUGHS = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{below}: &{below} [{', '.join([f'*{above}'] * 10)}]\n" for above, below in itertools.pairwise("abcdef")
)  # a million zeros by its aliases
MERGED = "a: &a {x: 0}\n" + "".join(
    f"{below}: &{below} {{<<: [{', '.join([f'*{above}'] * 10)}]}}\n" for above, below in itertools.pairwise("abcdefg")
)  # the same by its merge keys
LISTS = ("augmentation.yaml", "cpu.yaml", "gpu.yaml")
BASES = ("optical.yaml", "radio.yaml", *LISTS)  # the first two are extended


@pytest.mark.parametrize("path", [path for path in sorted(JOBS.glob("*.yaml")) if path.name not in BASES], ids=str)
def test_every_recipe_that_ships_can_be_read(path: Path) -> None:
    assert read_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("name", "contract", "classes"),
    [
        ("radio_agcnn", IMAGES["first"].contract, IMAGES["first"].classes),
        ("clusters", clusters.IMAGE, clusters.CLASSES),
        ("agcnn", IMAGES["decals"].contract, IMAGES["decals"].classes),
    ],
)
def test_a_recipe_promises_the_images_that_its_survey_serves(
    name: str, contract: ImageContract, classes: tuple[str, ...]
) -> None:
    recipe = read_recipe(JOBS / f"{name}.yaml")
    assert (recipe.image, recipe.data.classes) == (contract, classes)


def test_a_recipe_written_as_plain_values_reads_back_the_same() -> None:
    first = recipe(config={"pooling": "sum"}, split={"salt": "s"}, image={"size": 64})
    assert parse_recipe(plain(first), "again") == first


def test_what_a_recipe_leaves_out_has_its_default() -> None:
    known = recipe()
    assert known.config.head_slope == 0.01  # type: ignore[attr-defined]
    assert (known.split.test, known.optimisation.ema, known.image.fov.radius_multiple) == (0.2, 0.998, 8.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser'; the nearest is 'optimisation'"),
        ({"optimisation": {"epoch": 3}}, "unknown key 'epoch'; the nearest is 'epochs'"),
        ({"config": {"gate": 3}}, "unknown key 'gate'; the nearest is 'gates'"),
        ({"network": "agcn"}, "unknown network 'agcn'; the nearest is 'agcnn'"),
        ({"optimisation": {"epochs": "three"}}, "expected int, got 'three'"),
        ({"optimisation": {"epochs": 0}}, "at least 1"),
        ({"augmentation": {"padding": "mirror"}}, "expected one of 'reflection', 'zeros'"),
        ({"config": {"classes": 3}}, "3 logits for the classes"),
        ({"data": {"labels": {"disc": "dics"}}}, "labels lead to dics"),
        ({"data": {"experimental": ["blob"]}}, "experimental names blob"),
        ({"split": {"test": 0.7, "validation": 0.4}}, "parts below 1 in all"),
        ({"objective": {"phases": [0.5]}}, "no phases or two parts"),
        ({"data": "everything"}, "expected keys and values"),
        ({"config": {"gates": 7}}, "test.config"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(JobError, match=message):
        recipe(**changes)


def test_settings_go_over_the_file_and_over_what_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "name: base\nnetwork: tang\nconfig: {classes: 2}\ndata: {images: [x], classes: [a, b], labels: {A: a}}\n"
        "optimisation: {epochs: 7, batch: 9, rate: 0.5}\n"
    )
    (tmp_path / "own.yaml").write_text("extends: base.yaml\nname: own\noptimisation: {epochs: 8}\n")
    read = read_recipe(tmp_path / "own.yaml", ["optimisation.batch=10", "split.salt=x", "seed=4"])
    assert (read.name, read.seed, read.split.salt) == ("own", 4, "x")
    assert (read.optimisation.epochs, read.optimisation.batch, read.optimisation.rate) == (8, 10, 0.5)


@pytest.mark.parametrize("setting", ["optimisation.epochs", "name.first=1", "optimisation.epocs=1", "name=["])
def test_a_wrong_setting_is_refused(tmp_path: Path, setting: str) -> None:
    (tmp_path / "own.yaml").write_text(f"extends: {JOBS / 'tang.yaml'}\n")
    with pytest.raises(JobError, match=r"epoc|name"):
        read_recipe(tmp_path / "own.yaml", [setting])


@pytest.mark.parametrize("text", ["- a", "name: [", "\xff\xfe", LAUGHS, MERGED])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(JobError, match=r"bad\.yaml"):
        read_recipe(tmp_path / "bad.yaml")


def test_a_recipe_without_data_says_what_it_lacks() -> None:
    given = tree()
    del given["data"]
    with pytest.raises(JobError, match="test lacks data"):
        parse_recipe(given, "test")
