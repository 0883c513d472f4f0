"""Configuration records for networks, diffusion, training and runs, and the presets.

Values are marked [P] if they are in the paper, [C] if only in released code, and [ours] if in neither; docs/fidelity.md explains
each choice.

References:
    MedSegDiff (Wu et al., 2022), https://arxiv.org/abs/2211.00611
    MedSegDiff-V2 (Wu et al., 2023), https://arxiv.org/abs/2301.11798
"""

import dataclasses
import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from medsegdiff.image_ref import Intensity
from medsegdiff.switches import Switches

__all__ = [
    "PRESETS",
    "TASK_NAME",
    "VIEWS",
    "DiffusionConfig",
    "Domain",
    "Mirror",
    "ModelConfig",
    "Preset",
    "RunSettings",
    "TrainConfig",
    "UNetConfig",
    "V1Config",
    "V2Config",
]


# A configuration may come from a stranger, with a checkpoint; no preset is near any of these.
_LIMITS = {
    "image_size": (8, 4096),
    "image_channels": (1, 16),
    "classes": (1, 254),
    "stem": (1, 32),
    "widths": (1, 4096),
    "condition_widths": (1, 4096),
    "blocks": (1, 32),
    "decoder_blocks": (1, 32),
    "gaussian_size": (1, 63),
    "ss_blocks": (1, 32),
    "patch": (1, 64),
    "token_width": (1, 4096),
    "heads": (1, 64),
    "nbp_blocks": (1, 32),
    "nbp_width": (1, 1024),
    "sine_scale": (0, 1000),
    "timesteps": (2, 100_000),
    "scale": (0, 1000),
    "mean": (-1000, 1000),
    "std": (0, 1000),
}
_LEVELS = 8
_TOKENS = 128  # on a side: attention takes memory with its fourth power


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)


def _require_limits(config: object) -> None:
    """Hold every number of a configuration against its limits."""
    for name, (low, high) in _LIMITS.items():
        value = getattr(config, name, low)
        values = value if isinstance(value, tuple) else (value,)
        _require(
            len(values) <= (16 if name in ("mean", "std") else _LEVELS), f"{name} has {len(values)} entries, too many"
        )
        _require(all(low <= one <= high for one in values), f"{name} is {value!s:.60}; choose {low} to {high}")


Encoder = Literal["residual", "efficientnet-lite0"]
"""Encoder of a condition network: residual blocks, or EfficientNet-Lite0, which starts training with ImageNet weights."""


