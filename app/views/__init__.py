"""Finished runs as pictures, films, charts and sentences."""
