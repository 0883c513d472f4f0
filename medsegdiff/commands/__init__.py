"""The verbs of the command line, one module each: `add(parsers)` describes it, `main(arguments)` does it."""

__all__: list[str] = []
