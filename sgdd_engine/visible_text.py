r"""Text of others as it may be shown: what would drive a terminal or turn a line around becomes a visible escape.

A piece of a tokenizer, the name of an encoder, a setting or the answer of a hub may hold `ESC [ 2 J`, which clears the
screen, or U+202E, which writes what follows from right to left. It is shown as `\x1b[2J` or `\u202e`.
Addresses are shown without their passwords.
"""

import re

# Control characters of ASCII and Latin-1 (C0, DEL, C1), line and paragraph separators, and what embeds, overrides or
# isolates directions (Unicode Standard Annex 9). The plain marks of direction, which Arabic and Hebrew need, stay.
_DRIVING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAMES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# User information of an address, with or without a scheme: up to the last `@` before the path, since a password may
# hold one that is not written as %40. Without a scheme only with a password: `name@host` may be a file.
_USER_INFORMATION = re.compile(r"(?<=//)[^/?#\s]*@|^[^/?#\s@:]+:[^/?#\s]*@")
# Passwords and keys in the query of an address, or in a connection string of PostgreSQL.
_NAMED_SECRET = re.compile(r"(?i)((?:password|passwd|api[-_]?key|token|secret)=)(?:'[^']*'|[^&\s]+)")


def visible(text: str, keep: str = "") -> str:
    """A text on one line, without anything that drives a terminal.

    Args:
        text: Any text.
        keep: Control characters that stay, such as the line ends and tabs of our own lay-out.
    """
    if text.isprintable():  # the usual case: a tenth of the time
        return text
    return _DRIVING.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def visible_json(text: str) -> str:
    """The text of a JSON value, in which the same characters are escaped as JSON does: it is still the same value."""
    return _DRIVING.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def _escaped(character: str) -> str:
    code = ord(character)
    return _NAMES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def without_secrets(text: str) -> str:
    """An address as a message may show it: `(set)` in the place of user, password and keys."""
    return _NAMED_SECRET.sub(r"\1(set)", _USER_INFORMATION.sub("(set)@", text))
