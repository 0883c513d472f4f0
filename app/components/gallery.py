"""Provide an image gallery component: one button per image with a caption, of which one is selected.

A front end shows MARKUP, STYLE and SCRIPT as a component with the value returned by `gallery`; a click event carries the
index of the image.
"""

from collections.abc import Sequence
from typing import Any

from app.components import source
from app.views import paint

__all__ = ["MARKUP", "SCRIPT", "STYLE", "gallery"]


def gallery(
    tiles: Sequence[paint.RGB], captions: Sequence[str], alts: Sequence[str], chosen: int | None, label: str
) -> dict[str, Any]:
    """Build the value of a gallery; `label` is its accessible name."""
    items = [
        {"src": paint.data_uri(tile), "caption": caption, "alt": alt}
        for tile, caption, alt in zip(tiles, captions, alts, strict=True)
    ]
    return {"items": items, "chosen": chosen, "label": label}


MARKUP = '<div class="gallery" role="group"></div>'

STYLE = source("gallery.css")

SCRIPT = source("gallery.js")
