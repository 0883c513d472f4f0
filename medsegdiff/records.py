"""Records that networks, samplers and the pipeline exchange.

Symbols used in shapes and formulas throughout the package:

    b   samples (ensemble members are samples)     h w   pixels
    c   image channels                             t     integer step, 0 the cleanest, T-1 the noisiest
    k   mask channels (1 for one class, else       s     the step after t in sampling, s < t; -1 is clean
        classes + 1, background first)             n     tokens of the SS-Former
    x_0 a clean mask in [-scale, scale]            x_t   a noisy one
    image in [-1, 1]                               anchor, probability in [0, 1]

All records are frozen. A component that a network does not have is an empty tuple, never None.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medsegdiff.switches import Interventions as Interventions
from medsegdiff.switches import Switches as Switches

__all__ = [
    "AffinityTrace",
    "AnchorTrace",
    "BandTrace",
    "Condition",
    "Denoiser",
    "Interventions",
    "Prediction",
    "SpectralTrace",
    "Step",
    "Switches",
    "Trace",
    "View",
]


@dataclass(frozen=True, slots=True)
class SpectralTrace:
    """One FF-Parser at one step. Spectra are two-sided and centred (zero frequency in the middle)."""

    stage: str
    before: Float[Tensor, "b h w"]  # log10 of the channel-mean power |M|^2
    after: Float[Tensor, "b h w"]  # the same of A * M
    gain: Float[Tensor, "c h w"]  # |A|, per channel
    phase: Float[Tensor, "c h w"]  # arg A in radians, per channel


@dataclass(frozen=True, slots=True)
class AffinityTrace:
    """Affinity of image and mask features: V1's normalised product as a map, or V2's n x n matrix over token frequencies."""

    stage: str
    affinity: Float[
        Tensor, "b p q"
    ]  # V1: channel mean of LN(m_I) * LN(m_x), p q = h w; V2: head mean of |M|, p q = n n
    kind: Literal["cells", "tokens"] = "cells"  # V1's or V2's


@dataclass(frozen=True, slots=True)
class BandTrace:
    """The NBP-Filter's surface at this t, the same for every sample."""

    stage: str
    surface: Float[Tensor, "1 n n"]  # in (0, 1); both axes are centred token frequencies


@dataclass(frozen=True, slots=True)
class AnchorTrace:
    """The anchor condition at one step: channel means, also of the gates if there is one for each channel (F44)."""

    stage: str
    raw: Float[Tensor, "a h w"]  # f_c^-1; a = 1 if all members share one image
    smoothed: Float[Tensor, "a h w"]  # f_c^-1 * k_Gauss
    maximum: Float[Tensor, "a h w"]  # element-wise maximum of the two, then the mean
    gate: Float[Tensor, "a h w"]  # Sigmoid(f_anc * k_1x1), in (0, 1)
    mean: Float[Tensor, "c 2"]  # learned centre (x, y) of each channel's Gaussian, in cells of this level
    sigma: Float[Tensor, "c 2"]  # learned standard deviation (x, y), in cells of this level


@dataclass(frozen=True, slots=True)
class Trace:
    """Intermediate results of one step, recorded on request; otherwise empty."""

    spectra: tuple[SpectralTrace, ...] = ()
    affinities: tuple[AffinityTrace, ...] = ()
    bands: tuple[BandTrace, ...] = ()
    anchors: tuple[AnchorTrace, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """Features that depend on the image only: computed once per image and shared by all steps and members.

    A batch of one image broadcasts over any number of members.
    """

    features: tuple[Tensor, ...]  # each (i, c', h', w'), i images, shallow to deep; their meaning is up to the network
    anchor_logits: tuple[Float[Tensor, "i k h w"], ...] = ()  # V2: logits of the condition network's mask; V1 has none
    views: tuple["View", ...] = ()  # of mirror images, if the members are spread over them (F43); else empty
    flips: tuple[tuple[int, ...], ...] = ()  # of each image, the axes along which it was flipped; empty if none was

    def repeat(self, members: int) -> "Condition":
        """Repeat each of i images for `members` consecutive samples: (i, ...) -> (i * members, ...)."""
        return Condition(
            tuple(f.repeat_interleave(members, 0) for f in self.features),
            tuple(a.repeat_interleave(members, 0) for a in self.anchor_logits),
        )

    def for_members(self, members: int) -> "Condition":
        """Return the condition of every member: consecutive ones take turns among the image and its mirror images.

        A single image without mirror images is returned as it is, and broadcasts.
        """
        if not self.views:
            return self if len(self.features[0]) == 1 else self.repeat(members)
        features = zip(self.features, *(view.features for view in self.views), strict=True)
        flips = ((), *(view.flip for view in self.views))
        turns = [member % len(flips) for member in range(members)]
        return Condition(
            tuple(torch.stack(views, 1)[:, turns].flatten(0, 1) for views in features),
            tuple(a.repeat_interleave(members, 0) for a in self.anchor_logits),
            flips=tuple(flips[turn] for turn in turns) * len(self.features[0]),
        )

    def select(self, rows: Bool[Tensor, " i"] | slice) -> "Condition":
        """Select some of the images."""
        return Condition(tuple(f[rows] for f in self.features), tuple(a[rows] for a in self.anchor_logits))


@dataclass(frozen=True, slots=True)
class View:
    """Features of a mirror image."""

    flip: tuple[int, ...]  # axes, of (h, w), along which the image was flipped
    features: tuple[Tensor, ...]  # as in `Condition`


@dataclass(frozen=True, slots=True)
class Prediction:
    """Output of a denoiser, in the parametrisation it was trained with (`schedule.Diffusion` converts it)."""

    output: Float[Tensor, "b k h w"]  # epsilon, v, or the logits of x_0
    variance: Float[Tensor, "b k h w"] | None = (
        None  # learned fraction in [-1, 1] between the two bounds of log-variance
    )
    trace: Trace = Trace()


@dataclass(frozen=True, slots=True)
class Step:
    """One sampling step, as yielded by `sampling.denoise`."""

    index: int  # 0 ... total - 1
    total: int
    t: int  # timestep before the step
    s: int  # timestep after the step; -1 is the clean mask
    x_t: Float[Tensor, "b k h w"]  # state at t, the input of the network
    x_s: Float[Tensor, "b k h w"]  # state at s
    x_0: Float[Tensor, "b k h w"]  # predicted clean mask, in [-scale, scale]
    trace: Trace = Trace()


class Denoiser(Protocol):
    """Interface of a network for samplers and training."""

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Compute the features that depend on the image only."""
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
