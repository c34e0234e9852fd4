"""One Arrow file of a corpus, as views over its mapped buffers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgdd_engine.data.manifest import PREPARE_AGAIN, Shard
from sgdd_engine.data.vectors import StoredVectors
from sgdd_engine.errors import DataError


@dataclass(frozen=True)
class Segment:
    """One record batch of a shard, as views over its mapped buffers."""

    texts: pa.StringArray
    tokens: npt.NDArray[np.int32]  # [sum of lengths]
    starts: npt.NDArray[np.int32]  # [rows + 1], offsets into `tokens`
    embeddings: StoredVectors  # [rows, D]

    def __len__(self) -> int:
        return len(self.starts) - 1


def check_size(folder: Path, shard: Shard) -> None:
    """Raise `DataError` unless the shard's file is there with its full size."""
    path = folder / shard.file
    if not path.is_file():
        raise DataError(f"`{path}` is missing.", PREPARE_AGAIN)
    if path.stat().st_size != shard.bytes:
        raise DataError(
            f"`{path}` is damaged: it has {path.stat().st_size:,} bytes instead of {shard.bytes:,}.",
            PREPARE_AGAIN,
        )


def open_shard(path: Path, shard: Shard, embedding_dim: int) -> list[Segment]:
    """Map a shard's file; raises `DataError` where it is no such file."""
    # `datasets` wrote the file and can open it (Dataset.from_file), but its row access builds Python objects.
    # Training wants the raw buffers: an Arrow memory map gives numpy views over the pages of the file itself,
    # so opening costs nothing, processes share the pages, and only the gathered rows are ever copied.
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_stream(source).read_all()
        segments = [_segment(batch, embedding_dim) for batch in table.to_batches()]
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(f"`{path}` is damaged: {error}.", PREPARE_AGAIN) from error
    if sum(map(len, segments)) != shard.rows:
        raise DataError(f"`{path}` is damaged: it does not hold {shard.rows:,} rows.", PREPARE_AGAIN)
    return segments


def _segment(batch: pa.RecordBatch, embedding_dim: int) -> Segment:
    tokens, embedding = batch.column("tokens"), batch.column("embedding")
    return Segment(
        texts=batch.column("text"),
        tokens=tokens.values.to_numpy(zero_copy_only=True),
        starts=tokens.offsets.to_numpy(zero_copy_only=True),
        embeddings=StoredVectors(
            embedding.values.to_numpy(zero_copy_only=True).reshape(-1, embedding_dim),
            # Only int8 vectors have one.
            batch.column("scale").to_numpy(zero_copy_only=True) if "scale" in batch.schema.names else None,
        ),
    )
