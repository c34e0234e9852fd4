"""What all shards of a corpus are together, taken from their records one at a time."""

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
from sgdd_engine.data.running_statistics import Moments
from sgdd_engine.data.shards import ShardRecord


@dataclass(frozen=True)
class Totals:
    """Sums over the shards of a corpus.

    Attributes:
        shards: The files in order.
        too_long: Sentences left out for having too many tokens (or none).
        tokens: Tokens of all rows.
        max_tokens: Tokens of the longest row.
        unknown_tokens: Pieces that the vocabulary does not know.
        truncated: Sentences that the encoder had to cut.
        cosine_mean: Mean cosine between the encoder's vectors and the stored ones.
        cosine_lowest: The lowest of these.
        moments: Of the training vectors as stored; None where there is none.
        taken: Vectors taken from other corpora, by the corpus's fingerprint.
    """

    shards: tuple[Shard, ...]
    too_long: int
    tokens: int
    max_tokens: int
    unknown_tokens: int
    truncated: int
    cosine_mean: float
    cosine_lowest: float
    moments: Moments | None
    taken: dict[str, int]

    @classmethod
    def of(cls, records: Iterable[ShardRecord]) -> "Totals":
        """Add up records; each is let go before the next, since two vectors stand in every one of them."""
        shards: list[Shard] = []
        moments: Moments | None = None
        taken: Counter[str] = Counter()
        too_long = tokens = max_tokens = unknown_tokens = truncated = 0
        lost = lost_most = 0.0
        for record in records:
            if record.shard is not None:
                shards.append(record.shard)
            if record.shard is not None and record.shard.split == "train":
                part = Moments(record.shard.rows, np.asarray(record.mean), np.asarray(record.squares))
                moments = part if moments is None else moments.joined(part)
            if record.taken_from is not None:
                taken[record.taken_from] += record.taken
            too_long += record.too_long
            tokens += record.tokens
            max_tokens = max(max_tokens, record.max_tokens)
            unknown_tokens += record.unknown_tokens
            truncated += record.truncated
            lost += record.cosine_lost
            lost_most = max(lost_most, record.cosine_lost_most)
        return cls(
            shards=tuple(shards),
            too_long=too_long,
            tokens=tokens,
            max_tokens=max_tokens,
            unknown_tokens=unknown_tokens,
            truncated=truncated,
            cosine_mean=1 - lost / max(1, sum(shard.rows for shard in shards)),
            cosine_lowest=1 - lost_most,
            moments=moments,
            taken=dict(taken),
        )

    @property
    def splits(self) -> dict[str, int]:
        """Sentences by split."""
        return {split: sum(shard.rows for shard in self.shards if shard.split == split) for split in SPLITS}

    def embedding(self, dim: int, dtype: EmbeddingDtype) -> dict[str, Any]:
        """What a manifest says about the vectors."""
        result: dict[str, Any] = {"dim": dim, "dtype": dtype, "truncated": self.truncated}
        if math.isfinite(self.cosine_mean):  # vectors from a corpus of an older version do not know it
            result |= {"cosine_mean": self.cosine_mean, "cosine_lowest": self.cosine_lowest}
        if self.taken:
            encoded = sum(self.splits.values()) - sum(self.taken.values())
            result["origin"] = {"taken": self.taken, "encoded": encoded}
        return result


def write_statistics(moments: Moments, folder: Path) -> None:
    """Store mean and standard deviation of the training vectors, float32 `[D]` each.

    They are those of the vectors as stored, so that what the model standardises is what they were taken from.
    """
    tensors = {
        "mean": torch.from_numpy(moments.mean).float(),
        "std": torch.from_numpy(moments.std()).float(),
    }
    write_bytes(folder / STATISTICS, save(tensors))
