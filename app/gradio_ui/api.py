"""The public endpoints, for gradio_client and for other programs; everything else on the page is private."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app import session as core
from app.frames import Frame
from app.gradio_ui.desk import refusal
from app.session import Finished, Session
from app.settings import CONTROLS, read
from app.views import together

__all__ = ["lay"]

_OUTPUTS = ("mask", "probability", "disagreement")


def lay(session: Session) -> None:
    """Offer `segment`, `segment_trace` and `model_info`."""

    def received(picture: str, checkpoint: str | None) -> tuple[str, core.Subject]:
        """Read the picture before anything else can go wrong: reading it deletes the upload."""
        name = checkpoint or next(iter(session.sources), "")
        return name, core.upload(picture, session.task(name) if name in session.sources else "")

    def segment(
        picture: str, checkpoint: str | None, members: float, steps: float, seed: float, sampler: str, fuse: str
    ) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """Segment a picture: label image, probability and disagreement (16-bit PNG) at its own size, and a report.

        Research and teaching only. `checkpoint` is one of those `model_info` lists; the defaults are the page's.
        """
        try:
            name, subject = received(picture, checkpoint)
            given = {"members": members, "steps": steps, "seed": seed, "sampler": sampler, "fuse": fuse}
            settings = read([given.get(c.field, c.default) for c in CONTROLS], trace=False)
            *_, finished = session.run(name, subject, settings)
        except (ValueError, TypeError) as error:
            raise refusal(str(error).strip().rstrip(".") + ".") from None
        assert isinstance(finished, Finished)
        with TemporaryDirectory() as folder:
            paths: dict[str, Path] = core.write(folder, finished)
            mask, probability, disagreement = (str(paths[name]) for name in _OUTPUTS)
            yield mask, probability, disagreement, finished.recording.facts

    def segment_trace(
        picture: str, checkpoint: str | None, members: float, steps: float, seed: float, sampler: str
    ) -> Iterator[tuple[dict[str, Any], str]]:
        """Watch a picture being segmented: for every denoising step a report and the label image so far.

        The report has step, total, t and each member's share of the picture; the label image (PNG, at the network's own
        resolution, at most 256 pixels) is what the members believe together. Research and teaching only.
        """
        try:
            name, subject = received(picture, checkpoint)
            given = {"members": members, "steps": steps, "seed": seed, "sampler": sampler}
            settings = read([given.get(c.field, c.default) for c in CONTROLS], trace=False)
            with closing(session.run(name, subject, settings)) as events:
                from medsegdiff.imaging import write_labels

                for frame in (event for event in events if isinstance(event, Frame)):
                    with TemporaryDirectory() as folder:
                        path = Path(folder) / f"step-{frame.index + 1}.png"
                        write_labels(path, together(frame))
                        told = {"step": frame.index + 1, "total": frame.total, "t": frame.t}
                        yield told | {"shares": list(frame.shares)}, str(path)
        except (ValueError, TypeError) as error:
            raise refusal(str(error).strip().rstrip(".") + ".") from None

    def model_info() -> dict[str, Any]:
        """List the checkpoints that `segment` may be asked for, with what each was trained on."""
        return {name: session.card(name).facts() for name in session.sources}

    by_field: dict[str, Any] = {control.field: control for control in CONTROLS}
    inputs: list[Any] = [
        gr.File(label="picture", visible=False),
        gr.Textbox(value=None, label="checkpoint", visible=False),
        *(gr.Number(value=by_field[f].default, label=f, visible=False) for f in ("members", "steps", "seed")),
        *(gr.Textbox(value=by_field[f].default, label=f, visible=False) for f in ("sampler", "fuse")),
    ]
    steps: list[Any] = [gr.JSON(label="step", visible=False), gr.File(label="labels", visible=False)]
    outputs: list[Any] = [gr.File(label=name, visible=False) for name in _OUTPUTS]
    outputs.append(gr.JSON(label="report", visible=False))
    heavy: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
    gr.Button(visible=False).click(segment, inputs, outputs, api_name="segment", **heavy)
    gr.Button(visible=False).click(segment_trace, inputs[:-1], steps, api_name="segment_trace", **heavy)
    gr.api(model_info, api_name="model_info", queue=False)
