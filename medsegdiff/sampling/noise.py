"""Random streams of noise, one per ensemble member; the only random numbers of sampling.

Member m uses the m-th child of the run's seed. It gets the same x_T and the same fresh noise for any number of members, computed
together or in portions, on a CPU or a GPU: noise is drawn on the CPU in float32 and then moved. (Network outputs still differ
in the last digits between devices and batch sizes.)

`stratified` spreads the members of a run evenly in the one direction of x_T that decides whether a member marks the target.

References:
    SeedSequence spawning, https://numpy.org/doc/stable/reference/random/parallel.html
    Stratified sampling (Owen, 2013, Monte Carlo theory, methods and examples, chapter 8), https://artowen.su.domains/mc/
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MemberNoise", "stratified"]

_SHARE = 7  # the anchor is averaged over about a seventh of the sides, 9 of 64 pixels


class MemberNoise:
    """The noise of one run, drawn per member. Drawing advances the streams, so create a new object for each run.

    Arguments:
        seed: of the run, 0 or greater.
        members: number of members drawn together.
        first: index of the first of them, for an ensemble computed in portions.
        images: number of images sampled together; each gets the noise it would get alone.
    """

    def __init__(self, seed: int, members: int, first: int = 0, images: int = 1) -> None:
        self.members, self.images = members * images, images
        self.generators = [_generator(seed, member) for member in range(first, first + members)]

    def draw(self, shape: Sequence[int], like: Tensor) -> Float[Tensor, "members k h w"]:
        """Draw standard normal noise of `shape` (k, h, w) for every member, with the dtype and device of `like`."""
        drawn = torch.stack([torch.randn(shape, generator=generator) for generator in self.generators])
        return drawn.to(like).repeat(self.images, *(1 for _ in shape))


def _generator(seed: int, member: int) -> torch.Generator:
    # One 32-bit word: torch's CPU generator ignores the rest of a seed.
    word = np.random.SeedSequence(seed, spawn_key=(member,)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(word))


def stratified(
    x_T: Float[Tensor, "b k h w"], anchor: Float[Tensor, "i _ h w"], images: int = 1
) -> Float[Tensor, "b k h w"]:
    """Spread the members' noise evenly along the direction of the anchor, class by class (F42).

    With u the anchor's probability of a class, averaged over a square around each pixel and scaled to norm 1, the projections
    p_j = <x_T,j, u> of m members become

        q_j = Phi^-1( (r_j + Phi(sqrt(m) mean(p))) / m ),     r_j = 0 ... m - 1, the rank of p_j,

    one in each of m equally probable strata. Every x_T,j is still standard normal: ranks of independent values are uniform,
    and independent of the values' mean, so q_j is Phi^-1 of a uniform number. But the members of a run are no longer
    independent. A member follows from all of them, so it changes with their number; a single member stays as it is.

    Arguments:
        x_T: standard normal noise, the m members of an image one after the other.
        anchor: class probabilities of each image, background first.
        images: how many images x_T belongs to.
    """
    reach = round((anchor.shape[-1] / _SHARE - 1) / 2)
    anchor = anchor[:, 1:].cpu().double()  # where the noise was drawn; not every accelerator has double precision
    directions = F.avg_pool2d(anchor, 2 * reach + 1, stride=1, padding=reach)
    norms = directions.square().sum((2, 3), keepdim=True).sqrt()
    directions = torch.where(norms > 0, directions / norms, 0.0)
    classes = slice(x_T.shape[1] - directions.shape[1], None)  # of several classes, the first channel is the background
    x = x_T.cpu().double().unflatten(0, (images, -1))
    members = x.shape[1]
    p = (x[:, :, classes] * directions[:, None]).sum((3, 4), keepdim=True)
    shift = torch.special.ndtr(p.mean(1, keepdim=True) * members**0.5)
    q = torch.special.ndtri((p.argsort(1).argsort(1) + shift) / members)
    x[:, :, classes] += torch.where(norms[:, None] > 0, q - p, 0.0) * directions[:, None]
    return x.flatten(0, 1).to(x_T)
