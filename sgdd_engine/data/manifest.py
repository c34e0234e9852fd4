"""The manifest of a prepared corpus: its source, its settings and its content."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from sgdd_engine.atomic_files import sha256_of_json, write_json
from sgdd_engine.bounded_files import UnreadableError, read_json, shortened
from sgdd_engine.config_fields import from_plain
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.errors import ConfigError, DataError
from sgdd_engine.paths_and_shells import shell_line
from sgdd_engine.text.reference import LATER_FIELDS

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STATISTICS = "statistics.safetensors"
TOKENIZER = "tokenizer"
WORK = ".preparing"
SPLITS = ("train", "validation", "test")
PREPARE_AGAIN = "Prepare the corpus again with `sgdd prepare-data SOURCE --out FOLDER --overwrite`."
# The key under which the file has the SHA-256 of all its other keys; files of earlier versions lack it.
_SHA256 = "sha256"


@dataclass(frozen=True)
class Shard:
    """One Arrow file of a split."""

    file: str
    split: str
    rows: int
    bytes: int
    sha256: str

    def wrong_field(self) -> str | None:
        """The first field that cannot be used; a file lies in the corpus's own folder."""
        wrong = {
            "file": not isinstance(self.file, str) or Path(self.file).name != self.file,
            "split": not isinstance(self.split, str) or self.split not in SPLITS,
            "rows": not _is_count(self.rows),
            "bytes": not _is_count(self.bytes),
            "sha256": not isinstance(self.sha256, str),
        }
        return next((name for name, is_wrong in wrong.items() if is_wrong), None)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        source: The source of the text, with the hashes or the commit that identify it.
        encoder: The encoder reference: name, revision, pooling, size, hash of the weights.
        tokenizer: Kind, vocabulary size and fingerprint of the decoder's tokenizer, and its settings (`asked`).
        settings: The values of `DataConfig` that determine the corpus.
        counts: Lines read, sentences kept, and lines left out by reason.
        splits: Sentences by split.
        shards: The Arrow files in order.
        max_tokens: Tokens of the longest sentence.
        embedding: `dim`, `dtype`, the number of sentences that the encoder truncated (`truncated`), mean and lowest
            cosine between its vectors and the stored ones; with reused vectors also `origin`: how many were reused
            (`taken`, by the fingerprint of their corpus) and how many were encoded (`encoded`).
        created: When the corpus was finished, UTC, ISO 8601.
        files: SHA-256 of every file but the manifest and the shards, by its path in the folder; empty in manifests of
            earlier versions.
    """

    source: dict[str, Any]
    encoder: dict[str, Any]
    tokenizer: dict[str, Any]
    settings: dict[str, Any]
    counts: dict[str, Any]
    splits: dict[str, int]
    shards: tuple[Shard, ...]
    max_tokens: int
    embedding: dict[str, Any]
    created: str
    files: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read a corpus folder's manifest.

        Raises:
            DataError: If the folder is no prepared corpus, or its manifest is damaged or of another version.
        """
        path = folder / MANIFEST
        try:
            value = read_json(path)
        except UnreadableError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise DataError(*_not_a_corpus(folder)) from None
            raise DataError(error.message, PREPARE_AGAIN) from error
        if not isinstance(value, dict) or value.get("format_version") != FORMAT_VERSION:
            found = shortened(repr(value.get("format_version"))) if isinstance(value, dict) else None
            raise DataError(
                f"`{path}` has format version {found}; this sgdd reads version {FORMAT_VERSION}.",
                PREPARE_AGAIN,
            )
        missing = {
            one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING
        } - value.keys()
        if missing:
            raise DataError(f"`{path}` lacks {', '.join(sorted(missing))}.", PREPARE_AGAIN)
        try:
            recorded = value.pop(_SHA256, None)
            intact = recorded is None or recorded == sha256_of_json(value)
        except (TypeError, ValueError) as error:
            raise DataError(f"`{path}` is damaged.", PREPARE_AGAIN) from error
        if not intact:
            raise DataError(
                f"`{path}` is damaged or was changed: it has another SHA-256 than it says.", PREPARE_AGAIN
            )
        try:
            known = {one.name: value[one.name] for one in fields(cls) if one.name in value}
            manifest = from_plain(cls, known, "The manifest")
        except ConfigError as error:
            raise DataError(f"`{path}` is damaged. {error.message}", PREPARE_AGAIN) from error
        if wrong := manifest._wrong_entry():
            raise DataError(f"`{path}` has an impossible value of `{wrong}`.", PREPARE_AGAIN)
        return manifest

    def _wrong_entry(self) -> str | None:
        """The first entry that is read and cannot be used, such as `embedding.dim`."""
        dtype, rows = self.embedding.get("dtype"), dict.fromkeys(SPLITS, 0)
        for number, shard in enumerate(self.shards):
            if shard.wrong_field():
                return f"shards.{number}.{shard.wrong_field()}"
            rows[shard.split] += shard.rows
        wrong = {
            "max_tokens": self.max_tokens < 1,
            "embedding.dim": not _is_count(self.embedding.get("dim")),
            "embedding.dtype": not isinstance(dtype, str) or dtype not in get_args(EmbeddingDtype),
            "tokenizer.vocab_size": not _is_count(self.tokenizer.get("vocab_size")),
            "tokenizer.fingerprint": not isinstance(self.tokenizer.get("fingerprint"), str),
            "tokenizer.asked": not isinstance(self.tokenizer.get("asked"), dict),
            "splits": self.splits != rows,
            "files": not all(
                isinstance(hash, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
                for name, hash in self.files.items()
            ),
        }
        return next((name for name, is_wrong in wrong.items() if is_wrong), None)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` atomically; it makes the folder a corpus."""
        plain = self.to_dict()
        write_json(folder / MANIFEST, {**plain, _SHA256: sha256_of_json(plain)})

    def to_dict(self) -> dict[str, Any]:
        """The manifest as it is stored."""
        return asdict(self)

    def fingerprint(self) -> str:
        """A SHA-256 of the content, independent of place, date and reuse of vectors."""
        value = identity(self.to_dict())
        # The files follow from the rest, and earlier versions did not record them.
        del value["created"], value["files"]
        value["embedding"] = {key: item for key, item in self.embedding.items() if key != "origin"}
        return sha256_of_json(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def identity(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description without file paths, so that moved files are recognised as the same."""
    result = dict(description)
    source = dict(result["source"])
    if "files" in source:
        source["files"] = [{**file, "path": Path(file["path"]).name} for file in source["files"]]
        source.pop("path", None)
    result["source"] = source
    # The name of an encoder may be a folder. What references did not record at first is left out, so that a corpus
    # that is prepared again is still the same one; the hashes of the shards tell other vectors.
    passed = {"name", *LATER_FIELDS}
    result["encoder"] = {key: value for key, value in result["encoder"].items() if key not in passed}
    return result


def _not_a_corpus(folder: Path) -> tuple[str, str]:
    if not folder.exists():
        return (
            f"There is no prepared corpus `{folder}`.",
            f"Make one with `{shell_line(['sgdd', 'prepare-data', 'SOURCE', '--out', folder])}`.",
        )
    if (folder / WORK).is_dir():
        return (
            f"The preparation of `{folder}` was not finished.",
            "Run the same `sgdd prepare-data` command again; it goes on where it stopped.",
        )
    return (
        f"`{folder}` is not a prepared corpus: it has no {MANIFEST}.",
        "Make one with `sgdd prepare-data SOURCE --out FOLDER`.",
    )
