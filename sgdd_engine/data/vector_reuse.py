"""Reuse of sentence vectors that another prepared corpus already holds, instead of encoding again."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgdd_engine.counted import counted
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.data.deduplicate import content_hash
from sgdd_engine.data.vectors import StoredVectors, is_finer
from sgdd_engine.errors import DataError
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.text.reference import EncoderReference

VECTORS = "vectors"
# 128-bit hashes as 16 bytes each; numpy sorts and compares them as a whole.
_HASH = "S16"
Hashes = npt.NDArray[np.bytes_]


def open_reusable_corpus(
    folder: Path, out: Path, dtype: EmbeddingDtype, *, verify: bool = True, on_event: Listener = ignore
) -> Corpus:
    """Open the corpus whose vectors are to be reused.

    Args:
        folder: The prepared corpus.
        out: The folder of the new corpus.
        dtype: The storage type of the new corpus.
        verify: As for `Corpus.open`.
        on_event: Likewise.

    Raises:
        DataError: If the folder is no prepared corpus, is `out` itself, or stores its vectors at lower precision.
    """
    if folder.resolve() == out.resolve():
        raise DataError(
            f"`{out}` cannot be prepared from its own vectors (data.vectors_from).",
            "Choose another folder with --out, and delete the old one when the new one is complete.",
        )
    corpus = Corpus.open(folder, verify=verify, on_event=on_event)
    stored: EmbeddingDtype = corpus.manifest.embedding["dtype"]
    if is_finer(dtype, stored):
        raise DataError(
            f"`{folder}` stores its vectors as {stored}, and {dtype} would not restore the lost precision.",
            f"Store them with --embedding-dtype {stored} too, or encode again without --vectors-from.",
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


def hash_sentences(sentences: Iterable[str]) -> Hashes:
    """The content hashes of sentences, `[N]`."""
    return np.frombuffer(b"".join(map(content_hash, sentences)), _HASH)


class HashIndex:
    """Finds the row of a content hash by binary search.

    Memory: 24 bytes per row; 40 during construction.

    Args:
        rows: The hashes in the order of their rows, `[N]`, all different.
    """

    def __init__(self, rows: Hashes) -> None:
        self._order: npt.NDArray[np.int64] = np.argsort(rows)
        self._sorted = rows[self._order]

    def find(self, wanted: Hashes) -> npt.NDArray[np.int64]:
        """The row of each hash, -1 where there is none, `[M]`."""
        positions = np.searchsorted(self._sorted, wanted).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[positions] == wanted, self._order[positions], -1)


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
    _rows: CorpusSplit
    _index: HashIndex

    @classmethod
    def from_corpus(cls, corpus: Corpus, *, on_event: Listener = ignore) -> "ReusableVectors":
        """Index all sentences of a corpus.

        Args:
            corpus: The corpus.
            on_event: Receives the stage `vectors` (sentences).

        Raises:
            DataError: If a shard is missing or damaged.
        """
        rows = corpus.all_rows()
        total = len(rows)
        on_event(StageStarted(VECTORS, total))
        hashes, done = np.empty(len(rows), _HASH), 0
        for sentences in rows.texts():
            hashes[done : done + len(sentences)] = hash_sentences(sentences)
            done += len(sentences)
            on_event(StageProgress(VECTORS, done))
        on_event(StageFinished(VECTORS, f"`{corpus.folder}` holds those of {counted(total, 'sentence')}."))
        return cls(corpus, corpus.manifest.fingerprint(), rows, HashIndex(hashes))

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
        """The row of each sentence in the corpus (all shards in order), -1 if it is not there, `[N]`."""
        return self._index.find(hash_sentences(sentences))

    def vectors(self, rows: npt.NDArray[np.int64]) -> StoredVectors:
        """The vectors of some rows, in the number type of that corpus."""
        return self._rows.stored(rows)
