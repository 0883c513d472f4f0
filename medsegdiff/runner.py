"""A network at work: without gradients, in the precision of its device, its samples shared out among the processor's cores.

A step is some four hundred small operations. Two cores inside each of them wait for one another as often, and each reads what
the other has just written. The samples of a batch never meet in these networks, so on a processor every core takes its own
samples through the whole network, alone: the same numbers but for rounding, and one meeting a step instead of hundreds.
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

from medsegdiff.records import (
    AffinityTrace,
    AnchorTrace,
    Condition,
    Denoiser,
    Prediction,
    SpectralTrace,
    Switches,
    Trace,
)

__all__ = ["Runner", "workers"]

R = TypeVar("R", AffinityTrace, AnchorTrace, SpectralTrace)


@cache
def workers(count: int) -> ThreadPoolExecutor:
    """Return the process's `count` threads that compute each operation on one core; whoever asks shares them."""
    all_there = Barrier(count)

    def alone() -> None:
        torch.get_num_threads()  # a thread is given the process's number when first asked, and only then keeps its own
        torch.set_num_threads(1)
        all_there.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "samples", initializer=alone)
    for started in [pool.submit(int) for _ in range(count)]:
        started.result()
    torch.set_num_threads(before)  # setting it in a thread sets it for all threads that are yet to come
    return pool


@dataclass(frozen=True, slots=True)
class Runner:
    """A denoiser as samplers know it. Precision and grad mode belong to a thread, so both are entered at every call.

    Arguments:
        model: the network, on its device.
        dtype: of the heavy arithmetic.
        cores: that share out a batch; 1 leaves it whole, as a GPU wants it.
    """

    model: Denoiser
    device: torch.device
    dtype: torch.dtype
    cores: int = 1

    @torch.no_grad()
    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Compute what depends on the image alone."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model.encode(image)

    def __call__(
        self,
        x_t: Float[Tensor, "b k h w"],
        t: Int[Tensor, " u"],
        condition: Condition,
        *,
        trace: bool = False,
        switches: Switches = Switches(),
    ) -> Prediction:
        """Predict from a noisy mask; the batch stays whole where every sample has its own t, or cores outnumber samples."""
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
    """Keep the images of some samples; one image serves them all."""
    if len(condition.features[0]) == 1:
        return condition
    return Condition(tuple(f[rows] for f in condition.features), tuple(a[rows] for a in condition.anchor_logits))


def _joined(answers: list[Prediction], one_image: bool) -> Prediction:
    """Put the answers for some samples each back together; what is the same for all samples is the first's."""
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
    """Concatenate some fields of records that agree in all others."""
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
