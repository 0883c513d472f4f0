"""Provide an equaliser component: one range input for the gain at each of several radial frequencies.

Native range inputs work with mouse, touch, keyboard and screen readers. The value of the component is the list of gains; a
front end shows MARKUP, STYLE and SCRIPT as a component and reads the value.
"""

from app.components import source

__all__ = ["GAINS", "MARKUP", "SCRIPT", "STYLE"]

GAINS = 9
"""Number of gains, evenly spaced from frequency zero to the corner of the spectrum at sqrt(1/2) cycles per cell."""

MARKUP = '<div class="equaliser"></div>'

STYLE = source("equaliser.css")

SCRIPT = source("equaliser.js")
