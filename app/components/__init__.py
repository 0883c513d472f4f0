"""Custom browser components: the value each one shows, and its HTML, CSS and JavaScript.

A component NAME has NAME.js, which a front end runs once with `element`, `props`, `trigger` and `watch`, and NAME.css.
elements.js has what several of them begin with.
"""

from pathlib import Path

__all__ = ["source"]


def source(file: str) -> str:
    """Read a component's CSS or JavaScript file."""
    return Path(__file__).with_name(file).read_text(encoding="utf-8")
