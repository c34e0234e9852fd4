"""Counts and times in messages: "1 text", "2 texts", "about 3 hours"."""


def counted(count: int, one: str, several: str = "") -> str:
    """A count with its noun, whose plural takes an `s` unless it is given: "1 line", "1,234 lines"."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def about(seconds: float) -> str:
    """An estimated time in the largest unit that leaves 2 or more: "about 40 seconds", "about 90 minutes"."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"about {counted(round(seconds / size), unit)}"
    return f"about {counted(max(1, round(seconds)), 'second')}"
