"""Reuse of sentence vectors that another prepared corpus already holds, instead of encoding again."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.data.deduplicate import content_hash
from sgdd_engine.data.manifest import SPLITS
from sgdd_engine.data.vectors import StoredVectors, is_finer
from sgdd_engine.errors import DataError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.text.reference import EncoderReference

VECTORS = "vectors"
# 128-bit hashes as two 64-bit numbers each, `[N, 2]`.
HashPairs = npt.NDArray[np.uint64]


def open_reusable_corpus(folder: Path, out: Path, dtype: EmbeddingDtype) -> Corpus:
    """Open the corpus whose vectors are to be reused; checks its manifest and the sizes of its files only.

    Args:
        folder: The prepared corpus.
        out: The folder of the new corpus.
        dtype: The storage type of the new corpus.

    Raises:
        DataError: If the folder is no prepared corpus, is `out` itself, or stores its vectors at lower precision.
    """
    if folder.resolve() == out.resolve():
        raise DataError(
            f"`{out}` cannot be prepared from its own vectors (data.vectors_from).",
            "Choose another folder with --out, and delete the old one when the new one is complete.",
        )
    corpus = Corpus.open(folder)
    stored: EmbeddingDtype = corpus.manifest.embedding["dtype"]
    if is_finer(dtype, stored):
        raise DataError(
            f"`{folder}` stores its vectors as {stored}, and {dtype} would not restore the lost precision.",
            f"Store them with --embedding-dtype {stored} too, or encode anew without --vectors-from.",
        )
    return corpus


def refuse_other_encoder(corpus: Corpus, encoder: EncoderReference) -> None:
    """Raise `DataError`, naming what differs, unless the vectors of `corpus` are those that `encoder` would make."""
    recorded = corpus.encoder_reference
    different = recorded.differences(encoder)
    if different:
        hint = (
            f"It was prepared with the encoder {recorded.name}; name that one, or leave --vectors-from out."
        )
        if len(different) == 1 and recorded.max_tokens != encoder.max_tokens:
            hint = f"Let the encoder read as much: --set encoder.max_tokens={recorded.max_tokens}"
        raise DataError(
            f"The vectors of `{corpus.folder}` are those of another encoder than {encoder.name}: "
            f"{'; '.join(different)}.",
            hint,
        )
    # The corpus shall be the same to the bit as if all its vectors were made now.
    if recorded.dtype != encoder.dtype:
        raise DataError(
            f"The vectors of `{corpus.folder}` were computed in {recorded.dtype}, not {encoder.dtype}.",
            f"Encode in the same arithmetic: --set encoder.precision={recorded.config().precision}",
        )


def hash_pairs(sentences: Iterable[str]) -> HashPairs:
    """The content hashes of sentences as two 64-bit numbers each, `[N, 2]`."""
    joined = b"".join(map(content_hash, sentences))
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


class HashIndex:
    """Finds the row of a content hash by binary search.

    Memory: 24 bytes per row; 40 during construction.

    Args:
        rows: The hashes in the order of their rows, `[N, 2]`, all different.
    """

    def __init__(self, rows: HashPairs) -> None:
        self._order: npt.NDArray[np.int64] = np.lexsort((rows[:, 1], rows[:, 0]))
        self._first = rows[self._order, 0]
        self._second = rows[self._order, 1]

    def find(self, wanted: HashPairs) -> npt.NDArray[np.int64]:
        """The row of each hash, -1 where there is none, `[M]`."""
        found = np.full(len(wanted), -1, np.int64)
        positions = np.searchsorted(self._first, wanted[:, 0])
        pending = np.arange(len(wanted))
        # Hashes with an equal first half are neighbours in the sorted order; a second round is very rare.
        while len(pending):
            pending = pending[positions[pending] < len(self._first)]
            pending = pending[self._first[positions[pending]] == wanted[pending, 0]]
            same = self._second[positions[pending]] == wanted[pending, 1]
            found[pending[same]] = self._order[positions[pending[same]]]
            pending = pending[~same]
            positions[pending] += 1
        return found


@dataclass(frozen=True)
class ReusableVectors:
    """The vectors of a prepared corpus, looked up by sentence.

    Memory: 24 bytes per sentence of that corpus in every process, 40 during construction; the vectors stay on
    disk and are memory-mapped.

    Attributes:
        corpus: The corpus.
        fingerprint: The fingerprint of its manifest.
    """

    corpus: Corpus
    fingerprint: str
    _splits: tuple[CorpusSplit, ...]
    _starts: npt.NDArray[np.int64]
    _index: HashIndex

    @classmethod
    def from_corpus(
        cls, corpus: Corpus, *, verify: bool = True, on_event: Listener = ignore
    ) -> "ReusableVectors":
        """Index all sentences of a corpus.

        Args:
            corpus: The corpus.
            verify: Compare its shards with their SHA-256 first, so that damage is not copied.
            on_event: Receives the stage `vectors` (sentences).

        Raises:
            DataError: If a shard is missing or damaged.
        """
        sizes = corpus.manifest.splits
        total = sum(sizes[split] for split in SPLITS)
        on_event(StageStarted(VECTORS, total))
        if verify:
            corpus.verify()
        splits = tuple(corpus.split(name) for name in SPLITS)
        index = HashIndex(_hash_sentences(splits, total, on_event))
        on_event(StageFinished(VECTORS, f"`{corpus.folder}` holds those of {total:,} sentences."))
        starts = np.cumsum([0, *map(len, splits)])
        return cls(corpus, corpus.manifest.fingerprint(), splits, starts, index)

    @property
    def mean_cosine_loss(self) -> float:
        """One minus the mean cosine between the encoder's vectors and the stored ones; NaN if it was not recorded."""
        return 1 - float(self.corpus.manifest.embedding.get("cosine_mean", math.nan))

    @property
    def max_cosine_loss(self) -> float:
        """One minus the lowest such cosine; NaN if it was not recorded."""
        return 1 - float(self.corpus.manifest.embedding.get("cosine_lowest", math.nan))

    @property
    def none_truncated(self) -> bool:
        """Whether the encoder truncated none of these sentences."""
        return self.corpus.manifest.embedding.get("truncated") == 0

    def find(self, sentences: list[str]) -> npt.NDArray[np.int64]:
        """The row of each sentence in the corpus (all splits in order), -1 if it is not there, `[N]`."""
        return self._index.find(hash_pairs(sentences))

    def vectors(self, rows: npt.NDArray[np.int64]) -> StoredVectors:
        """The vectors of some rows, in the number type of that corpus."""
        dtype: EmbeddingDtype = self.corpus.manifest.embedding["dtype"]
        result = StoredVectors.empty(len(rows), self.corpus.embedding_dim, dtype)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers):
            where = np.flatnonzero(numbers == number)
            result.assign(where, self._splits[number].stored(rows[where] - self._starts[number]))
        return result


def _hash_sentences(splits: tuple[CorpusSplit, ...], total: int, on_event: Listener) -> HashPairs:
    hashes = np.empty((total, 2), np.uint64)
    done = 0
    for sentences in _sentences(splits):
        hashes[done : done + len(sentences)] = hash_pairs(sentences)
        done += len(sentences)
        on_event(StageProgress(VECTORS, done))
    return hashes


def _sentences(splits: tuple[CorpusSplit, ...]) -> Iterator[list[str]]:
    for split in splits:
        yield from split.texts()
