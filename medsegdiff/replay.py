"""Reproduce a mask from the JSON report of its run.

A report holds everything that the mask depends on: settings, precision, and the sha256 of the weights and of the image's pixels.
Running it again must give labels with the recorded sha256. Otherwise an error states whether the image, the weights or the
arithmetic differ.
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
    """The content of a JSON report."""

    settings: RunSettings
    weights: str  # sha256
    dtype: torch.dtype
    source: str  # sha256 of the image's pixels, or of the volume's values
    whole: bool  # a whole volume, not one image or slice
    axis: int
    index: int  # of the slice
    window: tuple[float, float] | None
    mask: str  # sha256 of the labels, row by row

    @classmethod
    def read(cls, path: Path | str) -> "Report":
        """Read a report.

        Raises:
            ValueError: the file is not a report of this project, or of another version.
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
        """Raise ValueError if the image is not the one of the report."""
        if sha256 != self.source:
            what = "volume" if self.whole else "picture"
            raise ValueError(
                f"this is another {what} than the report's, or it was changed since; give the very same file"
            )

    def require_weights(self, sha256: str) -> None:
        """Raise ValueError if the weights are not those of the report."""
        if sha256 != self.weights:
            raise ValueError(f"these weights have the sha256 {sha256[:12]}..., the report's {self.weights[:12]}...")

    def require_mask(self, sha256: str) -> None:
        """Raise ValueError if the mask is not the one of the report."""
        if sha256 != self.mask:
            raise ValueError(
                f"the mask has the sha256 {sha256[:12]}..., the report promises {self.mask[:12]}...; masks differ at their "
                "edges between processors, numbers of threads and the versions that the report names"
            )
