"""A training recipe: everything that decides the weights, in one frozen tree read from one YAML file.

Frozen dataclasses of plain values, so that training needs torch, numpy, pyarrow, pillow and yaml alone. What a file
leaves out has the default that stands here. Numbers are the recipe of reference/networks.md sec. 3.5 where they say
nothing else; none of them is an author's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_type_hints

from pipeline.data import ImageContract
from pipeline.errors import CheckpointError, JobError
from pipeline.models import NETWORKS
from pipeline.models.header import read_fields
from pipeline.models.network import NetworkConfig
from pipeline.plain_yaml import plain_yaml
from pipeline.training.votes import Cuts

Padding = Literal["reflection", "zeros"]
Precision = Literal["float32", "bfloat16"]
NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Columns:
    """Names of the columns of the Parquet files; those that may be null need not be there."""

    image: str = "image"  # encoded bytes, such as a JPEG's
    label: str = "class6"
    id: str = "id"
    group: str | None = None  # rows of one group stay on one side of the split; null: every id is a group
    collection: str | None = None  # where a row comes from, for weights and for evaluation
    radius: str | None = None  # px of the original image, of the bright area
    axis_ratio: str | None = None  # minor/major
    width: str | None = None  # px, of the original image


@dataclass(frozen=True)
class Votes:
    """A table of Galaxy Zoo votes that labels the images (training/votes.py)."""

    table: str = ""  # Parquet or CSV below the data root; "": the images' own column says what they are
    id: str = "iauname"  # its column that holds the images' ids
    cuts: Cuts = field(default_factory=Cuts)


@dataclass(frozen=True)
class Data:
    """Which images, and what of them a network sees."""

    images: tuple[str, ...]  # Parquet files or folders of them, below the data root
    classes: tuple[str, ...]  # in the order of the logits
    labels: Mapping[str, str]  # label as found -> class; rows of other labels are left out
    columns: Columns = field(default_factory=Columns)
    votes: Votes = field(default_factory=Votes)
    side: int = 128  # px to which the middle of each image is cut, or black added
    circle: bool = False  # black outside the circle that fills the image, as the mapping `clipped` serves it
    shows: float = 1.0  # the part of the original's width that an image of the files shows
    radius_multiple: float | None = None  # frame width in half-light radii; null: the whole image
    collection_weights: Mapping[str, float] = field(default_factory=lambda: NONE)  # chance to be drawn, 1 if absent
    duplicates: bool = False  # look for the same galaxy under two ids
    experimental: tuple[str, ...] = ()  # classes that too few images stand behind
    source: str = ""  # one sentence for the checkpoint: what data this is


@dataclass(frozen=True)
class Split:
    """Sides by a hash of the group, so that a side never depends on which other rows there are."""

    test: float = 0.2  # of the groups
    validation: float = 0.1  # of the groups
    test_where: Mapping[str, str] = field(default_factory=lambda: NONE)  # column -> value: these rows are the test
    salt: str = "galaxy"


@dataclass(frozen=True)
class Augmentation:
    """How far a batch is changed; 0 leaves a kind out."""

    turn: bool = True  # any angle
    mirror: bool = True
    scale: float = 0.25  # the frame times or over up to 1 + scale, evenly in its logarithm
    shift: float = 0.02  # frame widths, each way
    padding: Padding = "reflection"  # beyond the edge of the image
    gain: float = 0.25  # of each channel, in its logarithm
    brightness: float = 0.35  # of all channels, in its logarithm: DECaLS shows its galaxies up to 1.4 times as bright
    grey: float = 0.15  # chance that the colours are taken away
    blur: float = 0.35  # chance of a Gaussian point-spread function
    blur_sigma: float = 1.5  # px at most, at 128 px a side
    pedestal: float = 0.18  # level of the sky at most: 0.02 in SDSS' JPEGs, 0.14 as DECaLS is served
    noise: float = 0.12  # deviation at most, of the value range; half of the images have less than a quarter of it


@dataclass(frozen=True)
class Optimisation:
    """AdamW, a straight warm-up, then half a cosine down to `last`."""

    epochs: int
    batch: int = 32
    rate: float = 1e-3
    last: float = 0.01  # of the rate, at the end
    warm_up: float = 0.05  # of the steps
    weight_decay: float = 0.05
    clip: float = 1.0  # the gradient's norm
    ema: float = 0.998  # of the averaged weights, reached by (1 + t) / (10 + t)
    epoch_images: int | None = None  # drawn an epoch; null: as many as there are to train on
    balance: float = 1.0  # 0 draws classes as they are, 1 equally often, between: shares ** (1 - balance)
    precision: Precision = "float32"
    channels_last: bool = True
    norms_stand: bool = False  # batch norms keep the statistics that they have: training then sees what serving does


@dataclass(frozen=True)
class Objective:
    """What is minimised. The branch weights and phases are MBAN's alone, clarity AG-CNN's."""

    label_smoothing: float = 0.1
    order: float = 0.0  # weight of the Cramer distance, for classes in their order
    phases: tuple[
        float, ...
    ] = ()  # MBAN: parts of the run for the primary branch, then the new ones; the rest is joint
    still: tuple[str, ...] = ()  # beginnings of the names of weights that stay as they are, as `stages.`
    clarity: bool = False  # reward sharp attention from a fifth of the run on
    adjust_logits: bool = True  # answer under the shares of the data, though the classes are drawn otherwise


@dataclass(frozen=True)
class Keeping:
    """How often the state is kept, so that a kill costs little."""

    steps: int = 100
    validate_every: int = 1  # epochs


@dataclass(frozen=True)
class Recipe:
    """One training run. Raises ValueError where its parts do not fit together."""

    name: str
    network: str  # a key of NETWORKS
    config: NetworkConfig
    data: Data
    optimisation: Optimisation
    split: Split = field(default_factory=Split)
    augmentation: Augmentation = field(default_factory=Augmentation)
    objective: Objective = field(default_factory=Objective)
    keeping: Keeping = field(default_factory=Keeping)
    image: ImageContract = field(default_factory=ImageContract)  # what the network will be served
    init_from: str | None = None  # path of a checkpoint to begin with
    init_fresh: tuple[str, ...] = ()  # beginnings of the names of weights that are drawn all the same, as `heads.`
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.data.classes) != self.config.classes:
            raise ValueError(f"{self.config.classes} logits for the classes {self.data.classes}")
        if strange := sorted(set(self.data.labels.values()) - set(self.data.classes)):
            raise ValueError(f"labels lead to {', '.join(strange)}, which are not among the classes")
        if strange := sorted(set(self.data.experimental) - set(self.data.classes)):
            raise ValueError(f"experimental names {', '.join(strange)}, which are not among the classes")
        if not (self.split.test >= 0 <= self.split.validation and self.split.test + self.split.validation < 1):
            raise ValueError(f"expected parts below 1 in all, got {self.split.test} and {self.split.validation}")
        if min(self.optimisation.epochs, self.optimisation.batch, self.keeping.steps, self.keeping.validate_every) < 1:
            raise ValueError("expected epochs, batch, keeping.steps and keeping.validate_every of at least 1")
        if len(self.objective.phases) not in (0, 2) or sum(self.objective.phases) >= 1:
            raise ValueError(f"expected no phases or two parts below 1 in all, got {self.objective.phases}")


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, each of `settings`, such as `optimisation.epochs=3`, put over it.

    `extends: FILE` in it names another, beside it, whose keys count where it has none of its own.
    Raises JobError where the file cannot be read, a key is unknown (it names the nearest) or a value does not fit.
    """
    tree = _read_tree(path)
    for setting in settings:
        _set(tree, setting)
    return parse_recipe(tree, str(path))


