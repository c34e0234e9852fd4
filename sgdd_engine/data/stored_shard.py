"""One Arrow file of a corpus: as views over its mapped buffers, and whether what it holds can be right."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgdd_engine.data.cleaning import shown
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.manifest import PREPARE_AGAIN, Manifest, Shard
from sgdd_engine.data.vectors import StoredVectors, find_absurd
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


def open_shard(path: Path, shard: Shard, manifest: Manifest) -> list[Segment]:
    """Map a shard's file.

    Raises:
        DataError: It is no such file, or of another size or other types than the manifest says.
    """
    # `datasets` wrote the file and can open it (Dataset.from_file), but its row access builds Python objects.
    # Training wants the raw buffers: an Arrow memory map gives numpy views over the pages of the file itself,
    # so opening costs nothing, processes share the pages, and only the gathered rows are ever copied.
    table = _mapped(path, shard)
    try:
        segments = [_segment(batch, manifest.embedding["dim"]) for batch in table.to_batches()]
    except (pa.ArrowException, AttributeError, KeyError, ValueError) as error:
        raise DataError(f"`{path}` is damaged: {error}.", PREPARE_AGAIN) from error
    dtype: EmbeddingDtype = manifest.embedding["dtype"]
    expected = pa.string(), np.dtype(np.int32), StoredVectors.empty(0, 1, dtype).values.dtype
    if any(
        (part.texts.type, part.tokens.dtype, part.embeddings.values.dtype) != expected for part in segments
    ):
        raise DataError(f"`{path}` does not hold texts, tokens and {dtype} vectors.", PREPARE_AGAIN)
    if any((part.embeddings.scale is None) is (dtype == "int8") for part in segments):
        raise DataError(f"`{path}` lacks the scales of its vectors, or has too many of them.", PREPARE_AGAIN)
    return segments


def check_content(path: Path, shard: Shard, manifest: Manifest) -> None:
    """Look at every number of a shard once: what has the right hash may still hold what no preparation writes.

    Raises:
        DataError: Tokens are outside of the vocabulary, sentences too long or empty, vectors absurd (`find_absurd`).
    """
    try:
        _mapped(path, shard).validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"`{path}` is damaged: {error}.", PREPARE_AGAIN) from error
    pieces, normalized = int(manifest.tokenizer["vocab_size"]), bool(manifest.encoder.get("normalize", False))
    for part in open_shard(path, shard, manifest):
        lengths = np.diff(part.starts)
        used = part.tokens[part.starts[0] : part.starts[-1]]
        if part.texts.null_count or (
            len(lengths) and (lengths.min() < 1 or lengths.max() > manifest.max_tokens)
        ):
            raise DataError(
                f"`{path}` holds a sentence that is empty or has more than {manifest.max_tokens} tokens.",
                PREPARE_AGAIN,
            )
        if len(used) and not 0 <= used.min() <= used.max() < pieces:
            raise DataError(
                f"`{path}` holds a token that is none of the {pieces:,} of its vocabulary.", PREPARE_AGAIN
            )
        if (found := find_absurd(part.embeddings, normalized=normalized)) is not None:
            text = str(part.texts[found[0]].as_py())
            raise DataError(
                f"`{path}` holds a vector that cannot be right: that of {shown(text)} {found[1]}.",
                PREPARE_AGAIN,
            )


def _mapped(path: Path, shard: Shard) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_stream(source).read_all()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"`{path}` is damaged: {error}.", PREPARE_AGAIN) from error
    if table.num_rows != shard.rows:
        raise DataError(f"`{path}` is damaged: it does not hold {shard.rows:,} rows.", PREPARE_AGAIN)
    return table


def _segment(batch: pa.RecordBatch, embedding_dim: int) -> Segment:
    tokens, embedding = batch.column("tokens"), batch.column("embedding")
    return Segment(
        texts=batch.column("text"),
        tokens=_view(tokens.values),
        starts=_view(tokens.offsets),
        embeddings=StoredVectors(
            _view(embedding.values).reshape(-1, embedding_dim),
            # Only int8 vectors have one.
            _view(batch.column("scale")) if "scale" in batch.schema.names else None,
        ),
    )


def _view(numbers: pa.Array) -> np.ndarray:
    if numbers.null_count:
        raise ValueError("cells of it are empty")
    # Not `to_numpy`, whose first call imports pandas: that takes longer than all the rest of opening a corpus.
    return np.from_dlpack(numbers)
