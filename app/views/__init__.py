"""Turn finished runs into images, films, charts and text."""
