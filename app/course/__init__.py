"""Teach diffusion segmentation in ten interactive chapters, independent of any user-interface toolkit.

Each chapter in `chapters.CHAPTERS` defines its controls, the content computed for their values, the source code that
implements it, and tasks that are completed by using it. A front end iterates over the table and provides the widgets.
"""

__all__: list[str] = []
