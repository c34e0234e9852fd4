"""Counts in messages: "1 text", "2 texts"."""


def counted(count: int, one: str, several: str = "") -> str:
    """A count with its noun, whose plural takes an `s` unless it is given: "1 line", "1,234 lines"."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
