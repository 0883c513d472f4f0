"""One painter for each kind of picture; `medsegdiff.data.synthetic` calls them by task."""

__all__: list[str] = []
