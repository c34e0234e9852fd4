"""How the configuration dataclasses declare a field: its default and one line of help, said once."""

from dataclasses import field
from typing import Any, TypeVar

T = TypeVar("T")


def option(default: T, help: str) -> T:
    """A dataclass field with a default and a sentence of help (with its unit) for users.

    The help is read from `dataclasses.fields(...)[i].metadata["help"]`.
    """
    declared: Any = field(default=default, metadata={"help": help})
    return declared  # type: ignore[no-any-return]
