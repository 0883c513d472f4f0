"""List the ten chapters of the course in reading order."""

from app.course.chapter import Chapter
from app.course.chapters import (
    anchor,
    conditioning,
    ensembles,
    forward,
    own,
    parser,
    raters,
    reverse,
    training,
    transformer,
)

__all__ = ["CHAPTERS"]

CHAPTERS: tuple[Chapter, ...] = (
    raters.CHAPTER,
    forward.CHAPTER,
    reverse.CHAPTER,
    conditioning.CHAPTER,
    parser.CHAPTER,
    anchor.CHAPTER,
    transformer.CHAPTER,
    ensembles.CHAPTER,
    training.CHAPTER,
    own.CHAPTER,
)
