"""The first pass of preparation: raw lines become distinct clean sentences on disk, ordered by content hash.

Sentences go to 256 bucket files by the hash of their content. Equal sentences fall into one bucket, so exact
de-duplication holds one bucket in memory and not the corpus; and reading bucket after bucket is a shuffle that
does not depend on the order of the source. Buckets that are too large for memory are split by the next digit of
the hash.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sgdd_engine.counted import counted
from sgdd_engine.data.cleaning import Rejection, Rejections, clean, describe_rejections, rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.manifest import SPLITS
from sgdd_engine.errors import DataError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore

MIN_SENTENCES = 20
READING = "reading"

_HASH_RANGE = 1 << 64
_BUCKET_DIGITS = 2  # of the hash, in hex
_BUCKET_BYTES = 32_000_000  # a larger one is split; in memory it takes about three times as much
_BLOCK_BYTES = 1 << 20
_MOST_DIGITS = 16  # half of the hash: a bucket that is still too large repeats one sentence
_BUFFER_CHARACTERS = 4_000_000  # held before a flush; 256 open files would exceed the limit of macOS
_PROGRESS_EVERY = 5_000
_EXACT_SPLITS_BELOW = 20_000


def content_hash(sentence: str) -> bytes:
    """The 128-bit BLAKE2b hash of a sentence."""
    return hashlib.blake2b(sentence.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class DistinctSentences:
    """Counts of the first pass, the bounds of the splits on the scale of the content hash, and a rejected line each.

    `examples` holds the beginnings of such lines by reason; `sha256` is that of the distinct sentences, as
    `sha256_of_distinct` gives it.
    """

    read: int
    unique: int
    rejected: dict[str, int]
    validation_below: int
    test_from: int
    # Older versions kept neither.
    examples: dict[str, str] = field(default_factory=dict)
    sha256: str | None = None

    def split_of(self, sentence: str) -> str:
        """The split that a sentence belongs to, by its content alone."""
        key = _split_key(content_hash(sentence))
        if key < self.validation_below:
            return "validation"
        return "test" if key >= self.test_from else "train"


@dataclass(frozen=True)
class Group:
    """The sentences that become one shard."""

    split: str
    number: int
    sentences: list[str]

    @property
    def name(self) -> str:
        """The shard's name without its ending, for example `train-00000`."""
        return f"{self.split}-{self.number:05d}"


def deduplicate(
    lines: Iterable[str],
    folder: Path,
    *,
    name: str,
    config: DataConfig,
    total: int | None = None,
    on_event: Listener = ignore,
) -> DistinctSentences:
    """Clean, filter and de-duplicate lines into bucket files; earlier content of `folder` is deleted.

    Args:
        lines: Raw text rows; at most `data.limit` of them are read.
        folder: Where the buckets go.
        name: The source's name in messages.
        config: Limits on words, and the share held out.
        total: Approximate number of rows, if known.
        on_event: Receives the stage `reading`.

    Raises:
        DataError: If the source is empty or fewer than 20 distinct sentences are left.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    on_event(StageStarted(READING, total, "lines"))
    rejected = Rejections()
    read = _fill_buckets(lines, folder, config, rejected, on_event)
    keys: list[int] = []
    unique = 0
    everything = hashlib.sha256()
    for bucket in _split_large_buckets(folder):
        distinct, duplicates, example = _deduplicate_bucket(bucket, everything)
        unique += len(distinct)
        rejected.add(Rejection.DUPLICATE, example, duplicates)
        if unique < _EXACT_SPLITS_BELOW:
            keys += map(_split_key, distinct)
    left_out = describe_rejections(rejected.counts, config)
    if unique < MIN_SENTENCES:
        raise too_few(name, unique, read, left_out)
    below, test_from = _split_bounds(
        unique, config.validation_share, keys if unique < _EXACT_SPLITS_BELOW else None
    )
    # Length in tokens is checked later, so nothing is said here of what was left out: it would not be all.
    on_event(StageFinished(READING, f"{counted(read, 'line')}, {counted(unique, 'distinct sentence')}."))
    return DistinctSentences(
        read,
        unique,
        {key: count for key, count in rejected.counts.items() if count},
        below,
        test_from,
        rejected.examples,
        everything.hexdigest(),
    )


def too_few(name: str, kept: int, read: int, left_out: str) -> DataError:
    """The error for a source with too few distinct sentences, or without any line."""
    if read == 0:
        return DataError(f"{name} is empty: it holds no line of text.", "Give a source with text in it.")
    return DataError(
        f"{name} leaves {counted(kept, 'distinct sentence')} of {counted(read, 'line')}, and a corpus needs "
        f"{MIN_SENTENCES} (left out: {left_out}).",
        "Give more text, one sentence per line, or widen data.min_words, data.max_words and data.max_tokens "
        "with --set.",
    )


def read_distinct(folder: Path) -> Iterator[str]:
    """The distinct sentences, bucket by bucket."""
    for path in sorted(folder.glob("*.txt")):
        with path.open(encoding="utf-8", newline="\n") as stream:
            for line in stream:
                yield line.rstrip("\n")


def sha256_of_distinct(folder: Path) -> str:
    """SHA-256 of the distinct sentences in their order, a line each."""
    everything = hashlib.sha256()
    for path in sorted(folder.glob("*.txt")):
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                everything.update(block)
    return everything.hexdigest()


def split_into_groups(
    sentences: Iterator[str], distinct: DistinctSentences, shard_sentences: int
) -> Iterator[Group]:
    """Assign sentences to splits and divide each split into groups of a shard's size; deterministic."""
    waiting: dict[str, list[str]] = {split: [] for split in SPLITS}
    numbers = dict.fromkeys(SPLITS, 0)
    for sentence in sentences:
        split = distinct.split_of(sentence)
        waiting[split].append(sentence)
        if len(waiting[split]) == shard_sentences:
            yield Group(split, numbers[split], waiting[split])
            waiting[split] = []
            numbers[split] += 1
    for split in SPLITS:
        if waiting[split]:
            yield Group(split, numbers[split], waiting[split])


