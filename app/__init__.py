"""The web page and the course: logic independent of any user-interface toolkit, and the front ends built on it."""

__all__: list[str] = []
