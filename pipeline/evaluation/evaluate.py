"""`pipeline evaluate`: one checkpoint against everything that there is to judge it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import JobError
from pipeline.evaluation.answers import Answers, answers
from pipeline.evaluation.calibration import fit_temperature
from pipeline.evaluation.fields import FieldShare, field_shares
from pipeline.evaluation.judgement import Judgement, Said, judge
from pipeline.evaluation.leak import Leak, Side, leaks
from pipeline.evaluation.novelty import Separation, Strangeness, separations
from pipeline.evaluation.sets import Labelled, artefact_sets, decals_set, drawn_sets, side_sets, subset
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.prior import Prior
from pipeline.training.examples import Examples
from pipeline.training.fitting import prepare
from pipeline.training.judging import scores
from pipeline.training.novelty import fit_novelty
from pipeline.training.recipe import Augmentation, Recipe

FITTED = 3000  # training images, at most, that the novelty model and the leak probe are fitted to
CENTRED = 0.02  # frame widths, each way: what positions err by
GALAXY = "galaxy"  # the kind of the artefacts' file that is none
FLOOR = 1e-3  # share of a class that the headline's collection lacks: rare, not impossible


@dataclass(frozen=True, eq=False)
class Material:
    """What networks are judged on: read once, for all of them."""

    recipe: Recipe
    train: tuple[Labelled, ...]  # a collection each, the largest first
    validation: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    others: tuple[Labelled, ...]  # never trained or tuned on: DECaLS, drawn galaxies
    artefacts: Mapping[str, Examples]  # kind -> images, empty where none were given

    @property
    def headline(self) -> str:
        """The collection that figures are quoted on: the one with most test images."""
        return self.test[0].name

    @property
    def held_out(self) -> Labelled:
        """The validation images of the headline's collection."""
        return next((one for one in self.validation if one.name == self.headline), self.validation[0])

    @property
    def learned(self) -> Examples:
        """FITTED training images at most, drawn evenly from all collections."""
        whole = _joined([one.examples for one in self.train])
        rows = np.random.default_rng(0).permutation(len(whole))[:FITTED]
        return whole.take(np.sort(rows))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that is said of one checkpoint."""

    checkpoint: Checkpoint
    judgements: tuple[Judgement, ...]  # the headline's first
    said: Mapping[str, Said]  # by the name of the set
    fields: tuple[FieldShare, ...]
    leaks: tuple[Leak, ...]
    separations: tuple[Separation, ...]


def material(
    recipe: Recipe,
    root: Path,
    stamps: Path | None = None,
    artefacts: Path | None = None,
    subsets: Sequence[str] = (),
) -> Material:
    """The images of a recipe and those that it never saw; `subsets` are COLUMN=VALUE, of its test images.

    Raises JobError where the recipe holds no images back.
    """
    prepared = prepare(recipe, root)
    if not len(prepared.sides.test) or not len(prepared.sides.validation):
        raise JobError(f"{recipe.name}: the recipe holds no images back for test and validation")
    bands, classes = recipe.config.bands, recipe.data.classes
    others = [decals_set(root, recipe.data)] if bands == 3 else []
    others += [] if stamps is None else drawn_sets(stamps, classes, bands)
    sides = {side: tuple(side_sets(prepared, recipe, root, side)) for side in ("train", "validation", "test")}
    others += [subset(one, condition, recipe.data, root) for condition in subsets for one in sides["test"]]
    return Material(
        recipe=recipe,
        train=sides["train"],
        validation=sides["validation"],
        test=sides["test"],
        others=tuple(one for one in others if one is not None),
        artefacts={} if artefacts is None else artefact_sets(artefacts, bands),
    )


def finished(checkpoint: Checkpoint, given: Material, device: str = "cpu") -> Checkpoint:
    """The checkpoint with its temperature, its prior and its model of novelty fitted on what the recipe held out.

    Where the training drew classes otherwise than they are, the prior becomes the shares in the headline's collection,
    or stays that of the drawing if macro F1 on the images held out is higher so: the former asks so much of a rare
    class that it may never be the answer. The temperature is fitted with it. Without enough images held out there is
    no model of novelty. That is fitted to images changed as training does: another sky, depth or seeing than SDSS' is
    not what makes an image novel. But galaxies are where they are served, in the middle. Raises JobError as `evaluate`.
    """
    held, learned, how = given.held_out.examples, given.learned, given.recipe.augmentation
    how = replace(how, shift=min(how.shift, CENTRED))
    of_held = _ask(checkpoint, given, held, device)
    held_changed, of_learned = (_ask(checkpoint, given, part, device, how) for part in (held, learned))
    prior = _prior(checkpoint.prior, given, of_held)
    temperature = fit_temperature(of_held.logits, held.labels, None if prior is None else prior.shift)
    source = given.recipe.data.source or given.recipe.name
    try:
        novelty = fit_novelty(of_learned.seen, torch.from_numpy(learned.labels), held_changed.seen)
    except ValueError:
        novelty = None
    return replace(
        checkpoint,
        temperature=temperature,
        calibrated_on=f"{source}: {len(held)} held-out images of {given.held_out.name}",
        prior=prior,
        novelty=novelty,
    )


def evaluate(checkpoint: Checkpoint, given: Material, device: str = "cpu") -> Evaluation:
    """Judge a checkpoint as it stands. Raises JobError where its classes are not the recipe's."""
    learned = given.learned
    of_learned = _ask(checkpoint, given, learned, device)
    asked = {one.name: (one, _ask(checkpoint, given, one.examples, device)) for one in (*given.test, *given.others)}
    said = {name: _said(checkpoint, found) for name, (_, found) in asked.items()}
    judgements = [
        judge(name, one.examples.labels, checkpoint.classes, said[name], one.axis_ratio)
        for name, (one, _) in asked.items()
    ]
    tested = [asked[one.name] for one in given.test]
    probed = _side(
        _joined([one.examples for one, _ in tested]), np.concatenate([found.features for _, found in tested])
    )
    shown = [*given.train, *given.others]
    padding = given.recipe.augmentation.padding
    return Evaluation(
        checkpoint=checkpoint,
        judgements=tuple(judgements),
        said=said,
        fields=tuple(field_shares(shown, checkpoint.classes, padding)),
        leaks=tuple(leaks(_side(learned, of_learned.features), probed, checkpoint.classes)),
        separations=_separated(checkpoint, given, {name: found for name, (_, found) in asked.items()}, device),
    )


