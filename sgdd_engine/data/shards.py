"""Shards of a corpus: sentences, token ids and vectors in an Arrow file each, with counts and their sums."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save

from sgdd_engine.atomic_files import publish, sha256_of, write_bytes, write_json
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.groups import EncodedGroup, ShardCounts, TokenisedGroup
from sgdd_engine.data.manifest import SPLITS, STATISTICS, Shard
from sgdd_engine.data.vectors import RunningStatistics, StoredVectors


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
    """

    shard: Shard | None
    candidates: int
    counts: ShardCounts
    mean: list[float]
    squares: list[float]
    taken: int = 0
    taken_from: str | None = None

    def write(self, work: Path, name: str) -> None:
        """Store the record atomically in the folder of working files."""
        value = asdict(self)
        counts = value.pop("counts")
        write_json(work / f"{name}.json", value | counts)

    @classmethod
    def read(cls, work: Path, name: str) -> "ShardRecord | None":
        """A stored record, or None where there is none or it is damaged."""
        try:
            value = json.loads((work / f"{name}.json").read_text(encoding="utf-8"))
            shard = Shard(**value.pop("shard")) if value["shard"] else value.pop("shard")
            value.setdefault("no_tokens", 0)  # older versions counted them with the too long ones
            counts = ShardCounts(**{item.name: value.pop(item.name) for item in fields(ShardCounts)})
            return cls(shard=shard, counts=counts, **value)
        except (OSError, ValueError, TypeError, KeyError):
            return None


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
    """

    shards: tuple[Shard, ...]
    counts: ShardCounts
    train_statistics: RunningStatistics | None
    reused: dict[str, int]

    @classmethod
    def from_records(cls, records: Iterable[ShardRecord]) -> "Totals":
        """Add up records, holding one at a time, because each holds two vectors of float64."""
        shards: list[Shard] = []
        statistics: RunningStatistics | None = None
        reused: Counter[str] = Counter()
        counts = ShardCounts()
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
        return cls(tuple(shards), counts, statistics, dict(reused))

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
