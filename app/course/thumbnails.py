"""Provide the small pictures by which chapters and images are chosen, as data URIs.

Those of the chapters are cut from one sheet, which `python -m scripts.record_course thumbnails` draws from recorded runs.
"""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from app.core import catalogue
from app.course.chapters import CHAPTERS
from app.inputs.images import phantom
from app.views import paint

__all__ = ["SHEET", "SIDE", "of_chapter", "of_image"]

SHEET = Path(__file__).parent / "recorded" / "thumbnails.webp"
SIDE = 96  # of a picture, in pixels: twice the size at which it is shown


@cache
def of_chapter(key: str) -> str:
    """Return the picture of a chapter."""
    number = next(i for i, chapter in enumerate(CHAPTERS) if chapter.key == key)
    with Image.open(SHEET) as sheet:
        return _uri(np.asarray(sheet.convert("RGB").crop((number * SIDE, 0, (number + 1) * SIDE, SIDE))))


@cache
def of_image(seed: int, task: str = catalogue.TASK) -> str:
    """Return the picture of a phantom of a task."""
    return _uri(paint.fit(phantom(seed, task).picture.pixels, (SIDE, SIDE)))


def _uri(tile: paint.RGB) -> str:
    return paint.data_uri(tile, 80)