def _require_encoder(config: "V2Config | UNetConfig", levels: int) -> None:
    _require(
        config.encoder in ("residual", "efficientnet-lite0"),
        f"encoder is {config.encoder!r}; choose residual or efficientnet-lite0",
    )
    if config.encoder == "residual":
        return
    _require(
        config.image_channels == 3,
        f"{config.encoder} takes three channels, red, green and blue, and image_channels is {config.image_channels}",
    )
    _require(
        config.stem in (2, 4, 8, 16) and config.stem * 2 ** (levels - 1) <= 32,
        f"{config.encoder} has feature maps at strides 2, 4, 8, 16 and 32, which a stem of {config.stem} with {levels} levels "
        "does not fit; choose a stem of 4 with four levels, or of 2 with four or five",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionConfig:
    """The forward process, and the quantity that the network predicts."""

    timesteps: int = 1000  # T [C]
    schedule: Literal["linear", "cosine"] = "linear"  # [C]; the paper defers to Ho et al.
    parametrization: Literal["epsilon", "v", "x_0"] = "epsilon"  # [P]; x_0 is read from logits (F12)
    learned_variance: bool = False  # [C]: interpolated log-variance, trained by the VLB
    scale: float = 1.0  # masks are in {-scale, scale}; a smaller scale lowers the signal-to-noise ratio (F13)

    def __post_init__(self) -> None:
        _require_limits(self)
        _require(self.scale > 0, f"scale is {self.scale}; the signal scale must be positive")
        _require(self.schedule in ("linear", "cosine"), f"schedule is {self.schedule!r}; choose linear or cosine")
        _require(
            self.parametrization in ("epsilon", "v", "x_0"),
            f"parametrization is {self.parametrization!r}; choose epsilon, v or x_0",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class V1Config:
    """MedSegDiff (V1)."""

    image_size: int = 256  # trained at; other sizes run, the FF-Parser's filters are interpolated [P]
    image_channels: int = 3
    classes: int = 1  # foreground classes
    stem: int = 4  # pixels folded into channels on each side; with three halvings: S 2, B 4, L and ++ 8 (F3)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)  # three stages per encoder, and the shared last one [ours]
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)  # residual blocks per stage: ResNet34's list [P]
    decoder_blocks: int = 1  # residual blocks per decoder stage [ours]
    full_spectrum: bool = False  # FF-Parser on fft2 [P] instead of rfft2 [C]; equal for real maps (F6)
    skips: Literal["sum", "mask"] = "sum"  # features that reach the decoder by skip connections (F8)
    learned_variance: bool = False
    switches: Switches = Switches()  # components left out, as in the paper's ablation

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        _require_limits(self)
        _require(len(self.widths) == 4, f"widths has {len(self.widths)} entries; V1 has four stages")
        _require(len(self.blocks) == 4, f"blocks has {len(self.blocks)} entries; V1 has four stages")
        _require(
            self.image_size % self.stride == 0 and self.image_size >= 2 * self.stride,
            f"image_size {self.image_size} is no multiple of {self.stride}, or only one; choose {2 * self.stride} or more",
        )
        _require(self.skips in ("sum", "mask"), f"skips is {self.skips!r}; choose sum or mask")

    @property
    def stride(self) -> int:
        """Pixels per cell of the deepest feature map; image sides must be multiples of it."""
        return self.stem * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class V2Config:
    """MedSegDiff-V2."""

    image_size: int = 256  # [P]
    image_channels: int = 3
    classes: int = 1
    stem: int = 1  # pixels folded into channels on each side [ours] (F3)
    widths: tuple[int, ...] = (64, 128, 256, 512)  # diffusion network; the figure draws four levels [ours]
    condition_widths: tuple[int, ...] = (64, 128, 256, 512)  # condition network [ours]
    blocks: int = 2  # residual blocks per level, encoder and decoder [ours]
    anchors: int = 1  # encoder levels gated by an anchor: 1 (AAAI), 2 (arXiv v1) (F15)
    gaussian_size: int = 5  # window of the learnable Gaussian, odd, in cells [C] (F14)
    ss_blocks: int = 2  # N, blocks of two symmetric modules; unknown [ours] (F20)
    patch: int = 1  # cells per token side [ours]
    token_width: int = 256  # d [ours]
    heads: int = 4  # unknown [ours]
    band: Literal["nbp", "sine"] = "nbp"  # AAAI's NBP-Filter, or arXiv v1's sine with scale-shift (F18)
    nbp_blocks: int = 6  # R [C, weak]
    nbp_width: int = 16  # channels of the coordinate network [ours]
    # Older configurations lack the next four, which then have their defaults.
    # Gates of an anchor: one shared by all channels of the diffusion feature [P], or one for each channel [ours] (F44)
    gate: Literal["shared", "channel"] = dataclasses.field(default="shared", metadata={"later": True})
    encoder: Encoder = dataclasses.field(
        default="residual", metadata={"later": True}
    )  # of the condition network [ours] (F37)
    nbp_octaves: int = dataclasses.field(
        default=0, metadata={"later": True}
    )  # of the coordinates' Fourier features; 0: raw (F19)
    sine_scale: float = dataclasses.field(
        default=0.0, metadata={"later": True}
    )  # a in sin(a n M) / (a n); 0: sin M (F18)
    learned_variance: bool = False
    switches: Switches = Switches()

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "condition_widths", tuple(self.condition_widths))
        _require_limits(self)
        _require(
            self.image_size <= _TOKENS * self.stride,
            f"image_size {self.image_size} makes more than {_TOKENS} x {_TOKENS} tokens of {self.stride} pixels",
        )
        _require(
            len(self.widths) == len(self.condition_widths) >= 2,
            f"widths {self.widths} and condition_widths {self.condition_widths} must have as many levels, at least two",
        )
        _require(1 <= self.anchors <= 2, f"anchors is {self.anchors}; the papers draw 1 or 2")
        _require(
            self.anchors < len(self.widths),
            f"anchors is {self.anchors}, but {len(self.widths)} levels decode one fewer",
        )
        _require(self.gaussian_size % 2 == 1, f"gaussian_size is {self.gaussian_size}; the window must be odd")
        _require(
            self.token_width % self.heads == 0, f"token_width {self.token_width} is no multiple of heads {self.heads}"
        )
        _require(self.gate in ("shared", "channel"), f"gate is {self.gate!r}; choose shared or channel")
        _require(self.band in ("nbp", "sine"), f"band is {self.band!r}; choose nbp or sine")
        _require_encoder(self, len(self.condition_widths))
        _require(0 <= self.nbp_octaves <= 8, f"nbp_octaves is {self.nbp_octaves}; choose 0 (raw coordinates) to 8")
        _require(self.sine_scale >= 0, f"sine_scale is {self.sine_scale}; choose 0 or more")
        _require(
            self.image_size % self.stride == 0 and self.image_size >= 2 * self.stride,
            f"image_size {self.image_size} is no multiple of {self.stride}, or only one; choose {2 * self.stride} or more",
        )

    @property
    def stride(self) -> int:
        """Pixels per token side; image sides must be multiples of it."""
        return self.stem * 2 ** (len(self.widths) - 1) * self.patch


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """A plain U-Net without diffusion (V2's condition network alone), as a baseline."""

    image_size: int = 256
    image_channels: int = 3
    classes: int = 1
    stem: int = 4  # pixels folded into channels on each side
    widths: tuple[int, ...] = (48, 96, 144, 192)  # about as many parameters as the tiny presets [ours]
    blocks: int = 1  # residual blocks per level, encoder and decoder
    encoder: Encoder = dataclasses.field(default="residual", metadata={"later": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        _require_limits(self)
        _require(len(self.widths) >= 2, f"widths has {len(self.widths)} entries; a U-Net has two levels or more")
        _require_encoder(self, len(self.widths))
        _require(
            self.image_size % self.stride == 0 and self.image_size >= 2 * self.stride,
            f"image_size {self.image_size} is no multiple of {self.stride}, or only one; choose {2 * self.stride} or more",
        )

    @property
    def stride(self) -> int:
        """Pixels per cell of the deepest feature map; image sides must be multiples of it."""
        return self.stem * 2 ** (len(self.widths) - 1)


ModelConfig = V1Config | V2Config | UNetConfig

Mirror = Literal["none", "horizontal", "both"]
"""Mirror images of an image: none, left to right, or left to right, top to bottom and both."""

VIEWS: dict[Mirror, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}
"""The image itself and its mirror images, each by the axes of (h, w) along which it is flipped."""

TASK_NAME = re.compile(r"(?!\.)[\w .-]{0,100}")
"""The name of a task. Files are named after it, and a stranger may have chosen it; empty is the default of `checkpoint`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The task and data that a checkpoint was trained on, as shown in model cards and on the page."""

    task: str  # "skin-lesion"
    modality: str  # "dermoscopy"
    labels: tuple[str, ...]  # names of classes 1..K
    source: str = ""  # data set and citation
    licence: str = ""  # of the data, and what follows for the weights
    mean: tuple[float, ...] = ()  # per channel over the training images, in [-1, 1]
    std: tuple[float, ...] = ()
    # Share of the image's sides, about its centre, that the network sees; everything outside is background.
    field: float = dataclasses.field(default=1.0, metadata={"later": True})
    # Pattern of the patient in file names, first group; intervals are then over patients.
    patient: str = dataclasses.field(default="", metadata={"later": True})
    channels: tuple[str, ...] = dataclasses.field(default=(), metadata={"later": True})  # what red, green and blue are
    # Whether a reader may judge that an image shows no target; averaging with the anchor then depends on the overlap (F39).
    may_be_absent: bool = dataclasses.field(default=False, metadata={"later": True})
    # Across which volumes are sliced (0 sagittal, 1 coronal, 2 axial), and how their grey values are windowed; None is as
    # `data.tasks` has it for the task.
    axis: int | None = dataclasses.field(default=None, metadata={"later": True})
    intensity: Intensity | None = dataclasses.field(default=None, metadata={"later": True})
    # Of the members' probabilities (F40), fitted by `calibrate` on training images that were held out; 1 leaves them as they are.
    temperature: float = dataclasses.field(default=1.0, metadata={"later": True})
    # How members are fused unless a run says otherwise.
    fuse: Literal["staple", "mean", "vote", "anchored"] = dataclasses.field(default="staple", metadata={"later": True})
    # Weight of the anchor in x_0 at every step unless a run says otherwise; of several readers' data `calibrate` chooses it.
    anchor_weight: float = dataclasses.field(default=0.0, metadata={"later": True})
    # Which mirror images the members are spread over unless a run says otherwise (F43); `calibrate` chooses it.
    mirror: Mirror = dataclasses.field(default="none", metadata={"later": True})

    @property
    def noise(self) -> Literal["independent", "stratified"]:
        """How the members' noise is drawn unless a run says otherwise (F42)."""
        return "stratified" if self.may_be_absent else "independent"

    def __post_init__(self) -> None:
        for name in ("labels", "mean", "std", "channels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _require_limits(self)
        _require(
            TASK_NAME.fullmatch(self.task) is not None,
            f"task is {self.task!r:.60}; use letters, digits, spaces, '_', '.' and '-', not '.' first, at most 100 characters",
        )
        _require(
            0 < self.field <= 1, f"field is {self.field}; it is a share of the picture's sides, above 0, at most 1"
        )
        _require(self.axis in (None, 0, 1, 2), f"axis is {self.axis}; choose 0 (sagittal), 1 (coronal) or 2 (axial)")
        _require(self.temperature > 0, f"temperature is {self.temperature}; it is above 0, 1 for none")
        _require(0 <= self.anchor_weight <= 1, f"anchor_weight is {self.anchor_weight}; it is a weight from 0 to 1")
        _require(self.mirror in VIEWS, f"mirror is {self.mirror!r}; choose {', '.join(VIEWS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run. All randomness of iteration i depends on (seed, i) only, so a resumed run gives the same result."""

    iterations: int = 100_000
    batch: int = 32  # images per iteration [P]
    draws: int = 1  # samples of t and noise per image; V2's condition network runs once for all of them
    learning_rate: float = 1e-4  # [P]
    warmup: int = 0  # iterations of linear warm-up; then cosine decay to 1 % unless `constant`
    constant: bool = True  # keep the rate after the warm-up [P]
    weight_decay: float = 0.0
    clip: float = 1.0  # maximum gradient norm
    ema: float = 0.9999
    alpha: int = 5  # the anchor is supervised where t mod alpha = 0, per sample [from memory of V2]
    beta: float = 10.0  # weight of cross-entropy beside Dice [from memory of V2]
    anchor_dice: float = 1.0  # weight of the anchor's soft Dice; 0 leaves cross-entropy alone [ours] (F34)
    dice: float = 0.0  # weight of soft Dice on x_0 beside the noise loss [ours]; 0 is the paper
    unroll: float = 0.0  # share of samples whose x_t comes from the network's own predictions; 0 as in the papers (F28)
    anchor_first: int = 0  # first iterations, in which V2's condition network is trained alone; 0 as in the paper (F30)
    frozen: bool = False  # keep V2's condition network fixed and train only the denoiser
    balance: float = 0.0  # an image weighs (marked area)^-balance in the loss, so that small targets count (F36)
    augment: bool = True
    strong: bool = False  # augment as widely as nnU-Net does
    field: float = 1.0  # share of the image's sides that the network sees (`Domain.field`)
    encoder_rate: float = 0.1  # learning rate of a pretrained encoder relative to the rest
    band_rate: float = 1.0  # learning rate of the NBP-Filters relative to the rest; if not 1, they have no weight decay
    phantoms: float = 0.0  # share of synthetic images among the training images
    held: int = 0  # training images held out, by patient or volume, to select the best state; 0 keeps the last state
    seed: int = 0

    def __post_init__(self) -> None:
        _require(0 <= self.phantoms < 1, f"phantoms is {self.phantoms}; the share of drawn pictures is below 1")
        _require(
            self.augment or not self.strong, "strong is a kind of augmentation, which augment switches off; choose one"
        )
        _require(self.held >= 0, "held is a number of pictures, 0 or more")
        _require(
            0 < self.field <= 1, f"field is {self.field}; it is a share of the picture's sides, above 0, at most 1"
        )
        _require(
            self.encoder_rate >= 0, f"encoder_rate is {self.encoder_rate}; it multiplies the learning rate, 0 or more"
        )
        _require(self.band_rate > 0, f"band_rate is {self.band_rate}; it multiplies the learning rate, above 0")
        _require(0 <= self.balance <= 1, f"balance is {self.balance}; it is an exponent, 0 (pictures weigh alike) to 1")
        for name in ("anchor_dice", "beta", "dice", "weight_decay"):
            weight = getattr(self, name)
            _require(0 <= weight < math.inf, f"{name} is {weight}; a weight is a number of 0 or more")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"{name} is {value}; choose a number above 0")
        _require(0 <= self.ema <= 1, f"ema is {self.ema}; it is a decay from 0 (no average) to 1")
        _require(self.warmup >= 0, f"warmup is {self.warmup}; it is a number of iterations, 0 or more")
        _require(0 <= self.unroll <= 1, f"unroll is {self.unroll}; it is a share of the samples, 0 to 1")
        _require(self.alpha >= 1, f"alpha is {self.alpha}; the anchor is supervised every alpha-th step, from 1 on")
        _require(min(self.iterations, self.batch, self.draws) >= 1, "iterations, batch and draws must be at least 1")
        _require(
            0 <= self.anchor_first < self.iterations,
            f"anchor_first is {self.anchor_first} of {self.iterations} iterations; leave some to the denoiser",
        )
        _require(not (self.frozen and self.anchor_first), "a frozen condition network cannot learn first; choose one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A network, its diffusion and its training recipe."""

    model: ModelConfig
    diffusion: DiffusionConfig  # unused by a plain U-Net
    training: TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of a run: everything that a mask depends on besides the image and the checkpoint."""

    members: int = 5
    steps: int = 10  # 0: anchor only (V2, plain U-Net), without diffusion
    tolerance: float = 0.0  # stop early when the remaining steps should change 1 - Dice by less than this; 0 never
    sampler: str = "ddim"  # a key of sampling.SAMPLERS
    spacing: str = "trailing"  # one of sampling.SPACINGS: which timesteps are sampled at
    eta: float = 0.0  # DDIM only: 0 deterministic, 1 as much noise as DDPM
    # V2: weight of the anchor in x_0 at every step (F31); 0 as in the paper; None: the one recorded in the checkpoint
    anchor_weight: float | None = None
    fuse: Literal["auto", "staple", "mean", "vote", "anchored"] = "auto"  # auto: of the checkpoint (`Domain.fuse`)
    # V2: x_T of the members; stratified: spread evenly along the anchor (F42); auto: where the target may be absent
    noise: Literal["auto", "independent", "stratified"] = "auto"
    # the members take turns among the image and these mirror images of it (F43); auto: of the checkpoint (`Domain.mirror`)
    mirror: Literal["auto"] | Mirror = "auto"
    seed: int = 0
    size: int = 0  # network resolution in pixels; 0 is the training size
    switches: Switches = dataclasses.field(default_factory=Switches)
    trace: bool = False  # record what the components computed at every step

    def __post_init__(self) -> None:
        _require(1 <= self.members <= 100, f"members is {self.members}; choose 1 to 100")
        _require(0 <= self.steps <= 1000, f"steps is {self.steps}; choose 1 to 1000, or 0 for no denoising")
        _require(0 <= self.tolerance < 1, f"tolerance is {self.tolerance}; it is a change in 1 - Dice, 0 to 1")
        _require(0 <= self.eta <= 1, f"eta is {self.eta}; choose 0 to 1")
        _require(0 <= (self.anchor_weight or 0) <= 1, f"anchor_weight is {self.anchor_weight}; choose 0 to 1")
        _require(
            self.fuse in ("auto", "staple", "mean", "vote", "anchored"),
            f"fuse is {self.fuse!r}; choose auto, staple, mean, vote or anchored",
        )
        _require(
            self.noise in ("auto", "independent", "stratified"),
            f"noise is {self.noise!r}; choose auto, independent or stratified",
        )
        _require(
            self.mirror == "auto" or self.mirror in VIEWS, f"mirror is {self.mirror!r}; choose auto, {', '.join(VIEWS)}"
        )
        _require(0 <= self.seed < 2**63, f"seed is {self.seed}; choose 0 to 2^63 - 1")


_PAPER = DiffusionConfig()
_SMALL = DiffusionConfig(parametrization="x_0", scale=0.2)
_PAPER_TRAINING = TrainConfig()
_SMALL_TRAINING = TrainConfig(
    iterations=3000,
    batch=16,
    learning_rate=1e-3,
    warmup=200,
    constant=False,
    weight_decay=1e-2,
    ema=0.998,
    alpha=1,
    beta=1.0,
    phantoms=0.1,
)
_V1_B = V1Config()
_V2_BASE = V2Config()

PRESETS: dict[str, Preset] = {
    "v1-tiny": Preset(
        model=V1Config(widths=(24, 48, 72, 96)),
        diffusion=_SMALL,
        training=_SMALL_TRAINING,
    ),
    "v1-s": Preset(model=replace(_V1_B, stem=2, widths=(48, 96, 192, 256)), diffusion=_PAPER, training=_PAPER_TRAINING),
    "v1-b": Preset(model=_V1_B, diffusion=_PAPER, training=_PAPER_TRAINING),
    "v1-l": Preset(
        model=replace(_V1_B, stem=8, widths=(96, 192, 384, 640)),
        diffusion=_PAPER,
        training=replace(_PAPER_TRAINING, batch=64),
    ),
    "v1-++": Preset(
        model=replace(_V1_B, stem=8, widths=(128, 256, 512, 1024), decoder_blocks=2),
        diffusion=_PAPER,
        training=replace(_PAPER_TRAINING, batch=64),
    ),
    "v2-tiny": Preset(
        model=V2Config(
            stem=4,
            widths=(32, 64, 96, 128),
            condition_widths=(32, 64, 96, 128),
            blocks=1,
            token_width=128,
            nbp_blocks=3,
            nbp_width=8,
        ),
        diffusion=_SMALL,
        training=_SMALL_TRAINING,
    ),
    "v2-base": Preset(model=_V2_BASE, diffusion=_PAPER, training=_PAPER_TRAINING),
    "unet-tiny": Preset(model=UNetConfig(), diffusion=DiffusionConfig(), training=_SMALL_TRAINING),
}
