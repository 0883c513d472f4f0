"""Implement STAPLE step by step: the raters' quality weights their labels, and the weighted labels give the quality.

With D_ij the label of rater j at pixel i, q_j its sensitivity, r_j its specificity and g the prior share of foreground,

    W_i = g a_i / ( g a_i + (1 - g) b_i ),    a_i = prod_j q_j^D_ij (1 - q_j)^(1 - D_ij)              E step
                                              b_i = prod_j r_j^(1 - D_ij) (1 - r_j)^D_ij
    q_j = sum_i W_i D_ij / sum_i W_i,         r_j = sum_i (1 - W_i)(1 - D_ij) / sum_i (1 - W_i)       M step

This implementation yields every iteration for display. Results are fused by SimpleITK's filter (`medsegdiff.ensemble`), with
which it agrees.

References:
    STAPLE (Warfield, Zou & Wells, 2004), https://doi.org/10.1109/TMI.2004.828354, eq. 14, 15, 18, 19
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray

__all__ = ["Round", "staple"]

_START = 0.99999  # initial sensitivity and specificity, as in Warfield et al.


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """The state after one iteration."""

    weight: Float[ndarray, "h w"]  # W, probability of foreground
    sensitivity: Float[ndarray, " m"]  # q
    specificity: Float[ndarray, " m"]  # r


def staple(members: Integer[ndarray, "m h w"]) -> Iterator[Round]:
    """Yield the plain vote, then the state after every iteration, without end."""
    labels = members.reshape(len(members), -1) > 0
    prior = labels.mean()
    q = r = np.full(len(labels), _START)
    yield Round(labels.mean(0).reshape(members.shape[1:]), q, r)
    while True:
        a = np.where(labels, q[:, None], 1 - q[:, None]).prod(0)
        b = np.where(labels, 1 - r[:, None], r[:, None]).prod(0)
        weight = prior * a / np.maximum(prior * a + (1 - prior) * b, 1e-300)
        q = (weight * labels).sum(1) / max(weight.sum(), 1e-12)
        r = ((1 - weight) * ~labels).sum(1) / max((1 - weight).sum(), 1e-12)
        yield Round(weight.reshape(members.shape[1:]), q, r)
