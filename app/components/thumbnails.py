"""Pictures as small buttons: drawn ones, real ones each with its words, those a checkpoint does worst on behind a fold.

A front end shows MARKUP and SCRIPT as a component whose value is what `wording.thumbnails` returns; a click tells the seed.
"""

from app.components import source

__all__ = ["MARKUP", "SCRIPT"]

MARKUP = '<div class="thumbs"></div>'

SCRIPT = source("thumbnails.js")
