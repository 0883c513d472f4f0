"""Resumable training on a budget of CPU time, with randomness that depends on (seed, iteration) only.

The budget is the CPU time of the process, summed over its threads (`time.process_time`), with loading of images and
without previews and saving. Other load on the machine makes a run slower but does not reduce its training. The learning
rate decays with the share of the budget that is spent.
"""

import json
import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.compare.base import Baseline
from medsegdiff.data.batches import Draws, batches
from medsegdiff.training import moments, set_moments

__all__ = ["BudgetedTraining", "Progress", "race"]


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of one iteration."""

    iteration: int
    minutes: float  # of CPU time spent so far
    loss: float


class BudgetedTraining:
    """A baseline in training: weights, their moving average, optimiser state and CPU time spent."""

    def __init__(self, baseline: Baseline, draws: Draws, minutes: float, seed: int) -> None:
        recipe = baseline.recipe
        self.baseline, self.draws, self.minutes, self.seed = baseline, draws, minutes, seed
        self.ema = deepcopy(baseline).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            baseline.groups(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.done, self.spent = 0, 0.0

    @property
    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(self.spent / (60 * self.minutes), 1.0)

    def learning_rate(self) -> float:
        """Return the learning rate: warm-up over iterations, then constant or cosine decay over the budget."""
        recipe = self.baseline.recipe
        rise = min(1.0, (self.done + 1) / recipe.warmup) if recipe.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * self.share)) if recipe.falling else 1.0
        return recipe.learning_rate * rise * (0.01 + 0.99 * fall if recipe.falling else 1.0)

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        tensors = {f"baseline.{k}": v for k, v in self.baseline.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= moments(self.optimizer)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        facts = {"done": self.done, "spent": self.spent, "minutes": self.minutes, "seed": self.seed}
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, partial, {"facts": json.dumps(facts)})
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: it was started with another budget, which determines the learning rate, or another seed.
        """
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
        if (facts["minutes"], facts["seed"]) != (self.minutes, self.seed):
            raise ValueError(
                f"{path} was begun with {facts['minutes']:g} minutes and seed {facts['seed']}; resume with those, or delete it"
            )
        tensors = load_file(path)
        for name, module in (("baseline.", self.baseline), ("ema.", self.ema)):
            module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
        set_moments(self.optimizer, tensors)
        self.done, self.spent = facts["done"], facts["spent"]


def race(training: BudgetedTraining) -> Iterator[Progress]:
    """Run iterations until the budget is spent; time between iterations is not counted."""
    recipe, baseline = training.baseline.recipe, training.baseline
    source = batches(training.draws, batch=recipe.batch, start=training.done, stop=10**9 // recipe.batch, workers=0)
    while training.spent < 60 * training.minutes:
        began = time.process_time()
        image, labels = next(source)
        for group in training.optimizer.param_groups:
            group["lr"] = training.learning_rate() * group.get("times", 1.0)
        baseline.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed * 1_000_003 + training.done)
            loss = baseline(image, labels, training.done, training.share)
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradient = nn.utils.clip_grad_norm_(baseline.parameters(), recipe.clip)
        if not torch.isfinite(gradient):
            raise FloatingPointError(
                f"the gradient of iteration {training.done} is not finite; lower the learning rate"
            )
        training.optimizer.step()
        _average(training.ema, baseline, min(recipe.ema, (1 + training.done) / (10 + training.done)))
        training.done += 1
        training.spent += time.process_time() - began
        yield Progress(training.done, training.spent / 60, float(loss.detach()))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
