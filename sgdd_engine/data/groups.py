"""The sentences of one shard: assigned by content hash, tokenised, and sorted by length."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdd_engine.data.cleaning import Rejection, token_rejection
from sgdd_engine.data.deduplicate import DistinctSentences
from sgdd_engine.data.manifest import SPLITS
from sgdd_engine.data.vector_reuse import ReusableVectors
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.encoder_tokenizer import TokenizedBatch
from sgdd_engine.text.tokenizer import TextTokenizer

# Sentences per call of the tokenizer; its result objects for a whole shard would be larger than the shard.
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
    """A group that is tokenised for decoder and encoder, the shortest sentences first.

    Attributes:
        name: The shard's name without its ending.
        split: The split it belongs to.
        too_long: Sentences left out for having too many tokens.
        no_tokens: Sentences left out for having none.
        texts: The other sentences.
        tokens: Their token ids, concatenated, int32 `[sum of lengths]`.
        lengths: Tokens of each, `[N]`.
        unknown_tokens: Tokens that are the unknown piece of the vocabulary.
        cut: The sentences that must be encoded, as the encoder's token ids; all of them without reuse.
        reused_rows: For each sentence the row of its vector in the reused corpus, -1 if it must be encoded, `[N]`;
            None without reuse.
        reused_truncated: Sentences with a reused vector that the encoder had truncated.
    """

    name: str
    split: str
    too_long: int
    no_tokens: int
    texts: list[str]
    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    unknown_tokens: int
    cut: TokenizedBatch
    reused_rows: npt.NDArray[np.int64] | None = None
    reused_truncated: int = 0

    @property
    def candidates(self) -> int:
        """Sentences before filtering by length."""
        return len(self.texts) + self.too_long + self.no_tokens

    @property
    def truncated(self) -> int:
        """Sentences that the encoder truncates, or had truncated."""
        return self.cut.truncated + self.reused_truncated


def split_into_groups(
    sentences: Iterator[str], distinct: DistinctSentences, shard_sentences: int
) -> Iterator[Group]:
    """Assign sentences to splits and cut each split into groups of a shard's size; deterministic."""
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


def tokenise(
    group: Group,
    *,
    encoder: SentenceEncoder,
    tokenizer: TextTokenizer,
    max_tokens: int,
    reusable: ReusableVectors | None = None,
) -> TokenisedGroup:
    """Tokenise a group for the decoder, and the sentences without a reusable vector for the encoder.

    Sentences of too many tokens, or of none, are left out.
    """
    texts: list[str] = []
    rows: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    rejected: Counter[Rejection] = Counter()
    for start in range(0, len(group.sentences), _TOKENISED_ROWS):
        sentences = group.sentences[start : start + _TOKENISED_ROWS]
        for text, ids in zip(sentences, tokenizer.encode_batch(sentences), strict=True):
            if reason := token_rejection(len(ids), max_tokens):
                rejected[reason] += 1
                continue
            texts.append(text)
            rows.append(np.array(ids, np.int32))
            lengths.append(len(ids))
    # Rows of one length are adjacent, so a batch touches few pages of the file.
    order = np.argsort(lengths, kind="stable")
    tokens = np.concatenate([np.empty(0, np.int32), *(rows[index] for index in order)])
    texts = [texts[index] for index in order]
    reused_rows = None if reusable is None else reusable.find(texts)
    return TokenisedGroup(
        name=group.name,
        split=group.split,
        too_long=rejected[Rejection.TOO_MANY_TOKENS],
        no_tokens=rejected[Rejection.NO_TOKENS],
        texts=texts,
        tokens=tokens,
        lengths=np.asarray(lengths, np.int64)[order],
        unknown_tokens=int(np.count_nonzero(tokens == tokenizer.unk_id)),
        cut=encoder.tokenize(texts if reused_rows is None else _select(texts, reused_rows < 0)),
        reused_rows=reused_rows,
        reused_truncated=0
        if reusable is None or reused_rows is None or reusable.none_truncated
        else encoder.tokenize(_select(texts, reused_rows >= 0)).truncated,
    )


def _select(texts: list[str], mask: npt.NDArray[np.bool_]) -> list[str]:
    return [texts[row] for row in np.flatnonzero(mask)]
