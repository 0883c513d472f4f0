"""Commands that write files of this repository: recorded runs of the page and of the course."""
