"""Run a network for inference, with the samples of a batch divided among CPU cores.

A step consists of about four hundred small operations. Parallelising inside each of them means hundreds of synchronisations and
shared cache lines per step. The samples of a batch are independent in these networks, so on a CPU each core runs the whole
network on its own samples, with one synchronisation per step and the same results up to rounding.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from threading import Barrier
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medsegdiff.config import VIEWS, Mirror
from medsegdiff.records import (
    AffinityTrace,
    AnchorTrace,
    Condition,
    Denoiser,
    Prediction,
    SpectralTrace,
    Switches,
    Trace,
    View,
)

__all__ = ["Runner", "workers"]

R = TypeVar("R", AffinityTrace, AnchorTrace, SpectralTrace)


@cache
def workers(count: int) -> ThreadPoolExecutor:
    """Return a pool of `count` threads, shared in the process, each of which computes on one core."""
    all_there = Barrier(count)

    def alone() -> None:
        torch.get_num_threads()  # a thread gets the process-wide number at its first query; only then can it keep its own
        torch.set_num_threads(1)
        all_there.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "samples", initializer=alone)
    for started in [pool.submit(int) for _ in range(count)]:
        started.result()
    torch.set_num_threads(before)  # setting it in a thread also sets it for all threads created later
    return pool


@dataclass(frozen=True, slots=True)
class Runner:
    """A `Denoiser` for inference. Autocast and grad mode are per thread, so both are set at every call.

    Arguments:
        model: the network, on its device.
        dtype: of convolutions and matrix products.
        cores: number of parts that a batch is divided into; 1 for a GPU.
    """

    model: Denoiser
    device: torch.device
    dtype: torch.dtype
    cores: int = 1

    @torch.no_grad()
    def encode(self, image: Float[Tensor, "i c h w"], mirror: Mirror = "none") -> Condition:
        """Compute the features that depend on the image only, in float32: once per image, so a lower precision saves little.

        With mirror images the anchor's logits are the mean over the image and them, turned back (F43).
        """
        condition = self.model.encode(image)
        if mirror == "none":
            return condition
        others = {flip: self.model.encode(image.flip(flip)) for flip in VIEWS[mirror] if flip}
        turned = [tuple(a.flip(flip) for a in other.anchor_logits) for flip, other in others.items()]
        logits = zip(condition.anchor_logits, *turned, strict=True)
        return Condition(
            condition.features,
            tuple(torch.stack(views).mean(0) for views in logits),
            tuple(View(flip, other.features) for flip, other in others.items()),
        )

    def __call__(
        self,
        x_t: Float[Tensor, "b k h w"],
        t: Int[Tensor, " u"],
        condition: Condition,
        *,
        trace: bool = False,
        switches: Switches = Switches(),
    ) -> Prediction:
        """Predict from a noisy mask; a batch is divided only if all samples share t and there are enough of them.

        Samples whose image was flipped are flipped for the network and back. Traces stay as the network saw the sample.
        """
        if condition.flips:
            seen = replace(condition, flips=())
            told = self(_flipped(x_t, condition.flips), t, seen, trace=trace, switches=switches)
            variance = None if told.variance is None else _flipped(told.variance, condition.flips)
            return replace(told, output=_flipped(told.output, condition.flips), variance=variance)
        if len(t) > 1 or not 1 < self.cores <= len(x_t):
            return self._evaluate(x_t, t, condition, trace, switches)
        shares = x_t.tensor_split(self.cores)
        rows = [slice(*ends) for ends in pairwise(accumulate((len(share) for share in shares), initial=0))]

        def part(share: Tensor, rows: slice) -> Prediction:
            return self._evaluate(share, t, _some(condition, rows), trace, switches)

        answers = list(workers(self.cores).map(part, shares, rows))
        return _joined(answers, len(condition.features[0]) == 1)

    @torch.no_grad()
    def _evaluate(self, x_t: Tensor, t: Tensor, condition: Condition, trace: bool, switches: Switches) -> Prediction:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model(x_t, t, condition, trace=trace, switches=switches)


def _some(condition: Condition, rows: slice) -> Condition:
    """Select the images of some samples; a single image is shared by all."""
    return condition if len(condition.features[0]) == 1 else condition.select(rows)


def _flipped(x: Float[Tensor, "b k h w"], flips: tuple[tuple[int, ...], ...]) -> Float[Tensor, "b k h w"]:
    """Flip every sample along its own axes."""
    turned = x.clone()
    for flip in {*flips} - {()}:
        rows = [row for row, own in enumerate(flips) if own == flip]
        turned[rows] = x[rows].flip(flip)
    return turned


def _joined(answers: list[Prediction], one_image: bool) -> Prediction:
    """Concatenate the predictions of all parts; values shared by all samples are taken from the first."""
    variances = [answer.variance for answer in answers if answer.variance is not None]
    traces = [answer.trace for answer in answers]
    anchors = () if one_image else ("raw", "smoothed", "maximum", "gate")
    trace = Trace(
        spectra=tuple(_stacked(parts, ("before", "after")) for parts in zip(*(t.spectra for t in traces), strict=True)),
        affinities=tuple(_stacked(parts, ("affinity",)) for parts in zip(*(t.affinities for t in traces), strict=True)),
        bands=traces[0].bands,
        anchors=tuple(_stacked(parts, anchors) for parts in zip(*(t.anchors for t in traces), strict=True)),
    )
    output = torch.cat([answer.output for answer in answers])
    return Prediction(output, torch.cat(variances) if variances else None, trace)


def _stacked(parts: tuple[R, ...], names: tuple[str, ...]) -> R:
    """Concatenate some fields of records whose other fields are equal."""
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
