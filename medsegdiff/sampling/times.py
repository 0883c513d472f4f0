"""Choose the timesteps of a sampling trajectory.

Of the T timesteps of training, n are used, in descending order; the clean mask follows the last. With round() to the
nearest, ties to even, and i = 0 ... n-1:

    trailing    round(T (n - i) / n) - 1          starts at T-1, where the state is almost pure noise
    early       round(T (1 - (i/n)^2)) - 1        likewise, with more of the steps at high noise, where the overall shape
                                                  of the mask is decided; edges are refined later
    leading     (n - 1 - i) floor(T / n)          ends at 0, but starts below T-1
    even        round((T - 1) (1 - i / (n-1)))    both T-1 and 0

Only a trajectory from T-1 starts where training had pure noise, hence the default, trailing.

References:
    Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), table 2, https://arxiv.org/abs/2305.08891
"""

import numpy as np

__all__ = ["SPACINGS", "spaced"]

SPACINGS = ("trailing", "early", "leading", "even")


def spaced(timesteps: int, steps: int, spacing: str = "trailing") -> list[int]:
    """List `steps` of the T `timesteps` of a schedule, descending and distinct, all in 0 ... T-1.

    >>> spaced(1000, 4)
    [999, 749, 499, 249]
    """
    if not 1 <= steps <= timesteps:
        raise ValueError(f"{steps} sampling steps were asked of a schedule of {timesteps}; choose 1 to {timesteps}")
    match spacing:
        case "trailing":
            return [round(timesteps * (steps - i) / steps) - 1 for i in range(steps)]
        case "early":
            times = [timesteps]
            for i in range(steps):
                times.append(min(times[-1] - 1, round(timesteps * (1 - (i / steps) ** 2)) - 1))  # distinct
            return times[1:]
        case "leading":
            return [i * (timesteps // steps) for i in reversed(range(steps))]
        case "even":
            return np.linspace(timesteps - 1, 0, steps).round().astype(int).tolist()
        case _:
            raise ValueError(f"spacing is {spacing!r}; choose {', '.join(SPACINGS)}")
