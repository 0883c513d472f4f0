"""Components of a network that a run may bypass or modify. Does not import torch."""

from dataclasses import dataclass, fields

__all__ = ["Interventions", "Switches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Which components are active; False bypasses one, in a run or (in a network's config) permanently.

    A switch for a component that the network does not have is ignored.
    """

    dynamic_encoding: bool = True  # V1 eq. 3
    ff_parser: bool = True  # V1 eq. 4-6
    anchor: bool = True  # V2 anchor condition (Gaussian spatial attention)
    ss_former: bool = True  # V2 semantic condition
    nbp: bool = True  # V2 NBP-Filter (or its sine variant) on the affinity

    def __and__(self, other: "Switches") -> "Interventions":
        """Combine the switches of a run with those of a network; a component is active if both allow it."""
        both = {f.name: getattr(self, f.name) and getattr(other, f.name) for f in fields(Switches)}
        return Interventions(**{f.name: getattr(self, f.name) for f in fields(self)} | both)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interventions(Switches):
    """Switches, and values that replace learned quantities in a run; never part of a network's config.

    A replacement for a quantity that the network does not have is ignored.
    """

    profile: tuple[float, ...] = ()
    """Replaces A of every FF-Parser by real gains at evenly spaced radial frequencies, from 0 to the corner of the spectrum,
    sqrt(1/2) cycles per cell, linearly interpolated, the same for all channels. Empty: A itself."""
    sigma: float = 0.0  # replaces the learned sigma of V2's Gaussians, in cells; 0: the learned values
    flatten_nbp: bool = False  # replaces the surface of every NBP-Filter by its mean over frequency

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", tuple(map(float, self.profile)))
        if len(self.profile) == 1 or not all(0 <= gain <= 4 for gain in self.profile):
            raise ValueError(
                f"profile has the {len(self.profile)} gains {self.profile!s:.60}; give 2 or more, each 0 to 4"
            )
        if not 0 <= self.sigma <= 100:
            raise ValueError(f"sigma is {self.sigma}; choose 0 (the learned ones) to 100 cells")
