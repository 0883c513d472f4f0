"""Interface of baselines: a network with its loss, optimiser settings and sampling of masks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Baseline", "Recipe", "class_probability", "every_reader", "one_reader", "pixel_cross_entropy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Optimisation settings: AdamW, weight averaging, and a learning rate that decays over the budget."""

    batch: int = 16
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-2
    warmup: int = 200  # iterations
    falling: bool = True  # cosine to 1 % over the budget, else constant
    clip: float = 1.0
    ema: float = 0.998
    strong: bool = False  # augment as widely as nnU-Net does, like the shipped V2


class Baseline(nn.Module, ABC):
    """A network with its loss; `forward` returns the loss of iteration i."""

    title: str
    recipe = Recipe()
    denoises = False  # whether the number of steps matters
    averages = False  # whether a mask is the mean over mirror images where those are asked for

    def count(self, members: int) -> int:
        """Return the number of masks that `masks` gives when asked for `members`; fewer where the number is fixed."""
        return members

    def groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups; "times" multiplies the learning rate of one."""
        return [{"params": list(self.parameters())}]

    @abstractmethod
    def forward(
        self,
        image: Float[Tensor, "b 3 s s"],
        labels: Integer[Tensor, "b s s"] | Integer[Tensor, "b r s s"],
        i: int,
        share: float,
    ) -> Float[Tensor, ""]:
        """Return the loss, given the share of the budget that is spent; torch's generator is seeded before every call.

        Masks of several readers (r) come in random order, so the first is that of a randomly drawn reader.
        """

    @abstractmethod
    def masks(
        self, image: Float[Tensor, "1 3 s s"], *, members: int, steps: int, seed: int
    ) -> Float[Tensor, "m _ s s"]:
        """Return the class probabilities, background first, of `count(members)` masks."""


def one_reader(labels: Integer[Tensor, "b *r s s"]) -> Integer[Tensor, "b s s"]:
    """Return the mask of a randomly drawn reader."""
    return labels if labels.ndim == 3 else labels[:, 0]


def every_reader(labels: Integer[Tensor, "b *r s s"]) -> Integer[Tensor, "b r s s"]:
    """Return the masks of all readers, with a reader axis even if there is only one."""
    return labels[:, None] if labels.ndim == 3 else labels


def class_probability(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b _ h w"]:
    """Convert logits to class probabilities, background first; one channel is the foreground's."""
    if logits.shape[1] > 1:
        return logits.softmax(1)
    p = logits.sigmoid()
    return torch.cat([1 - p, p], 1)


def pixel_cross_entropy(logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Return the cross-entropy of every pixel, in nats."""
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, labels.long(), reduction="none")
    return F.binary_cross_entropy_with_logits(logits[:, 0], (labels > 0).float(), reduction="none")
