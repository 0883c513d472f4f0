"""Images with masks: synthetic, or read from folders."""

__all__: list[str] = []
