"""Speed on this very machine: the shipped checkpoints beside what else one would pick. `python -m benchmarks --help`."""

__all__: list[str] = []
