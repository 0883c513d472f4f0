"""The networks that are compared, each with its own loss, recipe and sampling of masks.

    unet        MONAI's plain residual U-Net and a 1 x 1 convolution to logits, Dice and cross-entropy
    condition   the condition network of our V2, alone, widened to the size of the others; the same loss
    lucidrains  V1 as in the package med-seg-diff-pytorch: noise loss, cosine schedule, its driver's optimiser
    unet-strong   unet with the augmentation of the shipped V2 (`train --strong`)
    pretrained    the condition network of the shipped V2, alone: its encoder starts with ImageNet weights; the same augmentation
    v1, v2      the tiny presets of this project
    v2-averaged   v2 with its anchor trained alone for half of the budget, and anchor weight 0.5 in sampling (F31)

For images marked by several readers:

    unet-ce        plain U-Net with cross-entropy alone; its minimiser is the readers' share of each pixel
    unet-dropout   the same with dropout, which stays on at test time: as many masks as wanted
    unet-five      ensemble of five U-Nets of a fifth of the size, trained alternately from different initialisations: five masks
    probabilistic, stochastic   Probabilistic U-Net and Stochastic Segmentation Network (`probabilistic`)
    v2-readers, v1-readers   the tiny presets with a stem of 2 and the recipe of the lung-nodule checkpoints: one reader per
                             image, no soft Dice on x_0, no unrolling

The plain networks are trained on all readers' masks of an image, the others on that of one randomly drawn reader.

All have 2.7 to 4.2 million parameters. Names include the training size: unet@256, lucidrains@64.

References:
    MONAI (Cardoso et al., 2022), https://arxiv.org/abs/2211.02701
    med-seg-diff-pytorch, https://github.com/lucidrains/med-seg-diff-pytorch
    Dropout when predicting (Gal & Ghahramani, 2016), https://arxiv.org/abs/1506.02142
    Deep ensembles (Lakshminarayanan et al., 2017), https://arxiv.org/abs/1612.01474
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import Tensor, nn

from benchmarks.compare.base import Baseline, Recipe, class_probability, every_reader, one_reader
from benchmarks.compare.probabilistic import ProbabilisticUNet, StochasticSegmentation
from medsegdiff.config import PRESETS, DiffusionConfig, ModelConfig, TrainConfig, V2Config
from medsegdiff.domain import load_encoder
from medsegdiff.losses import Objective
from medsegdiff.nn.build import build
from medsegdiff.nn.efficientnet import EfficientNetLite0
from medsegdiff.nn.unet import ConditionUNet
from medsegdiff.sampling import MemberNoise, SamplingSettings, denoise, spaced
from medsegdiff.schedule import Diffusion
from medsegdiff.training import noise_of

__all__ = ["BASELINES", "Baseline", "Ours", "Recipe", "named", "of_readers"]


class Plain(Baseline):
    """A network that maps an image to logits, without sampling."""

    averages = True

    def __init__(
        self, title: str, network: nn.Module, classes: int, *, dice: float = 1.0, strong: bool = False
    ) -> None:
        super().__init__()
        self.title = title
        self.network = network
        self.loss = _loss(classes, dice)
        if strong:
            self.recipe = Recipe(batch=8, strong=True)

    def count(self, members: int) -> int:
        return 1

    def logits(self, image: Tensor) -> Tensor:
        """Return the logits of the network, or of the anchor of a condition network."""
        answer = self.network(image)
        return answer if isinstance(answer, Tensor) else answer.anchor_logits[0]

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        return _over_readers(self.loss, self.logits(image), labels)

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        return class_probability(self.logits(image))


class Pretrained(Plain):
    """V2's condition network alone, with the encoder, its share of the learning rate, and the augmentation of shipped V2."""

    def __init__(self, classes: int) -> None:
        channels = 1 if classes == 1 else classes + 1
        model = PRESETS["v2-tiny"].model
        assert isinstance(model, V2Config)
        network = ConditionUNet(3, channels, model.condition_widths, model.blocks, model.stem, "efficientnet-lite0")
        super().__init__("condition network alone, ImageNet encoder, augmented as V2", network, classes, strong=True)
        assert network.encoder
        network.encoder.backbone.load_state_dict(load_encoder(maps=network.encoder.used.stop).state_dict())

    def groups(self) -> list[dict[str, Any]]:
        encoder = [p for m in self.modules() if isinstance(m, EfficientNetLite0) for p in m.parameters()]
        known = {id(p) for p in encoder}
        return [
            {"params": [p for p in self.parameters() if id(p) not in known]},
            {"params": encoder, "times": TrainConfig().encoder_rate, "weight_decay": 0.0},
        ]


