"""Pictures to choose from: buttons with a picture, words below it, one of them pressed.

A front end shows MARKUP, STYLE and SCRIPT as a component whose value is what `gallery` returns; a click tells the index.
"""

from collections.abc import Sequence
from typing import Any

from app import paint

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

STYLE = """
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 10px; }
.gallery button { padding: 0; border: 2px solid transparent; border-radius: 8px; background: none; color: inherit;
    cursor: pointer; font-size: 12px; font-weight: 400; line-height: 1.35; text-align: left; }
.gallery button img { width: 100%; display: block; margin: 0; border: 0 !important; border-radius: 6px; }
.gallery button span { display: block; padding: 4px 4px 5px; font-variant-numeric: tabular-nums; }
.gallery button:hover { border-color: var(--border-color-primary); }
.gallery button[aria-pressed="true"] { border-color: var(--color-accent); }
.gallery button[aria-pressed="true"] span { font-weight: 600; }
.gallery button:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
"""

SCRIPT = r"""
const root = element.querySelector('.gallery') || element;
const show = () => {
  root.replaceChildren();
  const v = props.value;
  if (!v || !v.items) return;
  root.setAttribute('aria-label', v.label);
  v.items.forEach((item, index) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.setAttribute('aria-pressed', index === v.chosen);
    const image = document.createElement('img');
    image.src = item.src; image.alt = item.alt;
    const words = document.createElement('span');
    words.textContent = item.caption;
    button.append(image, words);
    button.onclick = () => trigger('click', { index });
    root.append(button);
  });
};
watch('value', show);
show();
"""
