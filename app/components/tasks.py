"""Provide the choice of a checkpoint as tiles: one for each task with its picture, and the versions of the model below it.

All versions of all tasks form one group of native radio inputs, which works with keyboards and screen readers. A front end
shows MARKUP, STYLE and SCRIPT as a component with the value returned by `descriptions.tasks`; a click event carries the name
of the checkpoint.
"""

from app.components import source

__all__ = ["MARKUP", "SCRIPT", "STYLE"]

MARKUP = '<fieldset class="tasks"></fieldset>'

STYLE = source("tasks.css")

SCRIPT = source("elements.js") + source("tasks.js")