class Dropout(Plain):
    """Network whose dropout stays on at test time (Monte Carlo dropout)."""

    averages = False

    def count(self, members: int) -> int:
        return members

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        training = self.network.training
        self.network.train()  # instance norms have no running statistics, so this affects dropout only
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return class_probability(self.logits(image.expand(members, -1, -1, -1).contiguous()))
        finally:
            self.network.train(training)


class Five(Baseline):
    """Ensemble of networks trained alternately, each from its own initialisation and batches; one mask each."""

    def __init__(self, title: str, networks: list[nn.Module], classes: int) -> None:
        super().__init__()
        self.title = title
        self.networks = nn.ModuleList(networks)
        self.loss = _loss(classes, 0.0)

    def count(self, members: int) -> int:
        return len(self.networks)

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        return _over_readers(self.loss, self.networks[i % len(self.networks)](image), labels)

    def masks(self, image: Tensor, *, members: int, steps: int, seed: int) -> Tensor:
        return class_probability(torch.cat([network(image) for network in self.networks]))


def _loss(classes: int, dice: float) -> DiceCELoss:
    binary = classes == 1
    return DiceCELoss(
        sigmoid=binary,
        softmax=not binary,
        to_onehot_y=not binary,
        include_background=binary,
        lambda_dice=dice,
        lambda_ce=1.0,
    )


