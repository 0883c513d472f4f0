"""Provide the thumbnails component: synthetic examples, sample images with captions, and the hardest examples.

A front end shows MARKUP and SCRIPT as a component with the value returned by `descriptions.thumbnails`; a click event
carries the seed.
"""

from app.components import source

__all__ = ["MARKUP", "SCRIPT"]

MARKUP = '<div class="thumbs"></div>'

SCRIPT = source("thumbnails.js")
