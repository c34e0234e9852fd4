"""One shard of a prepared corpus: sentences, token ids and vectors in an Arrow file, with its own record."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.groups import TokenisedGroup
from sgdd_engine.data.manifest import Shard
from sgdd_engine.data.moments import Moments
from sgdd_engine.data.vectors import StoredVectors, lost_cosine, stored
from sgdd_engine.errors import DataError
from sgdd_engine.storage import publish, sha256_of, write_json
from sgdd_engine.text.encoder import SentenceEncoder


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
        cosine_lost: Sum over all rows of one minus the cosine between the encoder's vector and the stored one.
        cosine_lost_most: The largest of these.
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
    cosine_lost: float
    cosine_lost_most: float
    mean: list[float]
    squares: list[float]

    def write(self, work: Path, name: str) -> None:
        """Store the record atomically in the folder of the unfinished files."""
        write_json(work / f"{name}.json", asdict(self))

    @classmethod
    def read(cls, work: Path, name: str) -> "ShardRecord | None":
        """A stored record, or None where there is none or it is damaged."""
        try:
            value = json.loads((work / f"{name}.json").read_text(encoding="utf-8"))
            shard = Shard(**value.pop("shard")) if value["shard"] else value.pop("shard")
            return cls(shard=shard, **value)
        except (OSError, ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True)
class EncodedGroup:
    """A group with everything that its shard will hold.

    Attributes:
        group: Sentences and token ids.
        vectors: Their vectors as stored, `[N, D]`.
        cosine_lost: One minus the cosine between the encoder's vector and the stored one, `[N]`.
    """

    group: TokenisedGroup
    vectors: StoredVectors
    cosine_lost: npt.NDArray[np.float32]


def encode(
    group: TokenisedGroup, encoder: SentenceEncoder, dtype: EmbeddingDtype, on_batch: Callable[[int], None]
) -> EncodedGroup:
    """Make the vectors of a group; they become small where they are made, and only then come to the CPU.

    Args:
        group: Ready for the encoder.
        encoder: Makes the vectors.
        dtype: How they are stored.
        on_batch: Passed on to the encoder.

    Raises:
        DataError: If a vector is not finite as stored.
    """
    vectors = StoredVectors.empty(len(group.texts), encoder.dim, dtype)
    lost = np.empty(len(group.texts), np.float32)
    for rows, part in encoder.encode_parts(group.cut, on_batch):
        values, scale = stored(part, dtype)
        lost[rows] = lost_cosine(part, values, scale).cpu().numpy()
        if not np.isfinite(lost[rows]).all():
            text = group.texts[rows[np.flatnonzero(~np.isfinite(lost[rows]))[0]]]
            raise DataError(
                f'The encoder\'s vector of "{text[:80]}" is not finite as {dtype}.',
                "Store the vectors with --embedding-dtype fp32, or encode with --set encoder.precision=fp32.",
            )
        vectors.values[rows] = values.cpu().numpy()
        if vectors.scale is not None and scale is not None:
            vectors.scale[rows] = scale.cpu().numpy()
    return EncodedGroup(group, vectors, lost)


def write_shard(encoded: EncodedGroup, out: Path, work: Path) -> ShardRecord:
    """Store an encoded group, and its record once the shard stands on the disk.

    Args:
        encoded: What to store.
        out: The corpus folder; the shard appears there complete or not at all.
        work: A folder on the same file system for the unfinished file and the record.
    """
    group, vectors = encoded.group, encoded.vectors
    moments = Moments.of(vectors)
    record = ShardRecord(
        shard=_write_arrow(group, vectors, out, work) if group.texts else None,
        candidates=group.candidates,
        too_long=group.candidates - len(group.texts),
        tokens=len(group.tokens),
        max_tokens=int(group.lengths.max(initial=0)),
        unknown_tokens=group.unknown_tokens,
        truncated=group.cut.truncated,
        cosine_lost=float(encoded.cosine_lost.sum(dtype=np.float64)),
        cosine_lost_most=float(encoded.cosine_lost.max(initial=0)),
        mean=moments.mean.tolist(),
        squares=moments.squares.tolist(),
    )
    record.write(work, group.name)
    return record


def _write_arrow(group: TokenisedGroup, vectors: StoredVectors, out: Path, work: Path) -> Shard:
    # Loading `datasets` takes 0.7 s, and what only reads a corpus needs none of it.
    from datasets import Features  # noqa: PLC0415
    from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415

    columns = _columns(group, vectors)
    temporary, final = work / f"{group.name}.arrow.tmp", out / f"{group.name}.arrow"
    with temporary.open("wb") as stream:
        features = Features({name: kind for name, (kind, _) in columns.items()})
        writer = ArrowWriter(stream=stream, features=features)
        # One record batch per shard: a reader then sees one array per column.
        table = pa.table({name: array for name, (_, array) in columns.items()})
        writer.write_table(table, writer_batch_size=len(group.texts))
        writer.finalize(close_stream=False)
    sha256, size = sha256_of(temporary), temporary.stat().st_size
    publish(temporary, final)
    return Shard(final.name, group.split, len(group.texts), size, sha256)


def _columns(group: TokenisedGroup, vectors: StoredVectors) -> dict[str, tuple[Any, pa.Array]]:
    """Each column of a shard: what `datasets` calls its type, and what it holds."""
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
