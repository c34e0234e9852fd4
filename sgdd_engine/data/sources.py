"""Where text comes from: `open_source` turns what the user named into rows of raw text."""

import glob
import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from sgdd_engine.atomic_files import sha256_of
from sgdd_engine.data.builtin import BUILTIN_SENTENCES, builtin_sentences
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.files import FilesSource, files_under
from sgdd_engine.data.hub import BOOKCORPUS, HubSource
from sgdd_engine.data.lines import decode_lines
from sgdd_engine.errors import DataError

_KNOWN = (
    "Give a .txt, .jsonl, .csv or .parquet file, a folder or a pattern of them, `-` for standard input, "
    "`builtin`, `bookcorpus`, or `hf:owner/name`."
)


class Source(Protocol):
    """Rows of raw text, and what identifies them.

    Attributes:
        name: What the user called it; messages use it.
    """

    name: str

    def settle(self, folder: Path) -> None:
        """Put text that cannot be read twice into a file in `folder`."""
        ...

    def describe(self, recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """What identifies the text, for the manifest; equal descriptions mean equal text.

        Args:
            recorded: The description of an earlier preparation that is to go on; a moving name (a branch on
                the hub) then keeps the meaning that it had.
        """
        ...

    def lines(self) -> Iterator[str]:
        """The raw text rows, from the start."""
        ...

    def estimated_lines(self) -> int | None:
        """About how many rows there are; None where nobody knows."""
        ...


def open_source(spec: str, config: DataConfig) -> Source:
    """The source that `spec` names.

    Args:
        spec: `bookcorpus`, `builtin`, `hf:owner/name` (or `hf:owner/name:subset`), `-`, or a file, a folder
            or a pattern of files (.txt, .jsonl, .csv, each also as .gz, and .parquet).
        config: Column, split, revision and limit.

    Raises:
        DataError: If there is no such file, or no text file in the folder. The hub is not asked yet.
    """
    if spec == "builtin":
        return BuiltinSource(config)
    if spec == "bookcorpus":
        return HubSource(spec, BOOKCORPUS, None, config)
    if spec == "-":
        return StandardInput()
    if spec.startswith("hf:"):
        dataset, _, subset = spec.removeprefix("hf:").partition(":")
        if not dataset:
            raise DataError("`hf:` names no data set.", "Give `hf:owner/name`.")
        return HubSource(spec, dataset, subset or None, config)
    return FilesSource(spec, _files(spec), config)


def _files(spec: str) -> list[Path]:
    path = Path(spec)
    if path.is_dir():
        return files_under(path)
    if path.exists():
        return [path]
    if any(character in spec for character in "*?["):
        found = sorted(Path(name) for name in glob.glob(spec, recursive=True))  # noqa: PTH207 - absolute too
        if files := [path for path in found if path.is_file()]:
            return files
        raise DataError(f"No file matches `{spec}`.", _KNOWN)
    hint = (
        f"For a data set of the hub write `hf:{spec}`."
        if spec.count("/") == 1 and not path.suffix
        else _KNOWN
    )
    raise DataError(f"There is no file or folder `{spec}`.", hint)


class BuiltinSource:
    """The project's own generated sentences: synthetic, and in need of no network."""

    name = "builtin"

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def settle(self, folder: Path) -> None:
        """Nothing to do: the same seed gives the same sentences."""

    def describe(self, _recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """The seed, and a hash of the first sentences that changes when the grammar does."""
        digest = hashlib.sha256("\n".join(islice(self._sentences(1000), 1000)).encode()).hexdigest()
        return {"kind": "builtin", "synthetic": True, "seed": self._config.seed, "grammar_sha256": digest}

    def lines(self) -> Iterator[str]:
        """The sentences: `data.limit` of them, or 200,000."""
        return self._sentences(self.estimated_lines())

    def estimated_lines(self) -> int:
        """Exactly how many there will be."""
        return self._config.limit or BUILTIN_SENTENCES

    def _sentences(self, count: int) -> Iterator[str]:
        return builtin_sentences(count, seed=self._config.seed)


class StandardInput:
    """Lines of text from standard input, or from another stream of bytes."""

    name = "standard input"

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = stream
        self._kept: Path | None = None

    def settle(self, folder: Path) -> None:
        """Copy everything to a file: a stream can be read only once, and a preparation may be resumed."""
        kept = folder / "standard-input.txt"
        with kept.open("wb") as file:
            shutil.copyfileobj(self._bytes(), file)
        self._kept = kept

    def describe(self, _recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """Size and SHA-256 of what came in; known once it is settled."""
        assert self._kept is not None, "settle comes first"
        return {
            "kind": "stdin",
            "bytes": self._kept.stat().st_size,
            "sha256": sha256_of(self._kept),
        }

    def lines(self) -> Iterator[str]:
        """The lines.

        Raises:
            DataError: If the input is binary, is not UTF-8 or has a line above 1 MiB.
        """
        if self._kept is None:
            yield from (line for _, line in decode_lines(self._bytes(), self.name))
        else:
            with self._kept.open("rb") as file:
                yield from (line for _, line in decode_lines(file, self.name))

    def estimated_lines(self) -> int | None:
        """Nobody knows how much is still to come."""
        return None

    def _bytes(self) -> IO[bytes]:
        return self._stream if self._stream is not None else sys.stdin.buffer
