"""STAPLE by hand: quality weighs the labels, and the weighted labels measure the quality.

With D_ij what rater j says of pixel i, q_j its sensitivity, r_j its specificity and g the prior share of foreground,

    W_i = g a_i / ( g a_i + (1 - g) b_i ),    a_i = prod_j q_j^D_ij (1 - q_j)^(1 - D_ij)              E step
                                              b_i = prod_j r_j^(1 - D_ij) (1 - r_j)^D_ij
    q_j = sum_i W_i D_ij / sum_i W_i,         r_j = sum_i (1 - W_i)(1 - D_ij) / sum_i (1 - W_i)       M step

A page wants to see every iteration; results are fused by SimpleITK's filter (`medsegdiff.ensemble`), which this agrees with.

References:
    STAPLE (Warfield, Zou & Wells, 2004), https://doi.org/10.1109/TMI.2004.828354, eq. 14, 15, 18, 19
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray

__all__ = ["Round", "staple"]

_START = 0.99999  # of every quality, as Warfield et al. begin


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """Where the iteration stands."""

    weight: Float[ndarray, "h w"]  # W, probability of foreground
    sensitivity: Float[ndarray, " m"]  # q
    specificity: Float[ndarray, " m"]  # r


def staple(members: Integer[ndarray, "m h w"]) -> Iterator[Round]:
    """Yield the plain vote with everybody trusted, then one round after another, without end."""
    said = members.reshape(len(members), -1) > 0
    prior = said.mean()
    q = r = np.full(len(said), _START)
    yield Round(said.mean(0).reshape(members.shape[1:]), q, r)
    while True:
        a = np.where(said, q[:, None], 1 - q[:, None]).prod(0)
        b = np.where(said, 1 - r[:, None], r[:, None]).prod(0)
        weight = prior * a / np.maximum(prior * a + (1 - prior) * b, 1e-300)
        q = (weight * said).sum(1) / max(weight.sum(), 1e-12)
        r = ((1 - weight) * ~said).sum(1) / max((1 - weight).sum(), 1e-12)
        yield Round(weight.reshape(members.shape[1:]), q, r)
