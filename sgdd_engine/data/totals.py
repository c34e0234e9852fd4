"""Sums over all shards of a corpus, accumulated from their records one at a time."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from sgdd_engine.atomic_files import write_bytes
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.manifest import SPLITS, STATISTICS, Shard
from sgdd_engine.data.running_statistics import RunningStatistics
from sgdd_engine.data.shards import ShardRecord


@dataclass(frozen=True)
class Totals:
    """Sums over the shards of a corpus.

    Attributes:
        shards: The files in order.
        too_long: Sentences left out for having too many tokens (or none).
        tokens: Tokens of all rows.
        max_tokens: Tokens of the longest row.
        unknown_tokens: Tokens that are the unknown piece of the vocabulary.
        truncated: Sentences that the encoder truncated.
        cosine_mean: Mean cosine between the encoder's vectors and the stored ones.
        cosine_lowest: The lowest of these.
        train_statistics: Of the training vectors as stored; None where there is none.
        reused: Vectors reused from other corpora, by the corpus's fingerprint.
    """

    shards: tuple[Shard, ...]
    too_long: int
    tokens: int
    max_tokens: int
    unknown_tokens: int
    truncated: int
    cosine_mean: float
    cosine_lowest: float
    train_statistics: RunningStatistics | None
    reused: dict[str, int]

    @classmethod
    def from_records(cls, records: Iterable[ShardRecord]) -> "Totals":
        """Add up records, holding one at a time, because each holds two vectors of float64."""
        shards: list[Shard] = []
        statistics: RunningStatistics | None = None
        reused: Counter[str] = Counter()
        too_long = tokens = max_tokens = unknown_tokens = truncated = 0
        cosine_lost = cosine_lost_most = 0.0
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
            too_long += record.too_long
            tokens += record.tokens
            max_tokens = max(max_tokens, record.max_tokens)
            unknown_tokens += record.unknown_tokens
            truncated += record.truncated
            cosine_lost += record.cosine_lost
            cosine_lost_most = max(cosine_lost_most, record.cosine_lost_most)
        return cls(
            shards=tuple(shards),
            too_long=too_long,
            tokens=tokens,
            max_tokens=max_tokens,
            unknown_tokens=unknown_tokens,
            truncated=truncated,
            cosine_mean=1 - cosine_lost / max(1, sum(shard.rows for shard in shards)),
            cosine_lowest=1 - cosine_lost_most,
            train_statistics=statistics,
            reused=dict(reused),
        )

    @property
    def splits(self) -> dict[str, int]:
        """Sentences by split."""
        return {split: sum(shard.rows for shard in self.shards if shard.split == split) for split in SPLITS}

    def embedding(self, dim: int, dtype: EmbeddingDtype) -> dict[str, Any]:
        """The description of the vectors in the manifest."""
        result: dict[str, Any] = {"dim": dim, "dtype": dtype, "truncated": self.truncated}
        if math.isfinite(self.cosine_mean):  # a corpus of an older version did not record it
            result |= {"cosine_mean": self.cosine_mean, "cosine_lowest": self.cosine_lowest}
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