def _over_readers(loss: DiceCELoss, logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([loss(logits, one[:, None].float()) for one in every_reader(labels).unbind(1)]).mean(0)


class Lucidrains(Baseline):
    """The package's `Unet` and `MedSegDiff` as they are; several classes are separate mask channels, background first."""

    title = "med-seg-diff-pytorch 0.3.3 (V1)"
    denoises = True
    recipe = Recipe(
        batch=8, learning_rate=5e-4, betas=(0.95, 0.999), weight_decay=1e-6, warmup=0, falling=False
    )  # as in its training driver

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        try:
            from med_seg_diff_pytorch import MedSegDiff, Unet, med_seg_diff_pytorch  # pyright: ignore[reportMissingImports]  make compare installs it
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{error.name} is not installed; pip install --no-deps med-seg-diff-pytorch==0.3.3 einops"
            ) from error
        med_seg_diff_pytorch.tqdm = lambda steps, **_: steps  # disables its progress bar per image
        self.channels = 1 if classes == 1 else classes + 1
        unet = Unet(dim=16, image_size=size, mask_channels=self.channels, input_img_channels=3)
        self.diffusion = MedSegDiff(unet, timesteps=1000)

    def forward(self, image: Tensor, labels: Tensor, i: int, share: float) -> Tensor:
        labels = one_reader(labels)
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
    """A tiny preset with this project's loss and recipe."""

    denoises = True

    def __init__(
        self,
        preset: str,
        size: int,
        classes: int,
        title: str = "",
        model: ModelConfig | None = None,
        anchor_first: float = 0.0,  # share of the budget in which V2's condition network is trained alone
        anchor_weight: float = 0.0,  # weight of the anchor at every step
        recipe: TrainConfig | None = None,  # default: that of the first shipped checkpoints
        papers: bool = False,  # the papers' objective: the noise of masks of scale 1, alpha 5, beta 10, nothing besides
    ) -> None:
        super().__init__()
        chosen = PRESETS[preset]
        self.title = title or f"this project's {preset}"
        self.config = recipe or replace(chosen.training, batch=12, draws=2, unroll=0.5, dice=1.0)
        if papers:
            self.config = replace(self.config, unroll=0.0, dice=0.0, alpha=5, beta=10.0)
        self.anchor_first = 0.0 if papers else anchor_first
        self.anchor_weight = anchor_weight
        self.recipe = Recipe(batch=self.config.batch, learning_rate=self.config.learning_rate, ema=self.config.ema)
        self.diffusion = Diffusion(DiffusionConfig() if papers else chosen.diffusion, classes)
        network = build(replace(model or chosen.model, image_size=size, classes=classes))
        self.objective = Objective(
            network,
            self.diffusion,
            alpha=self.config.alpha,
            beta=self.config.beta,
            dice=self.config.dice,
            anchor_dice=self.config.anchor_dice,
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


_WIDE = (32, 64, 128, 256, 256)
_HEAD = 16  # channels of a U-Net's last features


def _features(widths: tuple[int, ...], dropout: float = 0.0) -> nn.Module:
    """Build a U-Net up to its last feature maps.

    MONAI's U-Net ends in an instance norm; used for the logits it would give them mean 0 and variance 1 in every image, so
    that no image could be predicted empty.
    """
    strides = (2,) * (len(widths) - 1)
    return UNet(2, 3, _HEAD, channels=widths, strides=strides, num_res_units=2, dropout=dropout)


def _network(classes: int, widths: tuple[int, ...] = _WIDE, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(_features(widths, dropout), nn.Conv2d(_HEAD, 1 if classes == 1 else classes + 1, 1))


def _condition(size: int, classes: int) -> Baseline:
    out = 1 if classes == 1 else classes + 1
    return Plain("condition network alone", ConditionUNet(3, out, (48, 96, 144, 192), 1, stem=4), classes)


def of_readers(
    preset: str, size: int, classes: int, title: str, model: ModelConfig | None = None, *, papers: bool = False
) -> Ours:
    """Return a tiny preset with a stem of 2 and the recipe of the lung-nodule checkpoints."""
    chosen = PRESETS[preset]
    return Ours(
        preset,
        size,
        classes,
        title,
        replace(model or chosen.model, stem=2),
        anchor_first=0.08 if isinstance(chosen.model, V2Config) else 0.0,
        recipe=replace(chosen.training, batch=32, draws=1, beta=5.0),
        papers=papers,
    )


BASELINES: dict[str, Callable[[int, int], Baseline]] = {
    "unet": lambda size, classes: Plain("plain U-Net (MONAI)", _network(classes), classes),
    "unet-strong": lambda size, classes: Plain(
        "plain U-Net (MONAI), augmented as V2", _network(classes), classes, strong=True
    ),
    "condition": _condition,
    "pretrained": lambda size, classes: Pretrained(classes),
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
    "unet-ce": lambda size, classes: Plain("plain U-Net, cross-entropy alone", _network(classes), classes, dice=0.0),
    "unet-dropout": lambda size, classes: Dropout(
        "U-Net, dropout 0.2 kept on", _network(classes, dropout=0.2), classes, dice=0.0
    ),
    "unet-five": lambda size, classes: Five(
        "five U-Nets", [_network(classes, (16, 32, 64, 112, 112)) for _ in range(5)], classes
    ),
    "probabilistic": lambda size, classes: ProbabilisticUNet(
        _features((28, 56, 112, 216, 216)), _HEAD, classes, encoder=(32, 64, 96, 128)
    ),
    "stochastic": lambda size, classes: StochasticSegmentation(_features(_WIDE), _HEAD, classes),
    "v2-readers": lambda size, classes: of_readers("v2-tiny", size, classes, "this project's V2"),
    "v1-readers": lambda size, classes: of_readers("v1-tiny", size, classes, "this project's V1"),
}


def named(
    name: str, known: Mapping[str, Callable[[int, int], Baseline]] = MappingProxyType(BASELINES)
) -> tuple[Callable[[int, int], Baseline], int]:
    """Parse NAME@SIZE with the name of a baseline.

    Raises:
        ValueError: the name or the size is invalid.
    """
    kind, _, size = name.partition("@")
    if kind not in known or not size.isdecimal() or int(size) % 32 or not int(size):
        raise ValueError(
            f"{name!r} is no baseline; write {', '.join(known)} and a multiple of 32, as in {min(known)}@256"
        )
    return known[kind], int(size)
