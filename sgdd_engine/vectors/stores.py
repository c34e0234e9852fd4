"""What databases have in common: which of their tables is read, conditions on keys, a password in a URL."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from sgdd_engine.bounded_files import UnreadableError, parse_json
from sgdd_engine.errors import VectorSourceError

# Names of tables or keys that a message lists.
_LISTED = 20


def choose_table(names: Sequence[str], table: str | None, name: str, what: str = "collection") -> str:
    """The table or collection to read: the one that is named, or the only one.

    Args:
        names: Those that the store has.
        table: `ReadOptions.table`.
        name: The store, for messages.
        what: What a table is called there.

    Raises:
        VectorSourceError: it is not there, there are several to choose from, or none.
    """
    if not names:
        raise VectorSourceError(f"{name} has no {what}s.", "Check the name of the store.")
    if table is None and len(names) > 1:
        raise VectorSourceError(
            f"{name} has {len(names)} {what}s: {listed(names)}.",
            f"Name one with --table, for example --table {names[0]}",
        )
    if table is not None and table not in names:
        raise VectorSourceError(
            f"{name} has no {what} `{table}`; there are {listed(names)}.", "Name one of them with --table."
        )
    return table or names[0]


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first 20."""
    rest = len(names) - _LISTED
    return (", ".join(names[:_LISTED]) or "none") + (f" and {rest} more" if rest > 0 else "")


def parse_condition(where: str) -> tuple[str, Any] | dict[str, Any]:
    """A condition on keys.

    Args:
        where: `key=value`, or a JSON object in the store's own language. A value is a number, `true` or `false` where
            it can be read so; in quotation marks it is text.

    Returns:
        Key and value; or the JSON object.

    Raises:
        VectorSourceError: it is neither.
    """
    hint = "Write --where key=value, or the store's own filter as a JSON object."
    if where.lstrip().startswith("{"):
        try:
            return dict(parse_json(where, "--where"))
        except UnreadableError as error:
            raise VectorSourceError(
                f"--where is {where!r}, which is not JSON: {error.reason}.", hint
            ) from error
    key, equals, value = (part.strip() for part in where.partition("="))
    if not (key and equals and value):
        raise VectorSourceError(f"The condition {where!r} of --where cannot be read.", hint)
    try:
        read = parse_json(value, "--where")
    except UnreadableError:
        return key, value.strip("'")
    return key, read if isinstance(read, str | bool | int | float) else value


def lookup(values: Mapping[str, Any] | None, key: str) -> Any:  # noqa: ANN401 - a value of any type
    """The value of a key; `a.b` is `b` inside `a`; None where it is not there."""
    if not values or key in values:
        return (values or {}).get(key)
    first, dot, rest = key.partition(".")
    inner = values.get(first)
    return lookup(inner, rest) if dot and isinstance(inner, Mapping) else None


def keys_of(samples: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """The keys that some rows have, those inside others as `a.b`, each with its first value that is not None."""
    found: dict[str, Any] = {}
    for values in samples:
        for key, value in (values or {}).items():
            if isinstance(value, Mapping):
                for inner, inner_value in keys_of([value]).items():
                    found.setdefault(f"{key}.{inner}", inner_value)
            elif value is not None:
                found.setdefault(key, value)
    return found


def check_keys(name: str, found: Sequence[str], wanted: Mapping[str, str | None], rows: int) -> None:
    """Refuse keys that none of the first rows has.

    Args:
        name: What is read, for messages.
        found: The keys of the first rows.
        wanted: Keys that were named, by flag.
        rows: How many rows were looked at.

    Raises:
        VectorSourceError: one is not there.
    """
    for flag, key in wanted.items():
        if key is not None and key not in found and rows:
            raise VectorSourceError(
                f"{name}: none of the first {rows:,} rows has `{key}`; they have {listed(found)}.",
                f"Name another one with {flag}.",
            )


def as_text(value: object) -> str | None:
    """A stored value as text; bytes are UTF-8, and shown as `\\xff` where they are not; None stays None."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return None if value is None else str(value)


def split_secret(url: str) -> tuple[str, str | None]:
    """A URL without its user information, and the key or password that stood there (`https://KEY@host`)."""
    parts = urlsplit(url)
    user_information, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = user_information.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(password or user)


def reason_of(error: BaseException) -> str:
    """The first line of what a client says went wrong, without a full stop at its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
