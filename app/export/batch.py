"""Segment several files one after another and write the mask and the report of each.

Files are read as single uploads are: within the same limits, each by the checkpoint that fits it, the middle slice of a volume,
and deleted one minute later. A file that cannot be read gives a row with its error, and the next one follows.
"""

import math
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.analysis.comparisons import Clock
from app.analysis.ensemble import marked_disagreement
from app.core.frames import Frame
from app.core.session import RunOutput, Session
from app.export.files import write_result
from app.inputs.images import InputImage, open_image
from app.inputs.uploads import temporary_upload
from app.inputs.volumes import EVALUATIONS
from app.views import paint
from medsegdiff.config import RunSettings
from medsegdiff.errors import InputError
from medsegdiff.progress import Progress

__all__ = ["MOST_FILES", "BatchRow", "segment_files"]

MOST_FILES = 20
_TILE = 96  # longest side of a thumbnail, in pixels


@dataclass(frozen=True, slots=True, eq=False)
class BatchRow:
    """The result of one file; if it could not be segmented, only its name and the error."""

    name: str
    error: ValueError | None = None
    checkpoint: str = ""
    domain: dict[str, Any] | None = None  # facts of the domain check, if there are statistics for it
    share: float = math.nan  # of the image that is marked
    disagreement: float = math.nan  # as in `marked_disagreement`
    tile: paint.RGB | None = None  # the mask on the image


def segment_files(
    session: Session, paths: Sequence[str], name: str, settings: RunSettings, folder: Path, most: int = EVALUATIONS
) -> Generator[Progress | BatchRow, None, None]:
    """Segment uploaded files and write NUMBER-NAME-mask.png and NUMBER-NAME-run.json for each into a folder.

    Arguments:
        session: the checkpoints.
        paths: the uploads, at most `MOST_FILES`; they are deleted, also those that are not read because the run is stopped.
        name: the checkpoint for files that none fits better.
        settings: of every run.
        folder: where to write.
        most: network evaluations of all files together.

    Yields:
        The progress at every step of every run, whose `part` is the number of the file, and a row after each file.

    Raises:
        InputError: The files take more network evaluations than one visitor may use at once.
    """
    waiting, total, clock = deque(paths), len(paths) * settings.steps, Clock()
    ran = 0
    try:
        if (cost := len(paths) * settings.members * settings.steps) > most:
            raise InputError(
                "batch.evaluations",
                "{files} files x {members} members x {steps} steps are {cost} evaluations of the network, more than {most}; "
                "choose fewer files, members or steps",
                files=len(paths),
                members=settings.members,
                steps=settings.steps,
                cost=cost,
                most=most,
            )
        for number in range(1, len(paths) + 1):
            path, output = waiting.popleft(), None
            try:
                with temporary_upload(path):
                    image, chosen = _open(session, path, name)
                with closing(session.run(chosen, image, settings)) as events:
                    for event in events:
                        if isinstance(event, Frame):
                            done = (number - 1) * settings.steps + event.index + 1
                            ran += 1  # less than `done` after a file that gave no steps
                            yield Progress(done, total, clock.left(ran, ran + total - done), number)
                        elif isinstance(event, RunOutput):
                            output = event
                assert output is not None
                row = _row(image, chosen, output)
                _write(folder, f"{number:02d}-{image.stem(session.task(chosen))}", output)
            except ValueError as error:
                row = BatchRow(Path(path).name, error)
            yield row
    finally:
        for path in waiting:
            with temporary_upload(path):
                pass


def _open(session: Session, path: str, name: str) -> tuple[InputImage, str]:
    """Read a file, and choose the checkpoint that fits it."""
    image = open_image(path, session.card(name))
    if suggested := session.check(name, image).suggested:
        image, name = open_image(path, session.card(suggested)), suggested
    return replace(image, name=Path(path).name), name


def _row(image: InputImage, checkpoint: str, output: RunOutput) -> BatchRow:
    recording, labels = output.recording, output.result.labels
    height, width = image.picture.height, image.picture.width
    scale = _TILE / max(height, width)
    size = max(8, round(height * scale)), max(8, round(width * scale))
    return BatchRow(
        image.name,
        checkpoint=checkpoint,
        domain=recording.facts["domain"],
        share=float((labels > 0).mean()),
        disagreement=marked_disagreement(recording),
        tile=paint.on_picture(
            paint.fit(recording.opening.picture, size), paint.fit(recording.outcome.labels, size, smooth=False)
        ),
    )


def _write(folder: Path, stem: str, output: RunOutput) -> None:
    with TemporaryDirectory() as written:
        paths = write_result(written, output)
        paint.save_labels(folder / f"{stem}-mask.png", output.result.labels)
        paths["report"].rename(folder / f"{stem}-run.json")
