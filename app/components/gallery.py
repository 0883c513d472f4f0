"""Pictures to choose from: buttons with a picture, words below it, one of them pressed.

A front end shows MARKUP, STYLE and SCRIPT as a component whose value is what `gallery` returns; a click tells the index.
"""

from collections.abc import Sequence
from typing import Any

from app.components import source
from app.views import paint

__all__ = ["MARKUP", "SCRIPT", "STYLE", "gallery"]


def gallery(
    tiles: Sequence[paint.RGB], captions: Sequence[str], alts: Sequence[str], chosen: int | None, label: str
) -> dict[str, Any]:
    """Put a gallery together; `label` says what is chosen."""
    items = [
        {"src": paint.data_uri(tile), "caption": caption, "alt": alt}
        for tile, caption, alt in zip(tiles, captions, alts, strict=True)
    ]
    return {"items": items, "chosen": chosen, "label": label}


MARKUP = '<div class="gallery" role="group"></div>'

STYLE = source("gallery.css")

SCRIPT = source("gallery.js")
