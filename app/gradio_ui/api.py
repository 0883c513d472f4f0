"""The public endpoints, for gradio_client, MCP and other programs; everything else on the page is private.

A run ends with its next step when whoever asked for it cancels it or is gone, and after five minutes whoever asked.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.core.frames import Frame
from app.core.session import RunOutput, Session, write
from app.core.settings import CONTROLS, read
from app.gradio_ui.mcp_disconnect import Callers
from app.gradio_ui.page_state import refusal
from app.inputs.images import upload
from app.views.films import consensus

__all__ = ["build"]

_OUTPUTS = ("mask", "probability", "disagreement")
_LONGEST = 300.0  # seconds of a run: others wait for it


def build(session: Session, callers: Callers) -> None:
    """Offer `segment`, `segment_trace` and `model_info`."""

    def run(
        request: gr.Request, picture: str, checkpoint: str | None, given: dict[str, Any]
    ) -> Generator[Frame | RunOutput, None, None]:
        """Run for as long as somebody listens, and turn what is refused into a sentence."""
        try:
            name = checkpoint or next(iter(session.sources), "")
            # The picture comes before anything else that can go wrong: once read, the upload is deleted.
            image = upload(picture, session.task(name) if name in session.sources else "")
            settings = read([given.get(c.field, c.default) for c in CONTROLS], trace=False)
            until = time.monotonic() + _LONGEST
            with closing(session.run(name, image, settings)) as events:
                for event in events:
                    if callers.gone(request):
                        return
                    if isinstance(event, Frame) and time.monotonic() > until:
                        raise ValueError(
                            f"the run was ended after {_LONGEST:.0f} s at step {event.index + 1} of {event.total}; "
                            "ask for fewer members or steps"
                        )
                    if isinstance(event, Frame | RunOutput):
                        yield event
        except (ValueError, TypeError) as error:
            raise refusal(str(error).strip().rstrip(".") + ".") from None

    def segment(
        picture: str,
        checkpoint: str | None,
        members: float,
        steps: float,
        seed: float,
        sampler: str,
        fuse: str,
        anchor_weight: float,
        _request: gr.Request,
    ) -> Iterator[tuple[str | None, str | None, str | None, dict[str, Any]]]:
        """Segment a medical picture: label image, probability and disagreement (16-bit PNG) at its size, and a report.

        Research and teaching only. Until the last step is done there are no files yet, and the report says how far it is.

        Arguments:
            picture: a PNG, JPEG, TIFF, DICOM, NIfTI, NRRD or MHA file; of a volume, the middle slice is taken.
            checkpoint: one of those that `model_info` lists; without one, the first.
            members: how many masks are drawn and fused, 1 to 25.
            steps: denoising steps of each, 1 to 50.
            seed: of the noise; the same seed gives the same masks.
            sampler: ddim, ddpm or dpm-solver++.
            fuse: staple, mean or vote.
            anchor_weight: of V2, the anchor's share in the mask of every step, 0 (the paper) to 1.
        """
        given: dict[str, Any] = {"members": members, "steps": steps, "seed": seed, "sampler": sampler}
        given |= {"fuse": fuse, "anchor_weight": anchor_weight}
        with closing(run(_request, picture, checkpoint, given)) as events:
            for event in events:
                if isinstance(event, Frame):
                    yield None, None, None, _told(event)
                    continue
                with TemporaryDirectory() as folder:
                    paths: dict[str, Path] = write(folder, event)
                    mask, probability, disagreement = (str(paths[name]) for name in _OUTPUTS)
                    yield mask, probability, disagreement, event.recording.facts

    def segment_trace(
        picture: str,
        checkpoint: str | None,
        members: float,
        steps: float,
        seed: float,
        sampler: str,
        anchor_weight: float,
        _request: gr.Request,
    ) -> Iterator[tuple[dict[str, Any], str]]:
        """Watch a medical picture being segmented: for every denoising step a report and the label image so far.

        The report has step, total, t and each member's share of the picture; the label image (PNG, at the network's own
        resolution, at most 256 pixels) is what the members believe together. Who cannot read a stream sees the last
        step. Research and teaching only.

        Arguments:
            picture: a PNG, JPEG, TIFF, DICOM, NIfTI, NRRD or MHA file; of a volume, the middle slice is taken.
            checkpoint: one of those that `model_info` lists; without one, the first.
            members: how many masks are drawn and fused, 1 to 25.
            steps: denoising steps of each, 1 to 50.
            seed: of the noise; the same seed gives the same masks.
            sampler: ddim, ddpm or dpm-solver++.
            anchor_weight: of V2, the anchor's share in the mask of every step, 0 (the paper) to 1.
        """
        from medsegdiff.imaging import write_labels

        given: dict[str, Any] = {"members": members, "steps": steps, "seed": seed, "sampler": sampler}
        given |= {"anchor_weight": anchor_weight}
        with closing(run(_request, picture, checkpoint, given)) as events:
            for frame in (event for event in events if isinstance(event, Frame)):
                with TemporaryDirectory() as folder:
                    path = Path(folder) / f"step-{frame.index + 1}.png"
                    write_labels(path, consensus(frame))
                    yield _told(frame) | {"shares": list(frame.shares)}, str(path)

    def model_info() -> dict[str, Any]:
        """List the checkpoints that `segment` may be asked for, with what each was trained on."""
        return {name: session.card(name).facts() for name in session.sources}

    by_field: dict[str, Any] = {control.field: control for control in CONTROLS}

    def asked(widget: Any, field: str) -> Any:
        return widget(value=by_field[field].default, label=field, visible=False)

    inputs: list[Any] = [
        gr.File(label="picture", visible=False),
        gr.Textbox(value=next(iter(session.sources), None), label="checkpoint", visible=False),
        *(asked(gr.Number, field) for field in ("members", "steps", "seed")),
        asked(gr.Textbox, "sampler"),
    ]
    fuse, weight = asked(gr.Textbox, "fuse"), asked(gr.Number, "anchor_weight")
    steps: list[Any] = [gr.JSON(label="step", visible=False), gr.File(label="labels", visible=False)]
    outputs: list[Any] = [gr.File(label=name, visible=False) for name in _OUTPUTS]
    outputs.append(gr.JSON(label="report", visible=False))
    heavy: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
    gr.Button(visible=False).click(segment, [*inputs, fuse, weight], outputs, api_name="segment", **heavy)
    gr.Button(visible=False).click(segment_trace, [*inputs, weight], steps, api_name="segment_trace", **heavy)
    gr.api(model_info, api_name="model_info", queue=False)


def _told(frame: Frame) -> dict[str, Any]:
    return {"step": frame.index + 1, "total": frame.total, "t": frame.t}
