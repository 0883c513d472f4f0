"""A filter to draw: one gain for each of a few radial frequencies, as the browser's own range inputs.

Range inputs can be drawn with a mouse, a finger or the arrow keys, and screen readers know them. The value is the list of
gains; a front end shows MARKUP, STYLE and SCRIPT as a component and reads it back.
"""

from app.components import source

__all__ = ["GAINS", "MARKUP", "SCRIPT", "STYLE"]

GAINS = 9
"""From the mean to the corner of the spectrum, sqrt(1/2) cycles per cell, evenly spaced."""

MARKUP = '<div class="equaliser"></div>'

STYLE = source("equaliser.css")

SCRIPT = source("equaliser.js")
