"""Training on a budget of processor time, resumable, in which everything random is a function of (seed, iteration).

The budget is what the process itself was given by the processor, summed over its threads (`time.process_time`), with the
preparation of pictures and without previews and saving. So a machine that is busy with something else slows a contestant
down and takes nothing away from it. The rate falls with the share of the budget that is spent.
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

from benchmarks.compare.peers import Peer
from medsegdiff.data.batches import Draws, batches
from medsegdiff.training import moments, set_moments

__all__ = ["Contest", "Progress", "race"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One iteration, after it was taken."""

    iteration: int
    minutes: float  # of processor time spent so far
    loss: float


class Contest:
    """A contestant, the moving average of its weights, its optimiser's moments, and what it has spent."""

    def __init__(self, peer: Peer, draws: Draws, minutes: float, seed: int) -> None:
        recipe = peer.recipe
        self.peer, self.draws, self.minutes, self.seed = peer, draws, minutes, seed
        self.ema = deepcopy(peer).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            peer.parameters(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.done, self.spent = 0, 0.0

    @property
    def share(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        return min(self.spent / (60 * self.minutes), 1.0)

    def learning_rate(self) -> float:
        """Warm-up by iterations, then constant or a cosine over the budget."""
        recipe = self.peer.recipe
        rise = min(1.0, (self.done + 1) / recipe.warmup) if recipe.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * self.share)) if recipe.falling else 1.0
        return recipe.learning_rate * rise * (0.01 + 0.99 * fall if recipe.falling else 1.0)

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        tensors = {f"peer.{k}": v for k, v in self.peer.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= moments(self.optimizer)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        facts = {"done": self.done, "spent": self.spent, "minutes": self.minutes, "seed": self.seed}
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, partial, {"facts": json.dumps(facts)})
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue what `save` wrote.

        Raises:
            ValueError: it was begun with another budget, which its rate has been falling by, or with another seed.
        """
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
        if (facts["minutes"], facts["seed"]) != (self.minutes, self.seed):
            raise ValueError(
                f"{path} was begun with {facts['minutes']:g} minutes and seed {facts['seed']}; resume with those, or delete it"
            )
        tensors = load_file(path)
        for name, module in (("peer.", self.peer), ("ema.", self.ema)):
            module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
        set_moments(self.optimizer, tensors)
        self.done, self.spent = facts["done"], facts["spent"]


def race(contest: Contest) -> Iterator[Progress]:
    """Take iterations until the budget is spent; the time between two of them is the caller's own."""
    recipe, peer = contest.peer.recipe, contest.peer
    source = batches(contest.draws, batch=recipe.batch, start=contest.done, stop=10**9 // recipe.batch, workers=0)
    while contest.spent < 60 * contest.minutes:
        began = time.process_time()
        image, labels = next(source)
        for group in contest.optimizer.param_groups:
            group["lr"] = contest.learning_rate()
        peer.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(contest.seed * 1_000_003 + contest.done)
            loss = peer(image, labels, contest.done, contest.share)
        contest.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradient = nn.utils.clip_grad_norm_(peer.parameters(), recipe.clip)
        if not torch.isfinite(gradient):
            raise FloatingPointError(f"the gradient of iteration {contest.done} is not finite; lower the learning rate")
        contest.optimizer.step()
        _average(contest.ema, peer, min(recipe.ema, (1 + contest.done) / (10 + contest.done)))
        contest.done += 1
        contest.spent += time.process_time() - began
        yield Progress(contest.done, contest.spent / 60, float(loss.detach()))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
