"""The content of one shard: sentences assigned by content hash, tokenised, sorted by length, and encoded."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from sgdd_engine.data.cleaning import Rejection, token_rejection
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.deduplicate import DistinctSentences
from sgdd_engine.data.manifest import SPLITS
from sgdd_engine.data.vector_reuse import ReusableVectors
from sgdd_engine.data.vectors import StoredVectors, convert_stored, store
from sgdd_engine.errors import DataError
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.encoder_tokenizer import TokenizedBatch
from sgdd_engine.text.tokenizer import TextTokenizer

# Sentences per call of the tokenizer; its result objects for a whole shard would be larger than the shard.
_TOKENISED_ROWS = 4096
# Reused vectors per step: converting them to another type goes through float32 copies.
_REUSED_ROWS = 4096


@dataclass(frozen=True)
class ShardCounts:
    """Counts of one shard, or of several together.

    Attributes:
        too_long: Sentences left out for having too many tokens.
        no_tokens: Sentences left out for having none.
        tokens: Tokens of all rows.
        max_tokens: Tokens of the longest row.
        unknown_tokens: Tokens that are the unknown piece of the vocabulary.
        truncated: Sentences that the encoder truncated.
        cosine_lost: Sum over all rows of one minus the cosine between the encoder's vector and the stored one.
        cosine_lost_most: The largest of these.
    """

    too_long: int = 0
    no_tokens: int = 0
    tokens: int = 0
    max_tokens: int = 0
    unknown_tokens: int = 0
    truncated: int = 0
    cosine_lost: float = 0.0
    cosine_lost_most: float = 0.0

    def __add__(self, other: "ShardCounts") -> "ShardCounts":
        """The counts of both together."""
        pairs = {item.name: (getattr(self, item.name), getattr(other, item.name)) for item in fields(self)}
        largest = ("max_tokens", "cosine_lost_most")
        return ShardCounts(
            **{name: max(pair) if name in largest else sum(pair) for name, pair in pairs.items()}
        )


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
        group: The sentences, before filtering by length.
        texts: Those that are short enough, `N` of them.
        tokens: Their token ids, concatenated, int32 `[sum of lengths]`.
        lengths: Tokens of each, `[N]`.
        reused_rows: For each sentence the row of its vector in the reused corpus, -1 if it must be encoded, `[N]`.
        to_encode: The sentences that must be encoded, as the encoder's token ids.
        counts: Counts of the sentences and tokens; nothing of the vectors yet.
    """

    group: Group
    texts: list[str]
    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    reused_rows: npt.NDArray[np.int64]
    to_encode: TokenizedBatch
    counts: ShardCounts


@dataclass(frozen=True)
class EncodedGroup:
    """A group with everything that its shard holds.

    Attributes:
        tokenised: Sentences and token ids.
        vectors: Their vectors as stored, `[N, D]`.
        counts: Counts of sentences, tokens and vectors.
        reused: Rows whose vectors come from another corpus.
    """

    tokenised: TokenisedGroup
    vectors: StoredVectors
    counts: ShardCounts
    reused: int


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
    rejected: Counter[Rejection] = Counter()
    for start in range(0, len(group.sentences), _TOKENISED_ROWS):
        sentences = group.sentences[start : start + _TOKENISED_ROWS]
        for text, ids in zip(sentences, tokenizer.encode_batch(sentences), strict=True):
            if reason := token_rejection(len(ids), max_tokens):
                rejected[reason] += 1
                continue
            texts.append(text)
            rows.append(np.array(ids, np.int32))
    # Rows of one length are adjacent, so a batch touches few pages of the file.
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    order = np.argsort(lengths, kind="stable")
    tokens = np.concatenate([np.empty(0, np.int32), *(rows[index] for index in order)])
    texts = [texts[index] for index in order]
    reused_rows = np.full(len(texts), -1) if reusable is None else reusable.find(texts)
    to_encode = encoder.tokenize([texts[row] for row in np.flatnonzero(reused_rows < 0)])
    truncated = to_encode.truncated
    if reusable is not None and not reusable.none_truncated:
        truncated += encoder.tokenize([texts[row] for row in np.flatnonzero(reused_rows >= 0)]).truncated
    counts = ShardCounts(
        too_long=rejected[Rejection.TOO_MANY_TOKENS],
        no_tokens=rejected[Rejection.NO_TOKENS],
        tokens=len(tokens),
        max_tokens=int(lengths.max(initial=0)),
        unknown_tokens=int(np.count_nonzero(tokens == tokenizer.unk_id)),
        truncated=truncated,
    )
    return TokenisedGroup(group, texts, tokens, lengths[order], reused_rows, to_encode, counts)


