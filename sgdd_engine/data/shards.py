"""Shards of a corpus: groups of sentences, tokenised, sorted by length, encoded and written to an Arrow file each."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import save

from sgdd_engine.atomic_files import publish, sha256_of, write_bytes, write_json
from sgdd_engine.bounded_files import UnreadableError, read_json_object
from sgdd_engine.data.cleaning import Rejection, Rejections, beginning, shown, token_rejection
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.deduplicate import Group
from sgdd_engine.data.manifest import SPLITS, STATISTICS, Shard
from sgdd_engine.data.vector_reuse import ReusableVectors
from sgdd_engine.data.vectors import RunningStatistics, StoredVectors, convert_stored, find_absurd, store
from sgdd_engine.errors import DataError
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.encoder_tokenizer import TokenizedBatch
from sgdd_engine.text.tokenizer import TextTokenizer

# Sentences per call of the tokenizer; its result objects for a whole shard would be larger than the shard.
_TOKENISED_ROWS = 4096
# Reused vectors per step: converting them to another type goes through float32 copies.
_REUSED_ROWS = 4096
# Beside the reasons for leaving a sentence out: one that is kept, with a token that the vocabulary does not know.
UNKNOWN = "unknown"


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
        examples: The beginning of a sentence that was left out for each reason, and under `UNKNOWN` of one with an
            unknown token.
    """

    group: Group
    texts: list[str]
    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    reused_rows: npt.NDArray[np.int64]
    to_encode: TokenizedBatch
    counts: ShardCounts
    examples: dict[str, str]


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


@dataclass(frozen=True)
class ShardRecord:
    """The counts and statistics of a finished shard; a working file until the manifest is written.

    Attributes:
        shard: The file, or None where no sentence of the group was short enough.
        candidates: Sentences before filtering by length.
        counts: The counts of its rows; on disk they stand beside the other keys.
        mean: Mean of the stored vectors, `[D]`.
        squares: Sums of their squared distances from the mean, `[D]`.
        taken: Rows whose vectors were reused from another corpus.
        taken_from: The fingerprint of that corpus; None without reuse.
        examples: As in `TokenisedGroup`; records of older versions have none.
    """

    shard: Shard | None
    candidates: int
    counts: ShardCounts
    mean: list[float]
    squares: list[float]
    taken: int = 0
    taken_from: str | None = None
    examples: dict[str, str] = field(default_factory=dict)

    def write(self, work: Path, name: str) -> None:
        """Store the record atomically in the folder of working files."""
        value = asdict(self)
        counts = value.pop("counts")
        write_json(work / f"{name}.json", value | counts)

    @classmethod
    def read(cls, work: Path, name: str) -> "ShardRecord | None":
        """A stored record, or None where there is none or it is damaged."""
        try:
            value = read_json_object(work / f"{name}.json")
            shard = Shard(**value.pop("shard")) if value["shard"] else value.pop("shard")
            value.setdefault("no_tokens", 0)  # older versions counted them with the too long ones
            counts = ShardCounts(**{item.name: value.pop(item.name) for item in fields(ShardCounts)})
            return cls(shard=shard, counts=counts, **value)
        except (UnreadableError, TypeError, KeyError):
            return None


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
    rejected = Rejections()
    with_unknown = ""
    for start in range(0, len(group.sentences), _TOKENISED_ROWS):
        sentences = group.sentences[start : start + _TOKENISED_ROWS]
        for text, ids in zip(sentences, tokenizer.encode_batch(sentences), strict=True):
            if reason := token_rejection(len(ids), max_tokens):
                rejected.add(reason, text)
                continue
            if not with_unknown and tokenizer.unk_id in ids:
                with_unknown = beginning(text)
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
        too_long=rejected.counts[Rejection.TOO_MANY_TOKENS],
        no_tokens=rejected.counts[Rejection.NO_TOKENS],
        tokens=len(tokens),
        max_tokens=int(lengths.max(initial=0)),
        unknown_tokens=int(np.count_nonzero(tokens == tokenizer.unk_id)),
        truncated=truncated,
    )
    examples = {**rejected.examples, **({UNKNOWN: with_unknown} if with_unknown else {})}
    return TokenisedGroup(group, texts, tokens, lengths[order], reused_rows, to_encode, counts, examples)


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
        DataError: If a vector is not finite as stored, or cannot be right (`find_absurd`).
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
    if (found := find_absurd(vectors, normalized=encoder.reference.normalize)) is not None:
        raise DataError(
            f"The vector of {shown(tokenised.texts[found[0]])} cannot be right: it {found[1]}.",
            "Check the encoder's files, or encode with --set encoder.precision=fp32.",
        )
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


def write_shard(encoded: EncodedGroup, out: Path, work: Path, taken_from: str | None) -> ShardRecord:
    """Store an encoded group, and its record after the shard is on disk.

    Args:
        encoded: The group.
        out: The corpus folder; the shard appears there complete or not at all.
        work: A folder on the same file system for the unfinished file and the record.
        taken_from: The fingerprint of the corpus that some vectors may come from.
    """
    group, statistics = encoded.tokenised.group, RunningStatistics.from_vectors(encoded.vectors)
    record = ShardRecord(
        shard=_write_arrow(encoded, out, work) if encoded.tokenised.texts else None,
        candidates=len(group.sentences),
        counts=encoded.counts,
        mean=statistics.mean.tolist(),
        squares=statistics.squares.tolist(),
        taken=encoded.reused,
        taken_from=taken_from,
        examples=encoded.tokenised.examples,
    )
    record.write(work, group.name)
    return record


