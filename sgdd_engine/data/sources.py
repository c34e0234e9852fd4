"""Sources of text: `open_source` turns what the user named into rows of raw text.

To add a kind of source, derive a class from `Source` and register it (or a function that makes one) in `SOURCES`,
under a name or a `prefix:`. Formats of files are in `formats.py`.
"""

import glob
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sgdd_engine.atomic_files import sha256_of
from sgdd_engine.bounded_files import require_text_name
from sgdd_engine.counted import counted
from sgdd_engine.data.builtin import BUILTIN_SENTENCES, builtin_sentences
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.formats import FORMATS, MAX_ROW, TextFile, ending, format_of, logged_table
from sgdd_engine.data.hub import text_rows
from sgdd_engine.data.lines import COMPRESSED, decode_lines, read_lines, unreadable
from sgdd_engine.data.manifest import MANIFEST, TOKENIZER
from sgdd_engine.data.source_registry import SOURCES, Source
from sgdd_engine.errors import DataError
from sgdd_engine.paths_and_shells import shell_line
from sgdd_engine.registry import load_extensions

# Lines from which the number of lines of a file is estimated.
_SAMPLE_LINES = 1000


def open_source(spec: str, config: DataConfig) -> Source:
    """The source that `spec` names.

    Args:
        spec: `bookcorpus`, `builtin`, `hf:owner/name` (or `hf:owner/name:subset`), `-`, or the path of a file, a
            pipe, a folder, or a pattern of files, of the formats in `formats.py`.
        config: Column, split, revision and limit.

    Raises:
        DataError: If there is no such file, or no file in the folder that can be read. The hub is not asked yet.
    """
    require_text_name(spec)
    prefix = spec[: spec.find(":") + 1]
    opener = SOURCES.find(spec) or (SOURCES.find(prefix) if prefix else None) or _open_path
    return opener(spec, config)


