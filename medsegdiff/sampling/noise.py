"""Random streams of noise, one per ensemble member; the only random numbers of sampling.

Member m uses the m-th child of the run's seed. It gets the same x_T and the same fresh noise for any number of members, computed
together or in portions, on a CPU or a GPU: noise is drawn on the CPU in float32 and then moved. (Network outputs still differ
in the last digits between devices and batch sizes.)

References:
    SeedSequence spawning, https://numpy.org/doc/stable/reference/random/parallel.html
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["MemberNoise"]


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
