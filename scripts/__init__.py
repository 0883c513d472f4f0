"""Commands that record runs for the page and the course, and store them in this repository."""
