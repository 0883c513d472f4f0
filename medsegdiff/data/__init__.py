"""Pictures with masks: drawn by formula, or read from folders."""

__all__: list[str] = []
