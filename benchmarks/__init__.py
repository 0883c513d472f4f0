"""Measure speed and memory of the shipped checkpoints and comparable networks: `python -m benchmarks --help`."""

__all__: list[str] = []
