"""The sentences of one shard: dealt out by their content, tokenised, and put in order of length."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdd_engine.data.deduplicate import Staged
from sgdd_engine.data.manifest import SPLITS
from sgdd_engine.data.vector_reuse import KnownVectors
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.encoder_tokenizer import TokenizedBatch
from sgdd_engine.text.tokenizer import TextTokenizer

# Sentences tokenised at once; the library's objects for a whole shard would be larger than the shard.
_TOKENISED_ROWS = 4096


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


@dataclass(frozen=True)
class TokenisedGroup:
    """A group that is ready for the encoder, the shortest sentences first.

    Attributes:
        name: The shard's name without its ending.
        split: The split it belongs to.
        candidates: Sentences that went in.
        texts: Those that are short enough.
        tokens: Their token ids side by side, int32 `[sum of lengths]`.
        lengths: Tokens of each, `[N]`.
        unknown_tokens: Pieces that the vocabulary does not know.
        cut: The sentences that are to be encoded, as the encoder reads them; all of them where none is known.
        places: Where the vectors of the others stand among the known ones, -1 for those that are to be encoded,
            `[N]`; None where none is known.
        known_truncated: Sentences among the others that the encoder had to cut.
    """

    name: str
    split: str
    candidates: int
    texts: list[str]
    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    unknown_tokens: int
    cut: TokenizedBatch
    places: npt.NDArray[np.int64] | None = None
    known_truncated: int = 0

    @property
    def truncated(self) -> int:
        """Sentences that the encoder has to cut, or had to."""
        return self.cut.truncated + self.known_truncated


def grouped(sentences: Iterator[str], staged: Staged, shard_sentences: int) -> Iterator[Group]:
    """Deal sentences to splits and cut each split into shards; the same groups every time."""
    waiting: dict[str, list[str]] = {split: [] for split in SPLITS}
    numbers = dict.fromkeys(SPLITS, 0)
    for sentence in sentences:
        split = staged.split_of(sentence)
        waiting[split].append(sentence)
        if len(waiting[split]) == shard_sentences:
            yield Group(split, numbers[split], waiting[split])
            waiting[split] = []
            numbers[split] += 1
    for split in SPLITS:
        if waiting[split]:
            yield Group(split, numbers[split], waiting[split])


def tokenise(
    group: Group,
    *,
    encoder: SentenceEncoder,
    tokenizer: TextTokenizer,
    max_tokens: int,
    known: KnownVectors | None = None,
) -> TokenisedGroup:
    """Tokenise a group for the decoder, and what is not known of it for the encoder.

    Sentences of too many tokens (or none) are left out.
    """
    texts: list[str] = []
    rows: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    for start in range(0, len(group.sentences), _TOKENISED_ROWS):
        sentences = group.sentences[start : start + _TOKENISED_ROWS]
        for text, ids in zip(sentences, tokenizer.encode_batch(sentences), strict=True):
            if 1 <= len(ids) <= max_tokens:
                texts.append(text)
                rows.append(np.array(ids, np.int32))
                lengths.append(len(ids))
    # Rows of one length lie side by side, so a batch touches few pages of the file.
    order = np.argsort(lengths, kind="stable")
    tokens = np.concatenate([np.empty(0, np.int32), *(rows[index] for index in order)])
    texts = [texts[index] for index in order]
    places = None if known is None else known.find(texts)
    return TokenisedGroup(
        name=group.name,
        split=group.split,
        candidates=len(group.sentences),
        texts=texts,
        tokens=tokens,
        lengths=np.asarray(lengths, np.int64)[order],
        unknown_tokens=int(np.count_nonzero(tokens == tokenizer.unk_id)),
        cut=encoder.tokenize(texts if places is None else _chosen(texts, places < 0)),
        places=places,
        known_truncated=0
        if known is None or places is None or known.all_read_whole
        else encoder.tokenize(_chosen(texts, places >= 0)).truncated,
    )


def _chosen(texts: list[str], which: npt.NDArray[np.bool_]) -> list[str]:
    return [texts[row] for row in np.flatnonzero(which)]
