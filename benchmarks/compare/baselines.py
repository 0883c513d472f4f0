"""Who is compared, each with its own loss, its own recipe and its own way from a picture to masks.

    unet        MONAI's plain residual U-Net and a 1 x 1 convolution to logits, Dice and cross-entropy
    condition   the condition network of our V2, alone, widened to the size of the others; the same loss
    lucidrains  V1 as in the package med-seg-diff-pytorch: noise loss, cosine schedule, its driver's optimiser
    v1, v2      the tiny presets of this project
    v2-averaged   v2, its anchor learnt alone for half of the budget and given half of the say in every step (F31)

All have 2.7 to 3.9 million parameters. A name carries the size a network is trained at: unet@256, lucidrains@64.

References:
    MONAI (Cardoso et al., 2022), https://arxiv.org/abs/2211.02701
    med-seg-diff-pytorch, https://github.com/lucidrains/med-seg-diff-pytorch
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Float, Integer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import Tensor, nn

from medsegdiff.config import PRESETS, ModelConfig, TrainConfig
from medsegdiff.losses import Objective
from medsegdiff.nn.build import build
from medsegdiff.nn.unet import ConditionUNet
from medsegdiff.sampling import MemberNoise, SamplingSettings, denoise, spaced
from medsegdiff.schedule import Diffusion
from medsegdiff.training import noise_of

__all__ = ["BASELINES", "Baseline", "Ours", "Recipe", "named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is optimised: AdamW, a moving average of the weights, and a rate that falls with the budget spent."""

    batch: int = 16
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-2
    warmup: int = 200  # iterations
    falling: bool = True  # cosine to 1 % over the budget, else constant
    clip: float = 1.0
    ema: float = 0.998


class Baseline(nn.Module, ABC):
    """A network with its loss; `forward` is what is minimised at iteration i."""

    title: str
    recipe = Recipe()
    draws_members = True  # several noises give several masks

    @abstractmethod
    def forward(
        self, image: Float[Tensor, "b 3 s s"], labels: Integer[Tensor, "b s s"], i: int, share: float
    ) -> Float[Tensor, ""]:
        """Return the loss when that share of the budget is spent; torch's generator is seeded anew before every call."""

    @abstractmethod
    def masks(
        self, image: Float[Tensor, "1 3 s s"], *, members: int, steps: int, seed: int
    ) -> Float[Tensor, "m _ s s"]:
        """Return the class probabilities, background first, of that many masks."""


