"""Commands of the command line, one module each: `add(parsers)` defines the arguments, `main(arguments)` runs it."""

__all__: list[str] = []
