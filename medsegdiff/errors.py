"""Errors about what a user gave: an image, a mask, a setting or a checkpoint.

Each has an English sentence (what came, what was expected, what to do) and a code, under which a front end finds the
same sentence in another language:

    raise PictureError("image.too_small", "the picture is {width} x {height} pixels; ...", height=4, width=9)
"""

from typing import Any, TypeVar

__all__ = ["InputError", "restore"]

_E = TypeVar("_E", bound="InputError")


class InputError(ValueError):
    """Input that cannot be used.

    Arguments:
        code: identifies the sentence, as "topic.problem".
        sentence: in English, with {placeholders}. Without it, the first argument is a sentence that has no code.
        params: values of the placeholders, as they are shown.
    """

    def __init__(self, code: str, sentence: str | None = None, /, **params: str | int | float) -> None:
        self.code = "" if sentence is None else code
        self.params = params
        self.sentence = code if sentence is None else sentence.format(**params)
        self.where = ""  # file or folder, shown before the sentence
        super().__init__(self.sentence)

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}" if self.where else self.sentence

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (type(self), self.sentence, vars(self))


def restore(kind: type[_E], sentence: str, facts: dict[str, Any]) -> _E:
    """Make an error from a complete sentence and its other attributes, in another process."""
    error = kind.__new__(kind, sentence)
    vars(error).update({"code": "", "params": {}, "where": "", "sentence": sentence} | facts)
    return error