def _write_arrow(encoded: EncodedGroup, out: Path, work: Path) -> Shard:
    # Importing `datasets` takes 0.7 s, and reading a corpus does not need it.
    from datasets import Features  # noqa: PLC0415
    from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415

    columns, group = _columns(encoded.tokenised, encoded.vectors), encoded.tokenised.group
    temporary, final = work / f"{group.name}.arrow.tmp", out / f"{group.name}.arrow"
    with temporary.open("wb") as stream:
        features = Features({name: kind for name, (kind, _) in columns.items()})
        writer = ArrowWriter(stream=stream, features=features)
        # One record batch per shard: a reader then sees one array per column.
        table = pa.table({name: array for name, (_, array) in columns.items()})
        writer.write_table(table, writer_batch_size=table.num_rows)
        writer.finalize(close_stream=False)
    sha256, size = sha256_of(temporary), temporary.stat().st_size
    publish(temporary, final)
    return Shard(final.name, group.split, table.num_rows, size, sha256)


def _columns(group: TokenisedGroup, vectors: StoredVectors) -> dict[str, tuple[Any, pa.Array]]:
    """Each column of a shard: its type in `datasets`, and its values."""
    from datasets import List, Value  # noqa: PLC0415

    dim = vectors.values.shape[1]
    starts = np.cumsum([0, *group.lengths], dtype=np.int32)
    numbers = pa.array(vectors.values.reshape(-1))
    columns: dict[str, tuple[Any, pa.Array]] = {
        "text": (Value("string"), pa.array(group.texts, pa.string())),
        "tokens": (List(Value("int32")), pa.ListArray.from_arrays(starts, pa.array(group.tokens))),
        "embedding": (
            List(Value(str(vectors.values.dtype)), length=dim),
            pa.FixedSizeListArray.from_arrays(numbers, dim),
        ),
    }
    if vectors.scale is not None:
        columns["scale"] = (Value("float32"), pa.array(vectors.scale))
    return columns


@dataclass(frozen=True)
class Totals:
    """Sums over the shards of a corpus.

    Attributes:
        shards: The files in order.
        counts: The counts of all rows.
        train_statistics: Of the training vectors as stored; None where there is none.
        reused: Vectors reused from other corpora, by the corpus's fingerprint.
        examples: The first of each kind; see `TokenisedGroup`.
    """

    shards: tuple[Shard, ...]
    counts: ShardCounts
    train_statistics: RunningStatistics | None
    reused: dict[str, int]
    examples: dict[str, str]

    @classmethod
    def from_records(cls, records: Iterable[ShardRecord]) -> "Totals":
        """Add up records, holding one at a time, because each holds two vectors of float64."""
        shards: list[Shard] = []
        statistics: RunningStatistics | None = None
        reused: Counter[str] = Counter()
        counts = ShardCounts()
        examples: dict[str, str] = {}
        for record in records:
            if record.shard is not None:
                shards.append(record.shard)
            if record.shard is not None and record.shard.split == "train":
                part = RunningStatistics(
                    record.shard.rows, np.asarray(record.mean), np.asarray(record.squares)
                )
                statistics = part if statistics is None else statistics.merged(part)
            if record.taken_from is not None:
                reused[record.taken_from] += record.taken
            counts += record.counts
            examples = record.examples | examples
        return cls(tuple(shards), counts, statistics, dict(reused), examples)

    @property
    def splits(self) -> dict[str, int]:
        """Sentences by split."""
        return {split: sum(shard.rows for shard in self.shards if shard.split == split) for split in SPLITS}

    def embedding(self, dim: int, dtype: EmbeddingDtype) -> dict[str, Any]:
        """The description of the vectors in the manifest."""
        result: dict[str, Any] = {"dim": dim, "dtype": dtype, "truncated": self.counts.truncated}
        if math.isfinite(self.counts.cosine_lost):  # a reused corpus of an older version did not record it
            result["cosine_mean"] = 1 - self.counts.cosine_lost / max(1, sum(self.splits.values()))
            result["cosine_lowest"] = 1 - self.counts.cosine_lost_most
        if self.reused:
            encoded = sum(self.splits.values()) - sum(self.reused.values())
            result["origin"] = {"taken": self.reused, "encoded": encoded}
        return result


def write_statistics(statistics: RunningStatistics, folder: Path) -> None:
    """Store mean and standard deviation of the training vectors, float32 `[D]` each.

    They are computed from the vectors as stored, which are the vectors that the model standardises.
    """
    tensors = {
        "mean": torch.from_numpy(statistics.mean).float(),
        "std": torch.from_numpy(statistics.std()).float(),
    }
    write_bytes(folder / STATISTICS, save(tensors))
