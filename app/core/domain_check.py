"""Check an image against the training images of the checkpoints, and find the checkpoint that fits it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.core.catalogue import Card
from app.inputs.images import InputImage
from medsegdiff.config import Domain
from medsegdiff.errors import InputError
from medsegdiff.imaging import VISITOR

if TYPE_CHECKING:
    from medsegdiff.domain import Verdict

__all__ = ["UNKNOWN", "ImageCheck", "best", "check"]


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """How well an image fits the selected checkpoint, and a checkpoint that fits it better."""

    verdict: "Verdict | None"  # None: a phantom, or a task without statistics
    suggested: str | None = None  # another checkpoint, trained on such images
    nearest: str | None = None  # where no checkpoint fits, the one with the best score


UNKNOWN = ImageCheck(None)


def check(image: InputImage, card: Card | None, cards: Mapping[str, Card]) -> ImageCheck:
    """Check an image for a checkpoint, and suggest another one if that was trained on such images.

    Arguments:
        image: a phantom is not checked.
        card: of the selected checkpoint.
        cards: of the checkpoints that can be suggested, by name.
    """
    if image.seed is not None or card is None:
        return UNKNOWN
    from medsegdiff.domain import DomainCheck, rank, verdict

    try:
        scores = DomainCheck.load().scores(image.picture)
    except FileNotFoundError:  # the statistics are shipped with the checkpoints
        return UNKNOWN
    domain = Domain(task=card.task, modality=card.modality, labels=card.labels, mean=card.mean, std=card.std)
    judged = verdict(scores, image.picture, domain, card.size)
    if judged is None or judged.kind == card.task:
        return ImageCheck(judged)
    if suggested := next((name for name, one in cards.items() if one.task == judged.kind), None):
        return ImageCheck(judged, suggested)
    ranking = rank(scores, {name: one.task for name, one in cards.items()})
    return ImageCheck(judged, nearest=ranking[0][0] if ranking else None)


def best(path: str, tasks: Mapping[str, str]) -> str:
    """Return the name of the checkpoint that fits a file best.

    Arguments:
        path: the file.
        tasks: task of each checkpoint, by name.

    Raises:
        ValueError: the file cannot be read, or none of the checkpoints fits it.
    """
    from medsegdiff.domain import LIMIT, DomainCheck, examine, rank

    ranking = rank(examine(DomainCheck.load(), Path(path), limits=VISITOR).scores, tasks)
    if not ranking or ranking[0][1] > LIMIT:
        raise InputError(
            "checkpoint.none_fits",
            "none of the checkpoints fits the image closely enough; choose one by its name to run it anyway",
        )
    return ranking[0][0]
