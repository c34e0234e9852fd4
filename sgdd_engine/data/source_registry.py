"""What a source of text is, and the registry of the names that users give to sources."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sgdd_engine.data.config import DataConfig
from sgdd_engine.registry import Registry


class Source(ABC):
    """Rows of raw text, and what identifies them.

    Attributes:
        name: The source as the user named it, for messages.
    """

    name: str

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence: "`tales.txt`", "Standard input"."""
        return self.name[0].upper() + self.name[1:] if " " in self.name else f"`{self.name}`"

    @abstractmethod
    def describe(self, recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """What identifies the text, for the manifest; equal descriptions mean equal text.

        Args:
            recorded: The description of an earlier preparation that is to be resumed; a moving name (a branch
                on the hub) then keeps the commit that it had.

        Raises:
            DataError: If the text cannot be read.
        """

    @abstractmethod
    def lines(self) -> Iterator[str]:
        """The raw text rows, from the start.

        Raises:
            DataError: If they cannot be read; the message gives the place.
        """

    def spool(self, folder: Path) -> None:  # noqa: B027 - most sources can be read again
        """Copy text that cannot be read twice into a file in `folder`; called before `describe`."""

    def estimated_lines(self) -> int | None:
        """About how many rows there are; None if that is unknown."""
        return None

    def notices(self) -> list[str]:
        """What the user should know about the source, one sentence each."""
        return []


SOURCES: Registry[Callable[[str, DataConfig], Source]] = Registry("source of text")
"""What opens a source, by what the user writes; a name that ends in `:` is a prefix of it."""
