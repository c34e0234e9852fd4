"""Vectors of sentences that another prepared corpus holds already, so that they need not be made again."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.data.hash_index import DigestIndex, Halves, halves
from sgdd_engine.data.manifest import SPLITS
from sgdd_engine.data.vectors import StoredVectors, is_finer
from sgdd_engine.errors import DataError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.text.reference import EncoderReference

VECTORS = "vectors"


def open_origin(folder: Path, out: Path, dtype: EmbeddingDtype) -> Corpus:
    """Open the corpus that vectors shall be taken from; only its manifest and the sizes of its files are looked at.

    Args:
        folder: The prepared corpus.
        out: The folder that is prepared.
        dtype: How vectors will be stored there.

    Raises:
        DataError: If the folder is no prepared corpus, is `out` itself, or stores its vectors more coarsely.
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
            f"`{folder}` stores its vectors as {stored}, and {dtype} would not bring back what that dropped.",
            f"Store them with --embedding-dtype {stored} too, or encode anew without --vectors-from.",
        )
    return corpus


def refuse_other_encoder(origin: Corpus, encoder: EncoderReference) -> None:
    """Raise `DataError`, naming what differs, unless the vectors of `origin` are those that `encoder` would make."""
    then = origin.encoder_reference
    different = then.differences(encoder)
    if different:
        hint = f"It was prepared with the encoder {then.name}; name that one, or leave --vectors-from out."
        if len(different) == 1 and then.max_tokens != encoder.max_tokens:
            hint = f"Let the encoder read as much: --set encoder.max_tokens={then.max_tokens}"
        raise DataError(
            f"The vectors of `{origin.folder}` are those of another encoder than {encoder.name}: "
            f"{'; '.join(different)}.",
            hint,
        )
    # The corpus shall be the same to the bit as if all its vectors were made now.
    if then.dtype != encoder.dtype:
        raise DataError(
            f"The vectors of `{origin.folder}` were computed in {then.dtype}, not {encoder.dtype}.",
            f"Encode in the same arithmetic: --set encoder.precision={then.config().precision}",
        )


@dataclass(frozen=True)
class KnownVectors:
    """The vectors of a prepared corpus, found by their sentences.

    Memory: 24 bytes for every sentence of that corpus in every process, 40 while they are put in order; the vectors
    stay on the disk and are mapped into memory.

    Attributes:
        origin: The corpus.
        fingerprint: That of its manifest.
    """

    origin: Corpus
    fingerprint: str
    _splits: tuple[CorpusSplit, ...]
    _starts: npt.NDArray[np.int64]
    _index: DigestIndex

    @classmethod
    def of(cls, origin: Corpus, *, verify: bool = True, on_event: Listener = ignore) -> "KnownVectors":
        """Read all sentences of a corpus.

        Args:
            origin: The corpus.
            verify: Compare its shards with their SHA-256 first, because what is damaged would be passed on.
            on_event: Told of the stage `vectors` (sentences).

        Raises:
            DataError: If a shard is missing or damaged.
        """
        sizes = origin.manifest.splits
        total = sum(sizes[split] for split in SPLITS)
        on_event(StageStarted(VECTORS, total))
        if verify:
            origin.verify()
        splits = tuple(origin.split(name) for name in SPLITS)
        index = DigestIndex(_digests(splits, total, on_event))
        on_event(StageFinished(VECTORS, f"`{origin.folder}` holds those of {total:,} sentences."))
        starts = np.cumsum([0, *map(len, splits)])
        return cls(origin, origin.manifest.fingerprint(), splits, starts, index)

    @property
    def lost_mean(self) -> float:
        """One minus the mean cosine between the encoder's vectors and these; not a number where it is not known."""
        return 1 - float(self.origin.manifest.embedding.get("cosine_mean", math.nan))

    @property
    def lost_most(self) -> float:
        """One minus the lowest such cosine."""
        return 1 - float(self.origin.manifest.embedding.get("cosine_lowest", math.nan))

    @property
    def all_read_whole(self) -> bool:
        """Whether the encoder read each of these sentences to its end."""
        return self.origin.manifest.embedding.get("truncated") == 0

    def find(self, sentences: list[str]) -> npt.NDArray[np.int64]:
        """The place of each sentence in the corpus, -1 where it does not stand there, `[N]`."""
        return self._index.find(halves(sentences))

    def vectors(self, places: npt.NDArray[np.int64]) -> StoredVectors:
        """The vectors at some places, as they are stored there."""
        dtype: EmbeddingDtype = self.origin.manifest.embedding["dtype"]
        result = StoredVectors.empty(len(places), self.origin.embedding_dim, dtype)
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(numbers):
            where = np.flatnonzero(numbers == number)
            result.put(where, self._splits[number].stored(places[where] - self._starts[number]))
        return result


def _digests(splits: tuple[CorpusSplit, ...], total: int, on_event: Listener) -> Halves:
    digests = np.empty((total, 2), np.uint64)
    done = 0
    for sentences in _sentences(splits):
        digests[done : done + len(sentences)] = halves(sentences)
        done += len(sentences)
        on_event(StageProgress(VECTORS, done))
    return digests


def _sentences(splits: tuple[CorpusSplit, ...]) -> Iterator[list[str]]:
    for split in splits:
        yield from split.texts()