def _ask(
    checkpoint: Checkpoint, given: Material, examples: Examples, device: str, changed: Augmentation | None = None
) -> Answers:
    if checkpoint.classes != given.recipe.data.classes:
        found, wanted = ", ".join(checkpoint.classes), ", ".join(given.recipe.data.classes)
        raise JobError(f"the checkpoint has the classes {found}, the recipe has {wanted}")
    return answers(checkpoint, examples, device, given.recipe.augmentation.padding, changed)


def _said(checkpoint: Checkpoint, found: Answers) -> Said:
    return Said(
        raw=found.probabilities(1.0, None),
        calibrated=found.probabilities(checkpoint.temperature, checkpoint.prior),
        temperature=checkpoint.temperature,
        images_per_second=found.images_per_second,
        novelty=found.novelty,
    )


def _prior(prior: Prior | None, given: Material, held: Answers) -> Prior | None:
    """The shares that answers assume: of the headline's collection, or as drawn, by macro F1 on what was held out."""
    if prior is None:
        return None
    labels = next((one for one in given.train if one.name == given.headline), given.train[0]).examples.labels
    shares = np.maximum(np.bincount(labels, minlength=len(prior.training)) / len(labels), FLOOR)
    found = [Prior(prior.training, tuple(float(share) for share in shares / shares.sum()))]
    found.append(Prior(prior.training, prior.training))
    true = given.held_out.examples.labels
    return max(found, key=lambda one: scores(held.logits + np.array(one.shift, np.float32), true).macro_f1)


def _separated(
    checkpoint: Checkpoint, given: Material, asked: Mapping[str, Answers], device: str
) -> tuple[Separation, ...]:
    """The artefacts against the galaxies drawn with them, the headline's test set and DECaLS."""
    if not given.artefacts:
        return ()
    found = {kind: _ask(checkpoint, given, examples, device) for kind, examples in given.artefacts.items()}
    strange = {name: _strangeness(checkpoint, one) for name, one in {**asked, **found}.items()}
    kinds = {kind: strange[kind] for kind in found if kind != GALAXY}
    plain = {"drawn galaxies": strange[GALAXY]} if GALAXY in found else {}
    real = [given.headline, *(one.name for one in given.others if not one.masks)]
    return tuple(separations(kinds, plain | {name: strange[name] for name in real}))


def _strangeness(checkpoint: Checkpoint, found: Answers) -> Strangeness:
    return Strangeness(found.novelty, 1 - found.probabilities(checkpoint.temperature, checkpoint.prior).max(1))


def _side(examples: Examples, features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Side:
    return Side(features, examples.labels, examples.collections)


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        **{part.name: np.concatenate([getattr(one, part.name) for one in parts]) for part in fields(Examples)}
    )
