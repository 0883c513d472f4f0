"""Define the public API endpoints for gradio_client, MCP and other programs; all other endpoints are private.

A run stops at its next step when the client cancels it or disconnects, and in any case after five minutes.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.core.frames import Frame
from app.core.session import RunOutput, Session
from app.core.settings import CONTROLS, read
from app.export.files import write_result
from app.gradio_ui.events import refusal
from app.gradio_ui.mcp_disconnect import ConnectedCalls
from app.inputs.images import open_image
from app.inputs.uploads import temporary_upload
from app.views.films import consensus
from medsegdiff.imaging import write_labels

__all__ = ["build"]

_OUTPUTS = ("mask", "probability", "disagreement")
_LONGEST = 300.0  # most seconds of a run, since other runs wait in the queue


def build(session: Session, calls: ConnectedCalls) -> None:
    """Create the endpoints `segment`, `segment_trace` and `model_info`."""

    def run(
        request: gr.Request, picture: str | None, checkpoint: str | None, given: dict[str, Any]
    ) -> Generator[Frame | RunOutput | int, None, None]:
        """Run until the client disconnects, and convert invalid input to an error message.

        The image is read first, so that a slow file keeps no other run waiting. Then the number of runs ahead is yielded
        until there are none.
        """
        try:
            if picture is None:
                raise ValueError("no image was given; pass a file as `picture`")
            # Read the image before anything else can fail, because reading it also schedules its deletion.
            with temporary_upload(picture):
                name = session.best(picture) if checkpoint == "auto" else checkpoint or next(iter(session.sources), "")
                image = open_image(picture, session.card(name) if name in session.sources else None)
            settings = read([given.get(c.field, c.default) for c in CONTROLS], trace=False)
            with session.turns.place() as ahead, closing(session.run(name, image, settings)) as events:
                while waiting := ahead(0.5):
                    if calls.disconnected(request):
                        return
                    yield waiting
                until = time.monotonic() + _LONGEST
                for event in events:
                    ahead(0)
                    if calls.disconnected(request):
                        return
                    if isinstance(event, Frame) and time.monotonic() > until:
                        raise ValueError(
                            f"the run was stopped after {_LONGEST:.0f} s at step {event.index + 1} of {event.total}; "
                            "choose fewer members or steps"
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
        anchor_weight: str,
        _request: gr.Request,
    ) -> Iterator[tuple[str | None, str | None, str | None, dict[str, Any]]]:
        """Segment a medical image and return label image, probability, disagreement (16-bit PNG) and a report.

        The files have the size of the image. Before the last step, the files are empty and the report holds the progress.
        For research and teaching only.

        Arguments:
            picture: a PNG, JPEG, TIFF, WebP, BMP, DICOM, NIfTI, NRRD or MHA file; of a volume, the middle slice is segmented.
            checkpoint: name of a checkpoint from `model_info`, or auto for the one that fits the image; the first by default.
            members: number of masks that are sampled and fused, 1 to 25.
            steps: denoising steps per member, 1 to 50.
            seed: seed of the noise; the same seed gives the same masks.
            sampler: ddim, ddpm or dpm-solver++.
            fuse: auto (the rule recorded in the checkpoint), staple, mean, vote, or anchored (mean of members and anchor).
            anchor_weight: weight of the anchor in the average taken at every step (V2 only), 0 (the paper) to 1, or auto (the
                weight recorded in the checkpoint).
        """
        given: dict[str, Any] = {"members": members, "steps": steps, "seed": seed, "sampler": sampler}
        given |= {"fuse": fuse, "anchor_weight": _weight(anchor_weight)}
        with closing(run(_request, picture, checkpoint, given)) as events:
            for event in events:
                if isinstance(event, int):
                    yield None, None, None, {"waiting": event}
                    continue
                if isinstance(event, Frame):
                    yield None, None, None, _progress(event)
                    continue
                with TemporaryDirectory() as folder:
                    paths: dict[str, Path] = write_result(folder, event)
                    mask, probability, disagreement = (str(paths[name]) for name in _OUTPUTS)
                    yield mask, probability, disagreement, event.recording.facts

    def segment_trace(
        picture: str,
        checkpoint: str | None,
        members: float,
        steps: float,
        seed: float,
        sampler: str,
        anchor_weight: str,
        _request: gr.Request,
    ) -> Iterator[tuple[dict[str, Any], str]]:
        """Segment a medical image and stream, for every denoising step, a report and the current label image.

        The report has step, total, t and the foreground share of each member. The label image (PNG, at the resolution of
        the network, at most 256 pixels) is the consensus of the members. Clients without streaming receive the last step.
        For research and teaching only.

        Arguments:
            picture: a PNG, JPEG, TIFF, WebP, BMP, DICOM, NIfTI, NRRD or MHA file; of a volume, the middle slice is segmented.
            checkpoint: name of a checkpoint from `model_info`, or auto for the one that fits the image; the first by default.
            members: number of masks that are sampled and fused, 1 to 25.
            steps: denoising steps per member, 1 to 50.
            seed: seed of the noise; the same seed gives the same masks.
            sampler: ddim, ddpm or dpm-solver++.
            anchor_weight: weight of the anchor in the average taken at every step (V2 only), 0 (the paper) to 1, or auto (the
                weight recorded in the checkpoint).
        """
        given: dict[str, Any] = {"members": members, "steps": steps, "seed": seed, "sampler": sampler}
        given |= {"anchor_weight": _weight(anchor_weight)}
        with closing(run(_request, picture, checkpoint, given)) as events:
            for frame in (event for event in events if isinstance(event, Frame)):
                with TemporaryDirectory() as folder:
                    path = Path(folder) / f"step-{frame.index + 1}.png"
                    write_labels(path, consensus(frame))
                    yield _progress(frame) | {"shares": list(frame.shares)}, str(path)

    def model_info() -> dict[str, Any]:
        """List the available checkpoints with their metadata, such as modality, classes and training data."""
        return {name: session.card(name).facts() for name in session.sources}

    by_field: dict[str, Any] = {control.field: control for control in CONTROLS}

    def hidden(widget: Any, field: str) -> Any:
        return widget(value=by_field[field].default, label=field, visible=False)

    inputs: list[Any] = [
        gr.File(label="picture", visible=False),
        gr.Textbox(value=next(iter(session.sources), None), label="checkpoint", visible=False),
        *(hidden(gr.Number, field) for field in ("members", "steps", "seed")),
        hidden(gr.Textbox, "sampler"),
    ]
    fuse, weight = hidden(gr.Textbox, "fuse"), gr.Textbox(value="auto", label="anchor_weight", visible=False)
    steps: list[Any] = [gr.JSON(label="step", visible=False), gr.File(label="labels", visible=False)]
    outputs: list[Any] = [gr.File(label=name, visible=False) for name in _OUTPUTS]
    outputs.append(gr.JSON(label="report", visible=False))
    heavy: dict[str, Any] = {"concurrency_id": "program", "concurrency_limit": 4}  # their turn is the session's to give
    gr.Button(visible=False).click(segment, [*inputs, fuse, weight], outputs, api_name="segment", **heavy)
    gr.Button(visible=False).click(segment_trace, [*inputs, weight], steps, api_name="segment_trace", **heavy)
    gr.api(model_info, api_name="model_info", queue=False)


def _weight(text: str) -> float | str | None:
    """Read an anchor weight; `settings.checked` refuses what is neither a number nor "auto"."""
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        return text


def _progress(frame: Frame) -> dict[str, Any]:
    return {"step": frame.index + 1, "total": frame.total, "t": frame.t}
