"""One stream of noise per ensemble member; the only place in sampling that draws.

Member m of a run is the m-th child of the run's seed. It starts from the same x_T and meets the same fresh noise
whether five members were asked for or fifty, together or in portions, on a CPU or on a GPU: draws are made on the
CPU, in float32, and then moved. (What a network makes of them still differs in the last digits between devices and
batch sizes.)

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
    """The noise of one run, drawn member by member. Streams move on with every draw: make one for each run.

    Arguments:
        seed: of the run, 0 or greater.
        members: how many samples are drawn together.
        first: index of the first of them, for an ensemble computed in portions.
        images: how many images are sampled together; each meets the noise it would meet alone.
    """

    def __init__(self, seed: int, members: int, first: int = 0, images: int = 1) -> None:
        self.members, self.images = members * images, images
        self.generators = [_generator(seed, member) for member in range(first, first + members)]

    def draw(self, shape: Sequence[int], like: Tensor) -> Float[Tensor, "members k h w"]:
        """Draw standard normal noise of `shape` (k, h, w) for every member, with the dtype and device of `like`."""
        drawn = torch.stack([torch.randn(shape, generator=generator) for generator in self.generators])
        return drawn.to(like).repeat(self.images, *(1 for _ in shape))


def _generator(seed: int, member: int) -> torch.Generator:
    # One 32-bit word, since torch's CPU generator heeds no more of its seed.
    word = np.random.SeedSequence(seed, spawn_key=(member,)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(word))
