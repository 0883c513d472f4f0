"""Reproduce a mask from the JSON report of its run.

A report holds everything that the mask depends on: settings, temperature, precision, and the sha256 of the weights and of the
image's pixels. Running it again must give labels with the recorded sha256. The last digits of a run also depend on the device,
the number of threads and the instructions of the CPU, which the report records (`device.Arithmetic`). `segment --replay` uses as
many threads; where the rest differs, the labels must agree with the recorded ones to a Dice of at least `TOLERANCE`. Otherwise an
error states whether the image, the weights or the arithmetic differ.
"""

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from medsegdiff.checkpoint import Checkpoint
from medsegdiff.config import RunSettings
from medsegdiff.device import Arithmetic
from medsegdiff.image_ref import Intensity, Windowing
from medsegdiff.records import Interventions, Switches

__all__ = ["TOLERANCE", "Report", "agreement", "decode_runs", "encode_runs"]

_THREADS = 256  # a report from a stranger cannot start more
TOLERANCE = 0.995  # Dice that a mask of another runtime must reach; web/src/core/report.js holds the same number


def encode_runs(labels: UInt8[np.ndarray, "h w"]) -> str:
    """Write labels as runs, row by row: "0:1533 1:20" is 1533 pixels of background and 20 of class 1."""
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return " ".join(f"{label}:{length}" for label, length in zip(flat[starts], lengths, strict=True))


def decode_runs(runs: str, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """Read what `encode_runs` wrote.

    Raises ValueError where the runs do not fill the shape.
    """
    labels, lengths = np.array([run.split(":") for run in runs.split()], np.int64).reshape(-1, 2).T
    if (lengths < 1).any() or lengths.sum() != shape[0] * shape[1] or not ((labels >= 0) & (labels <= 255)).all():
        raise ValueError(f"the mask in the report does not have {shape[1]} x {shape[0]} pixels")
    return np.repeat(labels.astype(np.uint8), lengths).reshape(shape)


def agreement(a: UInt8[np.ndarray, "h w"], b: UInt8[np.ndarray, "h w"]) -> float:
    """Dice over all foreground: a pixel counts where both masks give it the same class; 1 where both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero((a == b) & (a > 0)) / total) if total else 1.0


_BEFORE = {"noise": "independent", "anchor_weight": 0.0, "mirror": "none"}  # of reports that do not hold them yet


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
    window: Windowing
    mask: str  # sha256 of the labels, row by row
    runs: str = ""  # the labels themselves (see `encode_runs`), where the report holds them
    runtime: Literal["torch", "onnxruntime-web"] = "torch"  # that computed the mask
    temperature: float | None = None  # of the members' probabilities; None: not recorded, that of the checkpoint
    arithmetic: Arithmetic | None = None  # None: not recorded
    torch_version: str = ""

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
            window: Windowing = None if seen["window"] is None else (float(seen["window"][0]), float(seen["window"][1]))
            if whole and (seen.get("intensity") or window is None):
                window = Intensity.from_json(seen.get("intensity") or {})
            settings: dict[str, Any] = _BEFORE | facts["settings"]
            parts: dict[str, Any] = settings["switches"]
            settings["switches"] = Interventions(**parts) if "profile" in parts else Switches(**parts)
            runtime = "onnxruntime-web" if "onnxruntime-web" in facts.get("versions", {}) else "torch"
            # Of torch, only reports from before there were temperatures lack it.
            temperature = facts.get("temperature", 1.0 if runtime == "torch" else None)
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
                runs=str(facts["mask"].get("runs", "")),
                runtime=runtime,
                temperature=None if temperature is None else float(temperature),
                arithmetic=_arithmetic(facts.get("arithmetic")),
                torch_version=str(facts.get("versions", {}).get("torch", "")),
            )
        except (OSError, KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{path} is no report of a run that can be read here ({error}); give its .json") from error

    def checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return the checkpoint with the temperature of the report, which `calibrate` may have changed since.

        Raises:
            ValueError: the temperature is not above 0.
        """
        if self.temperature is None:
            return checkpoint
        return replace(checkpoint, domain=replace(checkpoint.domain, temperature=self.temperature))

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

    def require_mask(
        self, sha256: str, labels: UInt8[np.ndarray, "h w"] | None = None, arithmetic: Arithmetic | None = None
    ) -> float:
        """Raise ValueError if the mask is not the one of the report; return the Dice with it, 1 if identical.

        Where the arithmetic of the two runs differs, or the browser computed the report's, a few pixels at edges may differ: the
        `labels` must agree with the report's to a Dice of at least `TOLERANCE`.
        """
        if sha256 == self.mask:
            return 1.0
        reasons = self._differences(arithmetic)
        if reasons and self.runs and labels is not None:
            dice = agreement(decode_runs(self.runs, (labels.shape[0], labels.shape[1])), labels)
            if dice >= TOLERANCE:
                return dice
            raise ValueError(
                f"the mask agrees with the report's to a Dice of {dice:.4f}; at least {TOLERANCE} is expected where "
                f"{reasons} differ"
            )
        raise ValueError(
            f"the mask has the sha256 {sha256[:12]}..., the report promises {self.mask[:12]}...; masks differ at their "
            f"edges between {reasons or 'processors, numbers of threads and the versions that the report names'}"
        )

    def _differences(self, arithmetic: Arithmetic | None) -> str:
        """Describe what makes last digits differ from the report's run; empty if nothing is known to."""
        if self.runtime != "torch":
            return "torch and a run in the browser"
        here, there = version("torch"), self.torch_version
        found = [f"torch {there} and {here}"] if there not in ("", here) else []
        if self.arithmetic is not None and arithmetic not in (None, self.arithmetic):
            found.append(f"({self.arithmetic}) and ({arithmetic})")
        return ", ".join(found)


def _arithmetic(facts: dict[str, Any] | None) -> Arithmetic | None:
    if facts is None:
        return None
    threads = int(facts["threads"])
    if not 1 <= threads <= _THREADS:
        raise ValueError(f"{threads} threads")
    return Arithmetic(str(facts["device"]), threads, str(facts["instructions"]))
