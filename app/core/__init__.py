"""Checkpoints, settings and finished runs, independent of any user-interface toolkit."""