class _Buckets:
    """A buffered writer of files that are named by the first digits of a sentence's hash."""

    def __init__(self, folder: Path, digits: int) -> None:
        self._folder, self._digits = folder, digits
        self._waiting: dict[str, list[str]] = {}
        self._characters = 0

    def add(self, sentence: str) -> None:
        bucket = content_hash(sentence).hex()[: self._digits]
        self._waiting.setdefault(bucket, []).append(sentence)
        self._characters += len(sentence)
        if self._characters >= _BUFFER_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        for bucket, sentences in self._waiting.items():
            with (self._folder / f"{bucket}.txt").open("a", encoding="utf-8", newline="\n") as stream:
                stream.writelines(sentence + "\n" for sentence in sentences)
        self._waiting.clear()
        self._characters = 0


def _fill_buckets(
    lines: Iterable[str], folder: Path, config: DataConfig, rejected: Rejections, on_event: Listener
) -> int:
    buckets = _Buckets(folder, _BUCKET_DIGITS)
    read = 0
    for line in lines:
        read += 1
        sentence = clean(line)
        reason = rejection(sentence, config)
        if reason is None:
            buckets.add(sentence)
        else:
            rejected.add(reason, sentence)
        if read % _PROGRESS_EVERY == 0:
            on_event(StageProgress(READING, read))
        if read == config.limit:
            break
    buckets.flush()
    return read


def _split_large_buckets(folder: Path) -> Iterator[Path]:
    """The buckets by name; those too large for memory are split into smaller ones first."""
    waiting = sorted(folder.glob("*.txt"), reverse=True)
    while waiting:
        path = waiting.pop()
        if path.stat().st_size <= _BUCKET_BYTES or len(path.stem) >= _MOST_DIGITS:
            yield path
            continue
        smaller = _Buckets(folder, len(path.stem) + 1)
        with path.open(encoding="utf-8", newline="\n") as stream:
            for line in stream:
                smaller.add(line.rstrip("\n"))
        smaller.flush()
        path.unlink()
        waiting += sorted(folder.glob(f"{path.stem}?.txt"), reverse=True)


def _deduplicate_bucket(path: Path, everything: "hashlib._Hash") -> tuple[list[bytes], int, str]:
    """Keep the first of equal sentences in a bucket, and add it to the hash of all.

    Returns:
        The remaining hashes, the number of duplicates, and the first of them.
    """
    kept: dict[bytes, str] = {}
    count = 0
    example = ""
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            count += 1
            sentence = line.rstrip("\n")
            if kept.setdefault(content_hash(sentence), line) is not line:
                example = example or sentence
    for line in kept.values():
        everything.update(line.encode())
    if len(kept) < count:
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(kept.values())
    return list(kept), count - len(kept), example


def _split_bounds(unique: int, share: float, keys: list[int] | None) -> tuple[int, int]:
    """Below which hash a sentence is for validation, and from which on for testing.

    A small corpus holds out up to a tenth for each, so that a measurement has enough sentences; and its bounds
    are quantiles of its own hashes, because fixed bounds could leave a split of a few sentences empty.
    """
    share = max(share, min(0.1, 200 / unique))
    if keys is None:
        held_out = int(share * _HASH_RANGE)
        return held_out, _HASH_RANGE - held_out
    keys = sorted(keys)
    count = max(1, round(share * unique))
    return keys[count], keys[-count]


def _split_key(content: bytes) -> int:
    # Other bytes than the one that chose the bucket, so that every bucket has sentences of every split.
    return int.from_bytes(content[8:], "big")
