"""The cumulative signal power alpha_bar_t of a noise schedule. Does not import torch.

    alpha_bar_t = prod_{s <= t} (1 - beta_s)

    linear    beta from 1e-4 to 0.02 at T = 1000, scaled by 1000 / T                             DDPM, section 4
    cosine    alpha_bar_t ~ cos^2( (t / T + 0.008) / 1.008 * pi / 2 ), beta at most 0.999        Improved DDPM eq. 17

References:
    DDPM (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    Improved DDPM (Nichol & Dhariwal, 2021), https://arxiv.org/abs/2102.09672
"""

import numpy as np
from jaxtyping import Float64

__all__ = ["alpha_bar"]


def alpha_bar(kind: str = "linear", timesteps: int = 1000) -> Float64[np.ndarray, " T"]:
    """Compute alpha_bar_t for t = 0 ... T-1.

    Raises:
        ValueError: for an unknown kind, or a linear schedule of 20 steps or fewer, whose last beta would reach 1.
    """
    if kind == "linear":
        if timesteps <= 20:
            raise ValueError(f"a linear schedule of {timesteps} steps would reach beta >= 1; use more than 20 steps")
        beta = np.linspace(1e-4, 0.02, timesteps) * (1000 / timesteps)
    elif kind == "cosine":
        share = np.arange(timesteps + 1) / timesteps
        power = np.cos((share + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = (1 - power[1:] / power[:-1]).clip(max=0.999)
    else:
        raise ValueError(f"schedule is {kind!r}; choose linear or cosine")
    return np.cumprod(1 - beta)
