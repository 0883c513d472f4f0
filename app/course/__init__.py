"""The course: ten chapters on diffusion segmentation, computed live; knows no toolkit.

A chapter is a row of `chapters.CHAPTERS`: its controls, what it shows for their values, the lines of the package that are
it, and the tasks that a student completes by doing. A front end goes through the table and holds widgets only.
"""

__all__: list[str] = []
