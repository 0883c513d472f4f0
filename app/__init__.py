"""The page: a core that knows no toolkit, and the widgets on top of it."""

__all__: list[str] = []
