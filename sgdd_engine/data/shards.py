"""One shard of a prepared corpus: sentences, token ids and vectors in an Arrow file, with its own record."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import save

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.manifest import SPLITS, STATISTICS, Shard
from sgdd_engine.data.moments import Moments
from sgdd_engine.data.staging import Staged
from sgdd_engine.errors import DataError
from sgdd_engine.storage import publish, sha256_of, write_bytes, write_json
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard; kept beside the staging files until the manifest is written.

    Attributes:
        shard: The file, or None where no sentence of the group was short enough.
        candidates: Sentences that went in.
        too_long: Sentences left out for having too many tokens (or none).
        tokens: Tokens of all rows.
        max_tokens: Tokens of the longest row.
        unknown_tokens: Pieces that the vocabulary does not know.
        truncated: Sentences that the encoder had to cut.
        mean: Mean of the stored vectors, `[D]`.
        squares: Sums of their squared distances from the mean, `[D]`.
    """

    shard: Shard | None
    candidates: int
    too_long: int
    tokens: int
    max_tokens: int
    unknown_tokens: int
    truncated: int
    mean: list[float]
    squares: list[float]

    def write(self, path: Path) -> None:
        """Store the record atomically."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "ShardRecord | None":
        """A stored record, or None where there is none or it is damaged."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            shard = Shard(**value.pop("shard")) if value["shard"] else value.pop("shard")
            return cls(shard=shard, **value)
        except (OSError, ValueError, TypeError, KeyError):
            return None


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


def write_shard(
    group: Group,
    out: Path,
    work: Path,
    *,
    encoder: SentenceEncoder,
    tokenizer: TextTokenizer,
    config: DataConfig,
    on_batch: Callable[[int], None],
) -> ShardRecord:
    """Tokenise, sort by length, encode and store one group.

    Args:
        group: The sentences.
        out: The corpus folder; the shard appears there complete or not at all.
        work: A folder on the same file system for the unfinished file.
        encoder: Makes the vectors.
        tokenizer: Makes the token ids.
        config: `max_tokens` and `embedding_dtype`.
        on_batch: Passed on to the encoder.

    Raises:
        DataError: If a vector is not finite as stored.
    """
    pairs = [
        (sentence, ids)
        for sentence, ids in zip(group.sentences, tokenizer.encode_batch(group.sentences), strict=True)
        if 1 <= len(ids) <= config.max_tokens
    ]
    # Rows of one length lie side by side, so a batch touches few pages of the file.
    pairs.sort(key=lambda pair: len(pair[1]))
    texts, tokens = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    truncated_before = encoder.truncated
    vectors = _stored_vectors(encoder, texts, config, on_batch)
    moments = Moments.of(vectors)
    return ShardRecord(
        shard=_write_arrow(group, out, work, texts=texts, tokens=tokens, vectors=vectors) if texts else None,
        candidates=len(group.sentences),
        too_long=len(group.sentences) - len(texts),
        tokens=sum(map(len, tokens)),
        max_tokens=max(map(len, tokens), default=0),
        unknown_tokens=sum(ids.count(tokenizer.unk_id) for ids in tokens),
        truncated=encoder.truncated - truncated_before,
        mean=moments.mean.tolist(),
        squares=moments.squares.tolist(),
    )


def _stored_vectors(
    encoder: SentenceEncoder, texts: Sequence[str], config: DataConfig, on_batch: Callable[[int], None]
) -> npt.NDArray[Any]:
    """Vectors `[N, D]` in the type that goes to disk."""
    dtype = torch.float16 if config.embedding_dtype == "fp16" else torch.float32
    if not texts:
        return torch.empty(0, encoder.dim, dtype=dtype).numpy()
    vectors = encoder.encode(texts, on_batch).to(dtype)
    finite = torch.isfinite(vectors).all(dim=1)
    if not finite.all():
        text = texts[int((~finite).nonzero()[0])]
        raise DataError(
            f'The encoder\'s vector of "{text[:80]}" is not finite as {config.embedding_dtype}.',
            "Store the vectors with --set data.embedding_dtype=fp32, or encode with "
            "--set encoder.precision=fp32.",
        )
    return vectors.numpy()


def _write_arrow(
    group: Group,
    out: Path,
    work: Path,
    *,
    texts: list[str],
    tokens: list[list[int]],
    vectors: npt.NDArray[Any],
) -> Shard:
    # Loading `datasets` takes 0.7 s, and what only reads a corpus needs none of it.
    from datasets import Features, List, Value  # noqa: PLC0415
    from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415

    dim = vectors.shape[1]
    features = Features(
        {
            "text": Value("string"),
            "tokens": List(Value("int32")),
            "embedding": List(Value(str(vectors.dtype)), length=dim),
        }
    )
    starts = np.cumsum([0, *map(len, tokens)], dtype=np.int32)
    table = pa.table(
        [
            pa.array(texts, pa.string()),
            pa.ListArray.from_arrays(starts, np.concatenate(tokens, dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim),
        ],
        names=list(features),
    )
    temporary, final = work / f"{group.name}.arrow.tmp", out / f"{group.name}.arrow"
    with temporary.open("wb") as stream:
        writer = ArrowWriter(stream=stream, features=features)
        # One record batch per shard: a reader then sees one array per column.
        writer.write_table(table, writer_batch_size=len(texts))
        writer.finalize(close_stream=False)
    sha256, size = sha256_of(temporary), temporary.stat().st_size
    publish(temporary, final)
    return Shard(final.name, group.split, len(texts), size, sha256)


def write_statistics(records: Sequence[ShardRecord], folder: Path) -> None:
    """Store mean and standard deviation of the training vectors, float32 `[D]` each.

    They are those of the vectors as stored, so that what the model standardises is what they were taken from.
    """
    total: Moments | None = None
    for record in records:
        if record.shard is not None and record.shard.split == "train":
            part = Moments(record.shard.rows, np.asarray(record.mean), np.asarray(record.squares))
            total = part if total is None else total.joined(part)
    assert total is not None, "a corpus without training sentences was refused before"
    tensors = {
        "mean": torch.from_numpy(total.mean).float(),
        "std": torch.from_numpy(total.std()).float(),
    }
    write_bytes(folder / STATISTICS, save(tensors))
