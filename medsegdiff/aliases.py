"""Former names that are still accepted."""

__all__ = ["CHECKPOINTS"]

CHECKPOINTS = {"skin-lesion-v1-walks": "skin-lesion-v1-unrolled"}
"""Shipped checkpoints: former name and present name."""