@SOURCES.register("builtin")
class BuiltinSource(Source):
    """Generated sentences of a seeded grammar; they need no network."""

    def __init__(self, name: str, config: DataConfig) -> None:
        self.name = name
        self._config = config

    def describe(self, _recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """The seed, and a hash of the first sentences that changes when the grammar does."""
        sha256 = hashlib.sha256("\n".join(islice(self._sentences(1000), 1000)).encode()).hexdigest()
        return {"kind": "builtin", "synthetic": True, "seed": self._config.seed, "grammar_sha256": sha256}

    def lines(self) -> Iterator[str]:
        """The sentences: `data.limit` of them, or 200,000."""
        return self._sentences(self.estimated_lines())

    def estimated_lines(self) -> int:
        """Exactly how many there will be."""
        return self._config.limit or BUILTIN_SENTENCES

    def notices(self) -> list[str]:
        """Where the sentences come from."""
        return ["The built-in corpus is synthetic: a seeded grammar of this project wrote it."]

    def _sentences(self, count: int) -> Iterator[str]:
        return builtin_sentences(count, seed=self._config.seed)


@SOURCES.register("-")
def _standard_input(_spec: str, config: DataConfig) -> Source:
    if sys.stdin is None:
        raise DataError("Standard input is closed.", "Name a file, or pipe text into the command.")
    return StreamSource("standard input", sys.stdin.buffer, config)


def _open_path(spec: str, config: DataConfig) -> Source:
    """A file, a pipe, a folder or a pattern."""
    path = Path(spec)
    if path.is_dir():
        return _open_folder(spec, path, config)
    if path.is_file():
        return FilesSource(spec, [path], config)
    if path.exists():  # a pipe, as `<(command)` or /dev/stdin
        return StreamSource(spec, path, config)
    if any(character in spec for character in "*?["):
        found = sorted(Path(name) for name in glob.glob(spec, recursive=True))  # noqa: PTH207 - absolute too
        if files := [path for path in found if path.is_file()]:
            return FilesSource(spec, files, config)
        raise DataError(f"No file matches `{spec}`.", _known_sources())
    hint = (
        f"For a data set of the hub write `hf:{spec}`."
        if re.fullmatch(r"[\w.-]+/[\w.-]+", spec) and not path.suffix
        else _known_sources()
    )
    raise DataError(f"There is no file or folder `{spec}`.", hint)


def _readable() -> str:
    """The endings of files that sgdd and its extensions read."""
    return f"{', '.join(FORMATS.names())}; text also as {', '.join(COMPRESSED)}"


def _known_sources() -> str:
    """The hint where a name opens nothing: what can be named, and which extensions are broken."""
    known = (
        f"Give a file, a folder or a pattern of files ({_readable()}), `-` for standard input, `builtin`, "
        "`bookcorpus`, or `hf:owner/name`."
    )
    return "\n".join([known, *load_extensions()])


def _open_folder(spec: str, folder: Path, config: DataConfig) -> Source:
    if (folder / MANIFEST).is_file() and (folder / TOKENIZER).is_dir():
        raise DataError(
            f"`{folder}` is a prepared corpus, not a source of text.",
            f"Train on it: {shell_line(['sgdd', 'train', folder])}",
        )
    saved = [(folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json")]
    if saved[0] or all(saved[1:]):
        return SavedDatasetSource(folder, config)
    files, skipped = files_under(folder)
    return FilesSource(spec, files, config, skipped)


def files_under(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files in a folder and below it, by name: those of a known format, and the others.

    Hidden files are in neither list.

    Raises:
        DataError: If there is none of a known format, or a table with a log among them.
    """
    every = sorted(folder.rglob("*"))
    shown = [p for p in every if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    for place in (folder, *filter(os.path.isdir, shown)):
        if (refusal := logged_table(place)) is not None:
            raise DataError(*refusal)
    found = [path for path in shown if not path.is_dir()]
    endings = {ending(path.name) for path in found}
    known = {kind for kind in endings if FORMATS.find(kind) is not None}
    files = [path for path in found if path.is_file() and ending(path.name) in known]
    skipped = [path for path in found if not path.is_file() or ending(path.name) not in known]
    if not files:
        raise DataError(
            f"The folder `{folder}` holds no file that sgdd reads"
            + (f", but {_some(skipped)}." if skipped else "."),
            f"sgdd reads {_readable()}; other endings are read as plain text where a pattern names them.",
        )
    return files, skipped


class FilesSource(Source):
    """Text in local files, read one after another.

    Args:
        name: The source as the user named it.
        files: The files in the order in which they are read.
        config: The column that holds the text.
        skipped: Files of a folder that are not read.

    Raises:
        DataError: If a file has a format that sgdd does not read.
    """

    def __init__(
        self, name: str, files: list[Path], config: DataConfig, skipped: list[Path] | None = None
    ) -> None:
        self.name = name
        self._files = [(TextFile(path, config.column, f"`{path}`"), format_of(path)) for path in files]
        self._skipped = skipped or []

    def describe(self, _recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """Every file with its size and SHA-256, so that a changed file is noticed."""
        return {
            "kind": "files",
            "path": self.name,
            "files": [_identity(file.path) for file, _ in self._files],
        }

    def lines(self) -> Iterator[str]:
        """The raw text rows; an error gives file and line."""
        for file, kind in self._files:
            yield from kind.rows(file)

    def estimated_lines(self) -> int | None:
        """How many rows there are, from the files' own count or by the mean size of the first lines."""
        if all(kind.count for _, kind in self._files):
            return sum(kind.count(file) for file, kind in self._files if kind.count)
        paths = [file.path for file, _ in self._files]
        compressed = any(path.suffix.lower() in COMPRESSED for path in paths)
        if compressed or not all(kind.row_per_line for _, kind in self._files):
            return None
        sample = [
            len(line.encode()) + 1 for _, line in islice(read_lines(paths[0], longest=MAX_ROW), _SAMPLE_LINES)
        ]
        total = sum(path.stat().st_size for path in paths)
        return round(total * len(sample) / sum(sample)) if sample else None

    def notices(self) -> list[str]:
        """The files of the folder that are not read; and the broken extensions, one of which may know an ending."""
        notices = []
        if self._skipped:
            notices.append(
                f"Skipped in `{self.name}`: {_some(self._skipped)}, whose format sgdd does not read."
            )
        if self._skipped or not all(FORMATS.find(ending(file.path.name)) for file, _ in self._files):
            notices += load_extensions()
        return notices


class StreamSource(Source):
    """Text that can be read only once: standard input or a pipe.

    Args:
        name: The source as the user named it.
        stream: Open bytes, which are lines of text; or the path of a pipe, whose ending may tell another format.
        config: The column that holds the text.

    Raises:
        DataError: If the ending is that of a format that sgdd does not read.
    """

    def __init__(self, name: str, stream: IO[bytes] | Path, config: DataConfig) -> None:
        self.name = name
        self._stream = stream
        self._column = config.column
        self._spooled: Path | None = None
        endings = "".join(stream.suffixes[-2:]).lower() if isinstance(stream, Path) else ""
        self._copy = f"standard-input{endings or '.txt'}"
        self._format = format_of(Path(self._copy))

    def spool(self, folder: Path) -> None:
        """Copy everything to a file, because a preparation may be resumed."""
        spooled = folder / self._copy
        try:
            opened = self._stream.open("rb") if isinstance(self._stream, Path) else nullcontext(self._stream)
        except OSError as error:
            raise unreadable(self._label, error) from error
        with opened as stream, spooled.open("wb") as file:
            shutil.copyfileobj(stream, file)
        self._spooled = spooled

    def describe(self, _recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """Size and SHA-256 of the text; known once it is spooled."""
        assert self._spooled is not None, "spool comes first"
        identity = _identity(self._spooled)
        del identity["path"]
        return {"kind": "stdin", **identity}

    def lines(self) -> Iterator[str]:
        """The raw text rows; only once before it is spooled."""
        path = self._spooled or self._stream
        if isinstance(path, Path):
            return self._format.rows(TextFile(path, self._column, self._label))
        return (line for _, line in decode_lines(path, self._label))

    @property
    def _label(self) -> str:
        return f"`{self.name}`" if isinstance(self._stream, Path) else self.name


class SavedDatasetSource(Source):
    """A folder that `save_to_disk` of the library `datasets` wrote: a `Dataset`, or one split of a `DatasetDict`.

    Args:
        folder: The folder.
        config: The column that holds the text, and the split.

    Raises:
        DataError: If there is no such split.
    """

    def __init__(self, folder: Path, config: DataConfig) -> None:
        self.name = str(folder)
        self._column = config.column
        self._folder = folder
        if not (folder / "state.json").is_file():
            self._folder = folder / config.split
            splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
            if config.split not in splits:
                raise DataError(
                    f"`{folder}` has no split `{config.split}`; it has {', '.join(splits) or 'none'}.",
                    "Choose one with --split.",
                )

    def describe(self, _recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """Every file with its size and SHA-256, so that a changed file is noticed."""
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        return {"kind": "saved_dataset", "path": self.name, "files": [_identity(path) for path in files]}

    def lines(self) -> Iterator[str]:
        """The raw text rows, memory-mapped."""
        yield from text_rows(self._rows, self._column, f"`{self.name}`")

    def estimated_lines(self) -> int:
        """Exactly how many there are."""
        return len(self._rows)

    @cached_property
    def _rows(self) -> Any:  # noqa: ANN401 - `datasets` has no types
        import datasets  # noqa: PLC0415 - takes 0.7 s and only this source needs it

        try:
            return datasets.load_from_disk(str(self._folder))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"`{self._folder}` is a damaged data set of `save_to_disk`: {error}.", "Save it again."
            ) from error


def _identity(path: Path) -> dict[str, Any]:
    try:
        return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    except OSError as error:
        raise unreadable(f"`{path}`", error) from error


def _some(paths: list[Path]) -> str:
    """The number of some files, and the names of the first: "3 files (a.png, b.pdf and 1 more)"."""
    names = ", ".join(path.name for path in paths[:5]) + (
        f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    )
    return f"{counted(len(paths), 'file')} ({names})"
