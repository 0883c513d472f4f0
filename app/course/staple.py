"""Implement STAPLE step by step: the raters' quality weights their labels, and the weighted labels give the quality.

With D_ij the label of rater j at pixel i, p_j its sensitivity, q_j its specificity and g the prior share of foreground,

    W_i = g a_i / ( g a_i + (1 - g) b_i ),    a_i = prod_j p_j^D_ij (1 - p_j)^(1 - D_ij)              E step
                                              b_i = prod_j q_j^(1 - D_ij) (1 - q_j)^D_ij
    p_j = sum_i W_i D_ij / sum_i W_i,         q_j = sum_i (1 - W_i)(1 - D_ij) / sum_i (1 - W_i)       M step

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
    sensitivity: Float[ndarray, " m"]  # p
    specificity: Float[ndarray, " m"]  # q


def staple(members: Integer[ndarray, "m h w"]) -> Iterator[Round]:
    """Yield the plain vote, then the state after every iteration, without end."""
    labels = members.reshape(len(members), -1) > 0
    prior = labels.mean()
    p = q = np.full(len(labels), _START)
    yield Round(labels.mean(0).reshape(members.shape[1:]), p, q)
    while True:
        a = np.where(labels, p[:, None], 1 - p[:, None]).prod(0)
        b = np.where(labels, 1 - q[:, None], q[:, None]).prod(0)
        weight = prior * a / np.maximum(prior * a + (1 - prior) * b, 1e-300)
        p = (weight * labels).sum(1) / max(weight.sum(), 1e-12)
        q = ((1 - weight) * ~labels).sum(1) / max((1 - weight).sum(), 1e-12)
        yield Round(weight.reshape(members.shape[1:]), p, q)
