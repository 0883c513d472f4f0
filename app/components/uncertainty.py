"""Provide the uncertainty component: the disagreement of the members over the image, and the mask at a chosen threshold.

The browser draws both from the maps it was sent, so that moving the threshold needs no request to the server. The inputs are
native and work with keyboards and screen readers. A front end shows MARKUP, STYLE and SCRIPT as a component with the value
returned by `ensemble_views.uncertainty`.
"""

from app.components import source

__all__ = ["MARKUP", "SCRIPT", "STYLE"]

MARKUP = '<div class="uncertainty"></div>'

STYLE = source("uncertainty.css")

SCRIPT = source("elements.js") + source("uncertainty.js")
