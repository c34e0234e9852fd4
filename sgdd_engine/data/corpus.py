"""Memory-mapped reading of a prepared corpus, in batches of sentences of one exact length.

Data is copied only when a batch is gathered.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sgdd_engine.data.manifest import MANIFEST, PREPARE_AGAIN, SPLITS, STATISTICS, TOKENIZER, Manifest, Shard
from sgdd_engine.data.stored_shard import Segment, check_content, check_size, open_shard
from sgdd_engine.data.vectors import StoredVectors
from sgdd_engine.errors import DataError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.verified_files import is_intact, is_remembered

CHECKING = "checking the corpus"
Rows = npt.NDArray[np.int64]


# Files of so many bytes are read and hashed in about a second.
_BYTES_OF_A_MOMENT = 1_000_000_000


@dataclass(frozen=True)
class VerifiedFile:
    """A file of a corpus that was read by `Corpus.verify`.

    Attributes:
        name: Its path in the folder.
        bytes: Its size.
        hashed: Whether it was compared with a SHA-256; files of earlier versions may have none, and were checked for
            their form.
        rows: Sentences in it, each of them looked at; None where it holds none.
    """

    name: str
    bytes: int
    hashed: bool
    rows: int | None


class Corpus:
    """A prepared corpus on disk. Open one with `Corpus.open`."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        encoder: str | Path | None = None,
        *,
        verify: bool = True,
        on_event: Listener = ignore,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self._encoder = encoder
        self._verify = verify
        self._on_event = on_event
        self._splits: dict[str, CorpusSplit] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        encoder: str | Path | None = None,
        *,
        verify: bool = True,
        on_event: Listener = ignore,
    ) -> "Corpus":
        """Open a corpus folder; its small files are verified now, and the shards of a split when that is first used.

        A file that was verified within the last day and has not been touched since is not read again
        (`sgdd_engine.verified_files`). Corpora of earlier versions have no hashes of their manifest and statistics,
        which are then checked for their form alone.

        Args:
            folder: The corpus folder.
            encoder: Where its encoder is now, if that folder has moved; it is verified when it is loaded.
            verify: Compare files with their SHA-256; without it, as where another process does so, sizes alone.
            on_event: Told how the reading goes on where it takes more than a moment.

        Raises:
            DataError: If the folder is no prepared corpus, or a file is missing, damaged or of another size.
        """
        corpus = cls(folder, Manifest.read(folder), encoder, verify=verify, on_event=on_event)
        for shard in corpus.manifest.shards:
            check_size(folder, shard)
        corpus._check_small_files(again=False)
        return corpus

    def __repr__(self) -> str:
        return (
            f"Corpus({str(self.folder)!r}, sentences={dict(self.manifest.splits)}, "
            f"encoder={self.encoder_reference.name!r}, embedding_dim={self.embedding_dim}, "
            f"max_tokens={self.max_tokens})"
        )

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The decoder's tokenizer.

        Raises:
            DataError: If its files are missing or are not those that made the corpus.
        """
        tokenizer = TextTokenizer.load(self.folder / TOKENIZER)
        if tokenizer.fingerprint() != self.manifest.tokenizer["fingerprint"]:
            raise DataError(
                f"`{self.folder / TOKENIZER}` is not the tokenizer that made this corpus.", PREPARE_AGAIN
            )
        return tokenizer

    @property
    def embedding_dim(self) -> int:
        """Size D of the sentence vectors."""
        return int(self.manifest.embedding["dim"])

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest sentence."""
        return self.manifest.max_tokens

    @property
    def encoder_reference(self) -> EncoderReference:
        """Which encoder made the vectors, and where it is."""
        recorded = EncoderReference.from_dict(self.manifest.encoder)
        return recorded if self._encoder is None else recorded.at(self._encoder)

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the training vectors, float32 `[D]` each.

        Raises:
            DataError: If they are missing, or not so many finite numbers, the deviations above 0.
        """
        path = self.folder / STATISTICS
        try:
            tensors = load_file(path)
            mean, std = tensors["mean"], tensors["std"]
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"`{path}` is missing or damaged.", PREPARE_AGAIN) from error
        shape = (self.embedding_dim,)
        if not all(one.shape == shape and one.dtype == torch.float32 for one in (mean, std)):
            raise DataError(
                f"`{path}` does not hold statistics of {self.embedding_dim} dimensions.", PREPARE_AGAIN
            )
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise DataError(f"`{path}` holds numbers that cannot be right.", PREPARE_AGAIN)
        return mean, std

    def split(self, name: str) -> "CorpusSplit":
        """The sentences of `train`, `validation` or `test`.

        Raises:
            DataError: If there is no such split, or a shard is damaged.
        """
        if name not in SPLITS:
            raise DataError(f"A corpus has no split `{name}`.", f"It has {', '.join(SPLITS)}.")
        if name not in self._splits:
            self._splits[name] = self._rows([shard for shard in self.manifest.shards if shard.split == name])
        return self._splits[name]

    def all_rows(self) -> "CorpusSplit":
        """The sentences of all splits, shard by shard as the manifest lists them.

        Raises:
            DataError: If a shard is damaged.
        """
        return self._rows(self.manifest.shards)

    def verify(self) -> list[VerifiedFile]:
        """Read every file, whatever was found before, and compare it with its SHA-256 in the manifest.

        Returns:
            The files that were compared, and those that no hash is recorded of.

        Raises:
            DataError: If a file is missing or was changed, or holds what no preparation writes.
        """
        shards = self.manifest.shards
        for shard in shards:
            check_size(self.folder, shard)
        self._check_small_files(again=True)
        _ = self.tokenizer
        self._check_shards(shards, again=True)
        recorded = {shard.file: shard.rows for shard in shards} | dict.fromkeys(self.manifest.files)
        unrecorded = () if self.manifest.files else (MANIFEST, STATISTICS)
        return [
            VerifiedFile(name, (self.folder / name).stat().st_size, name not in unrecorded, rows)
            for name, rows in ({MANIFEST: None, STATISTICS: None} | recorded).items()
        ]

    def _rows(self, shards: Sequence[Shard]) -> "CorpusSplit":
        if self._verify:
            self._check_shards(shards, again=False)
        return CorpusSplit(self.folder, shards, self.manifest)

    def _check_small_files(self, *, again: bool) -> None:
        for name, sha256 in self.manifest.files.items():
            try:
                intact = not self._verify or is_intact(self.folder / name, sha256, again=again)
            except OSError as error:
                raise DataError(
                    f"`{self.folder / name}` is missing or cannot be read.", PREPARE_AGAIN
                ) from error
            if not intact:
                raise _damaged(self.folder / name)
        self.statistics()

    def _check_shards(self, shards: Sequence[Shard], *, again: bool) -> None:
        paths = {shard: self.folder / shard.file for shard in shards}
        try:
            unknown = [shard for shard in shards if again or not is_remembered(paths[shard], shard.sha256)]
            total = sum(shard.bytes for shard in unknown)
            listener = self._on_event if total >= _BYTES_OF_A_MOMENT else ignore
            listener(StageStarted(CHECKING, total, "bytes"))
            done = 0
            for shard in unknown:
                content = partial(check_content, paths[shard], shard, self.manifest)
                if not is_intact(paths[shard], shard.sha256, content, again=again):
                    raise _damaged(paths[shard])
                done += shard.bytes
                listener(StageProgress(CHECKING, done))
            listener(StageFinished(CHECKING))
        except OSError as error:
            raise DataError(
                f"`{self.folder}` cannot be read: {error.strerror or error}.", PREPARE_AGAIN
            ) from error


class CorpusSplit:
    """The rows of some shards in their order: those of one split, or of all."""

    def __init__(self, folder: Path, shards: Sequence[Shard], manifest: Manifest) -> None:
        self._segments = [
            segment for shard in shards for segment in open_shard(folder / shard.file, shard, manifest)
        ]
        self._embedding_dim = int(manifest.embedding["dim"])
        sizes = [len(segment) for segment in self._segments]
        self._bounds = np.cumsum([0, *sizes])
        parts = [np.diff(segment.starts) for segment in self._segments]
        self.lengths: npt.NDArray[np.int32] = np.concatenate([np.empty(0, np.int32), *parts])

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def batch(self, indices: npt.NDArray[np.integer]) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather rows that all have one length n.

        Args:
            indices: Row numbers `[B]`.

        Returns:
            Tokens int64 `[B, n]` and embeddings float32 `[B, D]`.
        """
        return torch.from_numpy(self.token_rows(indices)), self.embeddings(indices)

    def token_rows(self, indices: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The tokens of rows that all have one length n, `[B, n]`."""
        lengths = self.lengths[indices]
        n = int(lengths[0])
        assert (lengths == n).all(), "a batch holds rows of one length"
        tokens = np.empty((len(indices), n), np.int64)
        for segment, rows, where in self._located(indices):
            tokens[where] = segment.tokens[segment.starts[rows][:, None] + np.arange(n)]
        return tokens

    def embeddings(self, indices: npt.NDArray[np.integer]) -> torch.Tensor:
        """The vectors of the rows, float32 `[B, D]`."""
        result = np.empty((len(indices), self._embedding_dim), np.float32)
        for segment, rows, where in self._located(indices):
            result[where] = segment.embeddings.dequantize(rows)
        return torch.from_numpy(result)

    def stored(self, indices: npt.NDArray[np.integer]) -> StoredVectors:
        """The vectors of the rows in the number type of the disk (a copy)."""
        dtype = self._segments[0].embeddings.dtype
        result = StoredVectors.empty(len(indices), self._embedding_dim, dtype)
        for segment, rows, where in self._located(indices):
            result.assign(where, segment.embeddings.select(rows))
        return result

    def texts(self) -> Iterator[list[str]]:
        """The cleaned sentences of all rows in order, one shard's at a time."""
        for segment in self._segments:
            yield segment.texts.to_pylist()

    def tokens(self, index: int) -> list[int]:
        """The token ids of one row."""
        segment, row = self._locate(index)
        ids: list[int] = segment.tokens[segment.starts[row] : segment.starts[row + 1]].tolist()
        return ids

    def text(self, index: int) -> str:
        """The cleaned sentence of one row."""
        segment, row = self._locate(index)
        return str(segment.texts[row].as_py())

    def _locate(self, index: int) -> tuple[Segment, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = int(np.searchsorted(self._bounds, index, side="right")) - 1
        return self._segments[number], int(index - self._bounds[number])

    def _located(
        self, indices: npt.NDArray[np.integer]
    ) -> Iterator[tuple[Segment, npt.NDArray[np.integer], npt.NDArray[np.integer] | slice]]:
        """Each segment that holds some of the rows, the rows inside it, and their positions in `indices`."""
        if len(self._segments) == 1:
            yield self._segments[0], indices, slice(None)
            return
        numbers = np.searchsorted(self._bounds, indices, side="right") - 1
        for number in np.unique(numbers):
            where = np.flatnonzero(numbers == number)
            yield self._segments[number], indices[where] - self._bounds[number], where


def _damaged(path: Path) -> DataError:
    return DataError(f"`{path}` is damaged: its SHA-256 differs.", PREPARE_AGAIN)


class ExactLengthBatches:
    """The order of the rows of a split, epoch after epoch, as batches of one length each.

    The order is a function of `(seed, epoch)` alone, so a checkpoint stores only a position, and the processes of
    a distributed run agree on the order without communication. Every row comes exactly once per epoch.

    Args:
        lengths: Tokens of each row, `[N]`.
        batch_tokens: No batch holds more tokens, except that a single row always fits.
        seed: Seed of the order.

    Raises:
        DataError: If there are no rows.
    """

    def __init__(self, lengths: npt.NDArray[np.integer], *, batch_tokens: int, seed: int) -> None:
        if len(lengths) == 0:
            raise DataError("There are no sentences to make batches of.", "Prepare a larger corpus.")
        # Lengths are at most a few hundred.
        self._lengths = np.asarray(lengths, dtype=np.uint16)
        self._seed = seed
        self._edges = _batch_edges(self._lengths, batch_tokens)
        self._epoch = -1
        self._rows: npt.NDArray[np.int32 | np.int64] = np.empty(0, np.int32)
        self._order: Rows = np.empty(0, np.int64)

    def __len__(self) -> int:
        """Batches per epoch; the same for every epoch."""
        return len(self._edges) - 1

    def batch(self, position: int) -> Rows:
        """The row indices `[B]` of the batch at `position`, counted on from the first epoch."""
        epoch, index = divmod(position, len(self))
        if epoch != self._epoch:
            self._shuffle(epoch)
        number = self._order[index]
        return self._rows[self._edges[number] : self._edges[number + 1]].astype(np.int64)

    def _shuffle(self, epoch: int) -> None:
        # Every process holds the order of all rows: of 70 million a sort would take 2.4 GB where an epoch begins.
        count = len(self._lengths)
        self._rows = np.empty(0, np.int32)
        random = np.random.default_rng([self._seed, epoch])
        rows = np.arange(count, dtype=np.int32 if count <= np.iinfo(np.int32).max else np.int64)
        random.shuffle(rows)
        lengths = self._lengths[rows]
        self._rows = np.concatenate([rows[lengths == length] for length in np.unique(lengths)])
        self._order = random.permutation(len(self))
        self._epoch = epoch


def _batch_edges(lengths: npt.NDArray[np.uint16], batch_tokens: int) -> Rows:
    """Where batches begin and end in rows sorted by length, `[batches + 1]`; the same in every epoch.

    The rows of one length are divided evenly, since a last batch of one row would give a noisy gradient.
    """
    counts = np.bincount(lengths)
    edges = [0]
    for length in np.flatnonzero(counts):
        count = int(counts[length])
        rows_per_batch = max(1, batch_tokens // max(1, int(length)))
        batches = math.ceil(count / rows_per_batch)
        start = edges[-1]
        edges.extend(start + count * number // batches for number in range(1, batches + 1))
    assert all(low < high for low, high in pairwise(edges))
    return np.asarray(edges, dtype=np.int64)