def encode(
    tokenised: TokenisedGroup,
    encoder: SentenceEncoder,
    dtype: EmbeddingDtype,
    on_batch: Callable[[int], None],
    reusable: ReusableVectors | None = None,
) -> EncodedGroup:
    """Compute the vectors of a group; they are quantised on the encoder's device before they are copied to the CPU.

    Args:
        tokenised: Sentences and token ids.
        encoder: Computes the vectors that are not reused.
        dtype: The storage type.
        on_batch: Receives the number of vectors that each batch adds.
        reusable: Holds the others, at `tokenised.reused_rows`.

    Raises:
        DataError: If a vector is not finite as stored.
    """
    vectors = StoredVectors.empty(len(tokenised.texts), encoder.dim, dtype)
    # For a reused vector, the loss between the vector of the other corpus and the stored one.
    losses = np.empty(len(tokenised.texts), np.float32)

    def assign(rows: npt.NDArray[np.int64], part: StoredVectors, loss: torch.Tensor) -> None:
        finite = torch.isfinite(loss)
        if not finite.all():
            text = tokenised.texts[rows[int((~finite).nonzero()[0])]]
            raise DataError(
                f'The encoder\'s vector of "{text[:80]}" is not finite as {part.dtype}.',
                "Store the vectors with --embedding-dtype fp32, or encode with --set encoder.precision=fp32.",
            )
        vectors.assign(rows, part)
        losses[rows] = loss.numpy()

    reused = np.flatnonzero(tokenised.reused_rows >= 0)
    if reusable is not None:
        for start in range(0, len(reused), _REUSED_ROWS):
            rows = reused[start : start + _REUSED_ROWS]
            assign(rows, *convert_stored(reusable.vectors(tokenised.reused_rows[rows]), dtype))
            on_batch(len(rows))
    encoded = np.flatnonzero(tokenised.reused_rows < 0)
    for positions, batch in encoder.encode_parts(tokenised.to_encode, on_batch):
        assign(encoded[positions], *store(batch, dtype))
    total, largest = _sum_and_max_cosine_loss(losses, reused, reusable)
    counts = replace(tokenised.counts, cosine_lost=total, cosine_lost_most=largest)
    return EncodedGroup(tokenised, vectors, counts, len(reused))


def _sum_and_max_cosine_loss(
    losses: npt.NDArray[np.float32], reused: npt.NDArray[np.int64], reusable: ReusableVectors | None
) -> tuple[float, float]:
    """Sum and maximum of one minus the cosine to the encoder's vectors, the loss in a reused corpus included.

    That corpus records only mean and maximum: each reused vector counts with the mean, and the maximum is a
    bound, because angles at most add up: `1 - cos(a + b) <= (sqrt(1 - cos a) + sqrt(1 - cos b))²`.
    """
    total, largest = float(losses.sum(dtype=np.float64)), float(losses.max(initial=0))
    if reusable is None or not len(reused):
        return total, largest
    conversion, before = float(losses[reused].max()), reusable.max_cosine_loss
    bound = before if conversion == 0 else (math.sqrt(conversion) + math.sqrt(max(before, 0))) ** 2
    return total + len(reused) * reusable.mean_cosine_loss, max(bound, largest)
