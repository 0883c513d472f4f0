"""The way back from a run's report to its mask.

Every result is written with a JSON report of all that the mask depends on: settings, digest of the weights, precision, and
which picture it was, by the digest of its pixels. `Report.read` takes one apart; running what it says gives labels with the
digest it promises, or the picture, the weights or the arithmetic are not the same, and which of them is said.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medsegdiff.config import RunSettings
from medsegdiff.records import Interventions, Switches

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a JSON report says about its run."""

    settings: RunSettings
    weights: str  # sha256
    dtype: torch.dtype
    source: str  # sha256 of the picture's pixels, or of the volume's values
    whole: bool  # a volume, and not one picture or slice
    axis: int
    index: int  # of the slice
    window: tuple[float, float] | None
    mask: str  # sha256 of the labels, row by row

    @classmethod
    def read(cls, path: Path | str) -> "Report":
        """Read a report.

        Raises:
            ValueError: it is no report of this project, or of another version.
        """
        try:
            facts: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            whole = "volume" in facts
            seen = facts["volume"] if whole else facts["picture"]
            window = None if seen["window"] is None else (float(seen["window"][0]), float(seen["window"][1]))
            settings: dict[str, Any] = dict(facts["settings"])
            parts: dict[str, Any] = settings["switches"]
            settings["switches"] = Interventions(**parts) if "profile" in parts else Switches(**parts)
            return cls(
                settings=RunSettings(**settings),
                weights=str(facts["checkpoint"]["sha256"]),
                dtype={"float32": torch.float32, "bfloat16": torch.bfloat16}[facts["dtype"]],
                source=str(seen["sha256"]),
                whole=whole,
                axis=int(seen["axis"]),
                index=int(seen.get("index", 0)),
                window=window,
                mask=str(facts["mask"]["sha256"]),
            )
        except (OSError, KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{path} is no report of a run that can be read here ({error}); give its .json") from error

    def require_source(self, sha256: str) -> None:
        """Refuse another picture than the report's."""
        if sha256 != self.source:
            what = "volume" if self.whole else "picture"
            raise ValueError(
                f"this is another {what} than the report's, or it was changed since; give the very same file"
            )

    def require_weights(self, sha256: str) -> None:
        """Refuse other weights than the report's."""
        if sha256 != self.weights:
            raise ValueError(f"these weights have the sha256 {sha256[:12]}..., the report's {self.weights[:12]}...")

    def require_mask(self, sha256: str) -> None:
        """Refuse another mask than the report's."""
        if sha256 != self.mask:
            raise ValueError(
                f"the mask has the sha256 {sha256[:12]}..., the report promises {self.mask[:12]}...; masks differ at their "
                "edges between processors, numbers of threads and the versions that the report names"
            )
