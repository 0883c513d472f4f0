"""Provide the diagram component: the blocks of a network with a picture of what each computes at a step.

It follows the timeline of the films with the same `run`. Blocks that have a panel are buttons, for mouse and keyboard: choosing
one dispatches the window event "panel", whose detail is the panel's key; the front end opens it and answers with the event
"panel-shown", which marks its blocks. A front end shows MARKUP, STYLE and SCRIPT as a component with the value returned by
`views.diagram.diagram`.
"""

from app.components import source

__all__ = ["MARKUP", "SCRIPT", "STYLE"]

MARKUP = '<div class="diagram"></div>'

STYLE = source("diagram.css")

SCRIPT = source("diagram.js")