def _probability(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b _ h w"]:
    if logits.shape[1] > 1:
        return logits.softmax(1)
    p = logits.sigmoid()
    return torch.cat([1 - p, p], 1)


class Plain(Baseline):
    """A network that maps a picture to logits, and that is all."""

    draws_members = False

    def __init__(self, title: str, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.title = title
        self.network = network
        binary = classes == 1
        self.loss = DiceCELoss(
            sigmoid=binary, softmax=not binary, to_onehot_y=not binary, include_background=binary, lambda_ce=1.0
        )

    def logits(self, image: Tensor) -> Tensor:
        """Ask the network; a condition network answers with more than logits."""
        answer = self.network(image)
        return answer if isinstance(answer, Tensor) else answer.anchor_logits[0]

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        return self.loss(self.logits(image), labels[:, None].float())

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        return _probability(self.logits(image))


class Lucidrains(Baseline):
    """The package's `Unet` and `MedSegDiff` as they are; several classes are as many mask channels, background first."""

    title = "med-seg-diff-pytorch 0.3.3 (V1)"
    recipe = Recipe(
        batch=8, learning_rate=5e-4, betas=(0.95, 0.999), weight_decay=1e-6, warmup=0, falling=False
    )  # its driver's

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        try:
            from med_seg_diff_pytorch import MedSegDiff, Unet, med_seg_diff_pytorch  # pyright: ignore[reportMissingImports]  make compare installs it
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{error.name} is not installed; pip install --no-deps med-seg-diff-pytorch==0.3.3 einops"
            ) from error
        med_seg_diff_pytorch.tqdm = lambda steps, **_: steps  # else it shows a bar for every picture
        self.channels = 1 if classes == 1 else classes + 1
        unet = Unet(dim=16, image_size=size, mask_channels=self.channels, input_img_channels=3)
        self.diffusion = MedSegDiff(unet, timesteps=1000)

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        if self.channels == 1:
            return self.diffusion((labels[:, None] > 0).float(), image)
        return self.diffusion(nn.functional.one_hot(labels.long(), self.channels).movedim(-1, 1).float(), image)

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        self.diffusion.sampling_timesteps, self.diffusion.is_ddim_sampling = steps, True
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            p = self.diffusion.sample(image.expand(members, -1, -1, -1).contiguous()).clamp(0, 1)
        if self.channels == 1:
            return torch.cat([1 - p, p], 1)
        return p.clamp_min(1e-6) / p.clamp_min(1e-6).sum(1, keepdim=True)


class Ours(Baseline):
    """A tiny preset, trained by this project's loss and recipe."""

    def __init__(
        self,
        preset: str,
        size: int,
        classes: int,
        title: str = "",
        model: ModelConfig | None = None,
        anchor_first: float = 0.0,  # share of the budget in which V2's condition network learns alone
        anchor_weight: float = 0.0,  # the anchor's share in the mask of every step
    ) -> None:
        super().__init__()
        chosen = PRESETS[preset]
        self.title = title or f"this project's {preset}"
        self.config: TrainConfig = replace(chosen.training, batch=12, draws=2, unroll=0.5, dice=1.0)  # as those shipped
        self.anchor_first = anchor_first
        self.anchor_weight = anchor_weight
        self.recipe = Recipe(batch=self.config.batch, learning_rate=self.config.learning_rate, ema=self.config.ema)
        self.diffusion = Diffusion(chosen.diffusion, classes)
        network = build(replace(model or chosen.model, image_size=size, classes=classes))
        self.objective = Objective(
            network, self.diffusion, alpha=self.config.alpha, beta=self.config.beta, dice=self.config.dice
        )

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        noise = () if share < self.anchor_first else noise_of(i, labels, self.diffusion, self.config)
        return self.objective(image, labels, *noise).total

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        model, timesteps = self.objective.model, self.diffusion.schedule.timesteps
        walk = denoise(
            model,
            model.encode(image),
            self.diffusion,
            spaced(timesteps, steps),
            MemberNoise(seed, members),
            (self.diffusion.channels, image.shape[-2], image.shape[-1]),
            SamplingSettings(anchor_weight=self.anchor_weight),
        )
        *_, last = walk
        return self.diffusion.probability(last.x_0)


def _unet(size: int, classes: int) -> Baseline:
    widths = (32, 64, 128, 256, 256)
    out = 1 if classes == 1 else classes + 1
    # Without a head the network ends in an instance norm over its answer: one channel of mean 0 and variance 1 in every
    # picture, which can call no picture empty and is never sure of a background.
    features = UNet(
        spatial_dims=2, in_channels=3, out_channels=16, channels=widths, strides=(2, 2, 2, 2), num_res_units=2
    )
    return Plain("plain U-Net (MONAI)", nn.Sequential(features, nn.Conv2d(16, out, 1)), classes)


def _condition(size: int, classes: int) -> Baseline:
    out = 1 if classes == 1 else classes + 1
    return Plain("condition network alone", ConditionUNet(3, out, (48, 96, 144, 192), 1, stem=4), classes)


BASELINES: dict[str, Callable[[int, int], Baseline]] = {
    "unet": _unet,
    "condition": _condition,
    "lucidrains": Lucidrains,
    "v1": lambda size, classes: Ours("v1-tiny", size, classes),
    "v2": lambda size, classes: Ours("v2-tiny", size, classes, anchor_first=0.25),
    "v2-averaged": lambda size, classes: Ours(
        "v2-tiny",
        size,
        classes,
        "this project's v2-tiny, averaged with its anchor",
        anchor_first=0.5,
        anchor_weight=0.5,
    ),
}


def named(
    name: str, known: Mapping[str, Callable[[int, int], Baseline]] = MappingProxyType(BASELINES)
) -> tuple[Callable[[int, int], Baseline], int]:
    """Read NAME@SIZE, NAME being one that is known.

    Raises:
        ValueError: it is no such pair.
    """
    kind, _, size = name.partition("@")
    if kind not in known or not size.isdecimal() or int(size) % 32 or not int(size):
        raise ValueError(
            f"{name!r} is no baseline; write {', '.join(known)} and a multiple of 32, as in {min(known)}@256"
        )
    return known[kind], int(size)
