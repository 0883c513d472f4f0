"""The nouns: what travels between the rooms of this house.

One vocabulary, repeated nowhere else:

    b   samples (ensemble members are samples)     h w   pixels
    c   image channels                             t     integer step, 0 the cleanest, T-1 the noisiest
    k   mask channels (1 for one class, else       s     the step after t in sampling, s < t; -1 is clean
        classes + 1, background first)             n     tokens of the SS-Former
    x_0 a clean mask in [-scale, scale]            x_t   a noisy one
    image in [-1, 1]                               anchor, probability in [0, 1]

Every record is frozen. A part that a network does not have leaves an empty tuple, never a None to ask about.
"""

import math
from dataclasses import dataclass, fields
from typing import Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "AffinityTrace",
    "AnchorTrace",
    "BandTrace",
    "Condition",
    "Denoiser",
    "Interventions",
    "Prediction",
    "Progress",
    "SpectralTrace",
    "Step",
    "Switches",
    "Trace",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Which named parts take part; False bypasses one, at run time or (in a config) for good.

    A switch of a part that the network does not have changes nothing.
    """

    dynamic_encoding: bool = True  # V1 eq. 3
    ff_parser: bool = True  # V1 eq. 4-6
    anchor: bool = True  # V2 anchor condition (Gaussian spatial attention)
    ss_former: bool = True  # V2 semantic condition
    nbp: bool = True  # V2 NBP-Filter (or its sine variant) on the affinity

    def __and__(self, other: "Switches") -> "Interventions":
        """What a run asks for, within what a network has."""
        both = {f.name: getattr(self, f.name) and getattr(other, f.name) for f in fields(Switches)}
        return Interventions(**{f.name: getattr(self, f.name) for f in fields(self)} | both)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interventions(Switches):
    """Switches, and what takes the place of a learned quantity while a network runs; never part of a config.

    A substitute for a quantity that the network does not have changes nothing.
    """

    profile: tuple[float, ...] = ()
    """In the place of every FF-Parser's A: real gains at evenly spaced radial frequencies, the first at 0, the last at
    the corner of the spectrum, sqrt(1/2) cycles per cell; linear between them, the same for all channels. Empty: A."""
    sigma: float = 0.0  # in the place of every learned sigma of V2's Gaussians, in cells; 0: the learned ones

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", tuple(map(float, self.profile)))
        if len(self.profile) == 1 or not all(0 <= gain <= 4 for gain in self.profile):
            raise ValueError(
                f"profile has the {len(self.profile)} gains {self.profile!s:.60}; give 2 or more, each 0 to 4"
            )
        if not 0 <= self.sigma <= 100:
            raise ValueError(f"sigma is {self.sigma}; choose 0 (the learned ones) to 100 cells")


@dataclass(frozen=True, slots=True)
class SpectralTrace:
    """One FF-Parser at one step. Spectra are centred (zero frequency in the middle), the full h x w plane."""

    stage: str
    before: Float[Tensor, "b h w"]  # log10 of the channel-mean power |M|^2
    after: Float[Tensor, "b h w"]  # the same of A * M
    gain: Float[Tensor, "c h w"]  # |A|, per channel
    phase: Float[Tensor, "c h w"]  # arg A in radians, per channel


@dataclass(frozen=True, slots=True)
class AffinityTrace:
    """Where two streams agree: V1's normalised product as a map, or V2's n x n matrix of token frequencies."""

    stage: str
    affinity: Float[
        Tensor, "b p q"
    ]  # V1: channel mean of LN(m_I) * LN(m_x), p q = h w; V2: head mean of |M|, p q = n n


@dataclass(frozen=True, slots=True)
class BandTrace:
    """The NBP-Filter's surface at this t, the same for every sample."""

    stage: str
    surface: Float[Tensor, "1 n n"]  # in (0, 1); both axes are centred token frequencies


@dataclass(frozen=True, slots=True)
class AnchorTrace:
    """The anchor on its way into the diffusion network; channel means except the gate, which is one map."""

    stage: str
    raw: Float[Tensor, "a h w"]  # f_c^-1; a = 1 when one image serves every member
    smoothed: Float[Tensor, "a h w"]  # f_c^-1 * k_Gauss
    maximum: Float[Tensor, "a h w"]  # max of the two, element by element before the mean
    gate: Float[Tensor, "a h w"]  # Sigmoid(f_anc * k_1x1), in (0, 1)
    mean: Float[Tensor, "c 2"]  # learned centre (x, y) of each channel's Gaussian, in cells of this level
    sigma: Float[Tensor, "c 2"]  # learned standard deviation (x, y), in cells of this level


@dataclass(frozen=True, slots=True)
class Trace:
    """What a network was asked to tell about one step; empty unless asked."""

    spectra: tuple[SpectralTrace, ...] = ()
    affinities: tuple[AffinityTrace, ...] = ()
    bands: tuple[BandTrace, ...] = ()
    anchors: tuple[AnchorTrace, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """All that depends on the image alone: computed once per image, shared by every step and member.

    `features` and `anchor_logits` are the network's own; a batch of one image broadcasts over any number of members.
    """

    features: tuple[
        Tensor, ...
    ]  # each (i, c', h', w'), i images, shallow to deep; only the network that made it knows more
    anchor_logits: tuple[Float[Tensor, "i k h w"], ...] = ()  # V2: the condition network's own opinion; V1 has none

    def repeat(self, members: int) -> "Condition":
        """Give each of i images `members` consecutive samples: (i, ...) -> (i * members, ...)."""
        return Condition(
            tuple(f.repeat_interleave(members, 0) for f in self.features),
            tuple(a.repeat_interleave(members, 0) for a in self.anchor_logits),
        )

    def select(self, rows: Bool[Tensor, " i"]) -> "Condition":
        """Keep some of the images."""
        return Condition(tuple(f[rows] for f in self.features), tuple(a[rows] for a in self.anchor_logits))


@dataclass(frozen=True, slots=True)
class Prediction:
    """One evaluation of a denoiser, in the parametrisation it was trained in (`schedule.Diffusion` converts)."""

    output: Float[Tensor, "b k h w"]  # epsilon, v, or the logits whose squashed value is x_0
    variance: Float[Tensor, "b k h w"] | None = (
        None  # learned fraction in [-1, 1] between the two bounds of log-variance
    )
    trace: Trace = Trace()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of sampling, as its iterator yields it."""

    index: int  # 0 ... total - 1
    total: int
    t: int  # the step left
    s: int  # the step reached; -1 means clean
    x_t: Float[Tensor, "b k h w"]  # the state left, at t: what the network saw
    x_s: Float[Tensor, "b k h w"]  # the state reached, at s
    x_0: Float[Tensor, "b k h w"]  # what the network believes the clean mask to be, in [-scale, scale]
    trace: Trace = Trace()


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a long run is done, yielded between its results."""

    done: float  # steps or slices; a slice in progress counts in part
    total: int
    left: float = math.nan  # seconds, estimated; nan before there is an estimate
    part: object = None  # which of several runs it is, where there are several


class Denoiser(Protocol):
    """What samplers, training and tests know of a network."""

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Compute what depends on the image alone."""
        ...

    def __call__(
        self,
        x_t: Float[Tensor, "b k h w"],
        t: Int[Tensor, " u"],
        condition: Condition,
        *,
        trace: bool = False,
        switches: Switches = ...,
    ) -> Prediction:
        """Predict from a noisy mask; `t` holds one step for all samples (u = 1) or one for each (u = b)."""
        ...
