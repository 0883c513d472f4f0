"""Provide a viewer of a volume in three planes through one point, with the mask as overlay.

The browser draws the planes from two mosaics of axial slices, so that moving the point needs no request to the server. The
inputs are native and work with keyboards and screen readers. A front end shows MARKUP, STYLE and SCRIPT as a component with the
value returned by `views.planes.planes`.
"""

from app.components import source

__all__ = ["MARKUP", "SCRIPT", "STYLE"]

MARKUP = '<div class="planes"></div>'

STYLE = source("planes.css")

SCRIPT = source("elements.js") + source("planes.js")
