"""The training loop: one recipe, its examples and a folder in, a checkpoint out. The same seed gives the same weights.

Every step is a function of the state and of its own number, so a run that was killed and resumed ends bit for bit
where an undisturbed one does, on the CPU with the same number of threads.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import JobError
from pipeline.models.prior import Prior
from pipeline.training.augment import augmented
from pipeline.training.examples import Examples
from pipeline.training.journal import Journal
from pipeline.training.judging import Scores, judge
from pipeline.training.objectives import batch_loss, frozen
from pipeline.training.progress import Saved, digest, load_state, parted, prefixed, save_state
from pipeline.training.recipe import Optimisation, Recipe, plain
from pipeline.training.sampling import class_shares, drawn_shares, epoch_rows, row_weights

BAD_STEPS = 20  # in a row whose gradient is not finite, then the run has failed
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of torch's AdamW, a parameter
SEEDS = 2**31  # room for steps between two seeds


@dataclass(frozen=True)
class Step:
    """How far a run is, for whoever watches it."""

    step: int
    steps: int
    loss: float
    images_per_second: float
    steps_per_second: float
    note: str = ""  # what the last validation said


Watch = Callable[[Step], None]


class Trainer:
    """One run in one folder. `run` goes on where the folder's state stands."""

    def __init__(
        self, recipe: Recipe, train: Examples, validation: Examples, folder: Path, device: torch.device
    ) -> None:
        """Raises JobError where a class has no image to train on."""
        self.recipe, self._train, self._validation, self._folder = recipe, train, validation, folder
        self._device = device
        held = (train.images, train.frames, train.labels)
        self._stored = [torch.from_numpy(values).to(device) for values in held]  # on a GPU they fit at once
        how = recipe.optimisation
        natural = class_shares(train.labels, recipe.data.classes)
        self._drawn = drawn_shares(natural, how.balance)
        self.prior = Prior(*(tuple(map(float, shares)) for shares in (self._drawn, natural)))
        self._epoch_images = max(how.epoch_images or len(train), how.batch)
        self.epoch_steps = self._epoch_images // how.batch
        self.steps = self.epoch_steps * how.epochs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            module = recipe.config.build()
        layout = torch.channels_last if how.channels_last else torch.contiguous_format
        self.module: nn.Module = module.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.module).eval().requires_grad_(False)
        self._optimiser = _optimiser(self.module, how)
        self._digest = digest(plain(recipe))
        self.step = 0

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        """Start from these weights instead of drawn ones; a state in the folder still comes first."""
        self.module.load_state_dict(weights)
        self.averaged.load_state_dict(weights)

    def run(self, watch: Watch) -> Scores | None:
        """Train to the end, keeping the state; the last validation's scores, None without validation images."""
        self._resume()
        self._folder.mkdir(parents=True, exist_ok=True)
        scores, note, batch = None, "", self.recipe.optimisation.batch
        with Journal(self._folder, self.step) as journal:
            started, first, bad = time.monotonic(), self.step, 0
            for rows in self._batches():
                loss, norm = self._advance(rows)
                bad = 0 if math.isfinite(norm) else bad + 1
                if bad == BAD_STEPS:
                    raise JobError(f"step {self.step}: the gradient was not finite {bad} times in a row")
                pace = (self.step - first) / (time.monotonic() - started)
                if self.step % self.epoch_steps == 0 or self.step % 20 == 0:
                    values = {
                        "loss": loss,
                        "gradient_norm": norm,
                        "rate": self.rate(self.step - 1),
                        "images_per_s": pace * batch,
                    }
                    journal.write(self.step, "train", values)
                if self._validates():
                    scores = self.judge()
                    journal.write(self.step, "validation", scores.values())
                    note = scores.line()
                if self.step % self.recipe.keeping.steps == 0 or self.step % self.epoch_steps == 0:
                    save_state(self._folder, self._saved())
                watch(Step(self.step, self.steps, loss, pace * batch, pace, note))
        return scores or (self.judge() if len(self._validation) else None)

    def judge(self) -> Scores:
        """The averaged weights on the validation images, unchanged but for the frame."""
        shift = self.prior.shift if self.recipe.objective.adjust_logits else None
        return judge(self.averaged, self._validation, self.recipe, self._device, shift)

    def rate(self, step: int) -> float:
        """The learning rate of this step, from 0."""
        how = self.recipe.optimisation
        rising = max(1, round(how.warm_up * self.steps))
        if step < rising:
            return how.rate * (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        return how.rate * (how.last + (1 - how.last) * (1 + math.cos(math.pi * done)) / 2)

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """The rows of every step that is left."""
        batch = self.recipe.optimisation.batch
        weights = row_weights(self._train, self.recipe.data.collection_weights)
        while self.step < self.steps:
            epoch, done = divmod(self.step, self.epoch_steps)
            seed = self.recipe.seed * SEEDS + epoch
            rows = epoch_rows(self._train.labels, weights, self._drawn, self._epoch_images, seed)
            for start in range(done * batch, self.epoch_steps * batch, batch):
                yield rows[start : start + batch]

    def _advance(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """One step: the loss and the gradient's norm before clipping. Where that is not finite no weight changes."""
        recipe, how = self.recipe, self.recipe.optimisation
        progress = self.step / self.steps
        seed = (recipe.seed * SEEDS + self.step) * 2 + 1
        torch.manual_seed(seed)  # dropout
        draw = torch.Generator(self._device).manual_seed(seed + 1)
        images, frames, labels = (values[torch.from_numpy(rows).to(self._device)] for values in self._stored)
        images = augmented(images, frames, recipe.config.size, recipe.augmentation, draw)
        layout = torch.channels_last if how.channels_last else torch.contiguous_format
        self.module.train()
        if how.norms_stand:
            for part in self.module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(not frozen(name, recipe.objective, progress))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=how.precision == "bfloat16"):
            loss = batch_loss(self.module, images.to(memory_format=layout), labels, recipe.objective, progress)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), how.clip))
        for group in self._optimiser.param_groups:
            group["lr"] = self.rate(self.step)
        if math.isfinite(norm):
            self._optimiser.step()
            self._average()
        self.step += 1
        return float(loss.detach()), norm

    def _average(self) -> None:
        """Move the averaged weights and statistics towards the new ones (an exponential moving average)."""
        decay = min(self.recipe.optimisation.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for old, new in zip(self.averaged.state_dict().values(), self.module.state_dict().values(), strict=True):
                if old.is_floating_point():
                    old.lerp_(new, 1 - decay)
                else:
                    old.copy_(new)

    def _validates(self) -> bool:
        epoch, rest = divmod(self.step, self.epoch_steps)
        due = epoch % self.recipe.keeping.validate_every == 0 or self.step == self.steps
        return rest == 0 and due and len(self._validation) > 0

    def _saved(self) -> Saved:
        moments = {
            f"{name}.{moment}": self._optimiser.state[parameter][moment]
            for name, parameter in self.module.named_parameters()
            if parameter in self._optimiser.state
            for moment in MOMENTS
        }
        tensors = prefixed("weights", self.module.state_dict()) | prefixed("averaged", self.averaged.state_dict())
        return Saved(self.step, self._digest, tensors | prefixed("optimiser", moments))

    def _resume(self) -> None:
        saved = load_state(self._folder, self._digest)
        if saved is None:
            return
        self.module.load_state_dict(parted(saved.tensors, "weights"))
        self.averaged.load_state_dict(parted(saved.tensors, "averaged"))
        moments = parted(saved.tensors, "optimiser")
        for name, parameter in self.module.named_parameters():
            if f"{name}.{MOMENTS[0]}" in moments:
                state = {moment: moments[f"{name}.{moment}"] for moment in MOMENTS}
                self._optimiser.state[parameter] = {
                    key: value if key == "step" else _laid_out(value.to(self._device), parameter)
                    for key, value in state.items()
                }
        self.step = saved.step


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """The value in the memory layout of `like`."""
    return torch.empty_like(like).copy_(value)


def _optimiser(module: nn.Module, how: Optimisation) -> torch.optim.AdamW:
    """AdamW, as is usual without decay of norms, biases and other vectors."""
    matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": how.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=how.rate)