def parse_recipe(tree: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of a tree of plain values. Raises JobError as `read_recipe`."""
    name = tree.get("network")
    if not isinstance(name, str) or name not in NETWORKS:
        raise JobError(f"{where}: unknown network {name!r}{_nearest(str(name), NETWORKS)}")
    known = NETWORKS[name]
    types = get_type_hints(Recipe) | {"config": type(known)}
    try:
        whole = _with_defaults(tree, types, Recipe, where)
        config = {key: whole["config"].get(key, getattr(known, key)) for key in get_type_hints(type(known))}
        whole["config"] = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
        return Recipe(**read_fields(types, whole, where))
    except (CheckpointError, ValueError) as error:
        raise JobError(str(error)) from error


def plain(recipe: Any) -> Any:
    """The recipe as JSON can hold it; `parse_recipe` reads it back."""
    if is_dataclass(recipe):
        return {part.name: plain(getattr(recipe, part.name)) for part in fields(recipe)}
    if isinstance(recipe, Mapping):
        return {key: plain(value) for key, value in recipe.items()}
    return [plain(value) for value in recipe] if isinstance(recipe, tuple) else recipe


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        tree = plain_yaml(path.read_text())
    except (OSError, ValueError) as error:
        raise JobError(f"cannot read the recipe {path}: {error}") from error
    if not isinstance(tree, dict):
        raise JobError(f"{path}: expected a recipe, got {tree!r}")
    base = tree.pop("extends", None)
    return tree if base is None else _merged(_read_tree(path.parent / str(base)), tree)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """The keys of both, section by section; `over` wins."""
    both = dict(base)
    for key, value in over.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


def _with_defaults(tree: Any, types: Mapping[str, Any], kind: Any, where: str) -> dict[str, Any]:
    """The tree with every key that it leaves out and that has a default; `config` has its defaults elsewhere."""
    whole = _known_keys(tree, types, where)
    for part in fields(kind):
        inner = types[part.name]
        default = part.default_factory() if callable(part.default_factory) else part.default
        if part.name == "config":
            whole["config"] = _known_keys(tree.get("config") or {}, get_type_hints(inner), f"{where}.config")
        elif is_dataclass(inner) and part.name in tree:
            whole[part.name] = _with_defaults(tree[part.name], get_type_hints(inner), inner, f"{where}.{part.name}")
        elif default is not MISSING:
            whole.setdefault(part.name, plain(default))
    return whole


def _known_keys(tree: Any, types: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        raise JobError(f"{where}: expected keys and values, got {tree!r}")
    for key in tree:
        if key not in types:
            raise JobError(f"{where}: unknown key {key!r}{_nearest(str(key), types)}")
    return dict(tree)


def _set(tree: dict[str, Any], setting: str) -> None:
    """Put `section.key=value` into the tree, the value read as YAML. Raises JobError where it has no `=`."""
    address, equals, text = setting.partition("=")
    if not equals:
        raise JobError(f"--set {setting}: expected section.key=value")
    *sections, key = address.strip().split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise JobError(f"--set {setting}: {section} has no keys")
        tree = inner
    try:
        tree[key] = plain_yaml(text)
    except ValueError as error:
        raise JobError(f"--set {setting}: {error}") from None


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)
    return f"; the nearest is {close[0]!r}" if close else ""
