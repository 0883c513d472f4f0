"""Which steps of the training schedule a sampler visits.

A network trained on T steps may be asked at n of them. The walk is a descending list; after its last entry comes the
clean mask. With round() to the nearest, ties to even, and i = 0 ... n-1:

    trailing    round(T (n - i) / n) - 1          begins at T-1, where the state is all but pure noise
    early       round(T (1 - (i/n)^2)) - 1        likewise, with steps crowded where the noise is high: there the image
                                                  decides what the mask will be, later its edges are drawn
    leading     (n - 1 - i) floor(T / n)          ends at 0, but begins below T-1
    even        round((T - 1) (1 - i / (n-1)))    both T-1 and 0

Only a walk from T-1 begins where training put pure noise, hence trailing by default.

References:
    Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), table 2, https://arxiv.org/abs/2305.08891
"""

import numpy as np

__all__ = ["SPACINGS", "spaced"]

SPACINGS = ("trailing", "early", "leading", "even")


def spaced(timesteps: int, steps: int, spacing: str = "trailing") -> list[int]:
    """List `steps` of the T `timesteps` of a schedule, descending, all in 0 ... T-1 and no two alike.

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
                times.append(min(times[-1] - 1, round(timesteps * (1 - (i / steps) ** 2)) - 1))  # no two alike
            return times[1:]
        case "leading":
            return [i * (timesteps // steps) for i in reversed(range(steps))]
        case "even":
            return np.linspace(timesteps - 1, 0, steps).round().astype(int).tolist()
        case _:
            raise ValueError(f"spacing is {spacing!r}; choose {', '.join(SPACINGS)}")
