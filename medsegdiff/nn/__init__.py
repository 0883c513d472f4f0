"""Networks: parts, the two versions made of them, and `build`, the only place that asks which version a config means."""

__all__: list[str] = []
