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
from sgdd_engine.data.shards import ShardCounts, ShardRecord


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
