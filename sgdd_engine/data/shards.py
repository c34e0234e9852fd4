"""One shard of a prepared corpus: sentences, token ids and vectors in an Arrow file, with its own record."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from sgdd_engine.atomic_files import publish, sha256_of, write_json
from sgdd_engine.data.config import EmbeddingDtype
from sgdd_engine.data.groups import TokenisedGroup
from sgdd_engine.data.manifest import Shard
from sgdd_engine.data.running_statistics import Moments
from sgdd_engine.data.vector_reuse import KnownVectors
from sgdd_engine.data.vectors import StoredVectors, lost_cosine, stored, stored_again
from sgdd_engine.errors import DataError
from sgdd_engine.text.encoder import SentenceEncoder

# Vectors taken at once: another type is made of them in float32, like those of an encoder's batches.
_TAKEN_ROWS = 4096


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
        taken: Rows whose vectors were taken from another corpus.
        taken_from: The fingerprint of that corpus; None where none was asked.
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
    taken: int = 0
    taken_from: str | None = None

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
        cosine_lost: One minus the cosine between the encoder's vector and the stored one, `[N]`; that between the
            vector of the other corpus and the stored one where it was taken from there.
        known: The corpus that the vectors at `group.places` were taken from.
    """

    group: TokenisedGroup
    vectors: StoredVectors
    cosine_lost: npt.NDArray[np.float32]
    known: KnownVectors | None = None

    def losses(self) -> tuple[float, float]:
        """Sum and largest of what is missing to a cosine of 1, with what the other corpus had lost before.

        Of single vectors this is not known there: each counts as its mean, and the most is a bound, for angles add
        up at the most: `1 - cos(a + b) <= (sqrt(1 - cos a) + sqrt(1 - cos b))²`.
        """
        total = float(self.cosine_lost.sum(dtype=np.float64))
        most = float(self.cosine_lost.max(initial=0))
        taken = self.taken_rows
        if self.known is None or not len(taken):
            return total, most
        again = float(self.cosine_lost[taken].max())
        before = self.known.lost_most
        bound = before if again == 0 else (math.sqrt(again) + math.sqrt(max(before, 0))) ** 2
        return total + len(taken) * self.known.lost_mean, max(bound, most)

    @property
    def taken_rows(self) -> npt.NDArray[np.int64]:
        """The rows whose vectors were taken from the other corpus."""
        places = self.group.places
        return np.empty(0, np.int64) if places is None else np.flatnonzero(places >= 0)


def encode(
    group: TokenisedGroup,
    encoder: SentenceEncoder,
    dtype: EmbeddingDtype,
    on_batch: Callable[[int], None],
    known: KnownVectors | None = None,
) -> EncodedGroup:
    """Make the vectors of a group; they become small where they are made, and only then come to the CPU.

    Args:
        group: Ready for the encoder.
        encoder: Makes the vectors that are not known.
        dtype: How they are stored.
        on_batch: Told how many more are there.
        known: Has the others, at `group.places`.

    Raises:
        DataError: If a vector is not finite as stored.
    """
    rows_of_group = len(group.texts)
    vectors = StoredVectors.empty(rows_of_group, encoder.dim, dtype)
    result = EncodedGroup(group, vectors, np.empty(rows_of_group, np.float32), known)
    taken = result.taken_rows
    if known is not None and group.places is not None:
        for start in range(0, len(taken), _TAKEN_ROWS):
            rows = taken[start : start + _TAKEN_ROWS]
            part, lost = stored_again(known.vectors(group.places[rows]), dtype)
            _put(result, rows, part, lost)
            on_batch(len(rows))
    missing = np.setdiff1d(np.arange(rows_of_group), taken, assume_unique=True)
    for places, made in encoder.encode_parts(group.cut, on_batch):
        values, scale = stored(made, dtype)
        lost = lost_cosine(made, values, scale).cpu()
        numbers = StoredVectors(values.cpu().numpy(), None if scale is None else scale.cpu().numpy())
        _put(result, missing[places], numbers, lost)
    return result


def _put(result: EncodedGroup, rows: npt.NDArray[np.int64], part: StoredVectors, lost: torch.Tensor) -> None:
    """Put some of the vectors in their rows.

    Raises:
        DataError: If one is not finite.
    """
    finite = torch.isfinite(lost)
    if not finite.all():
        text = result.group.texts[rows[int((~finite).nonzero()[0])]]
        raise DataError(
            f'The encoder\'s vector of "{text[:80]}" is not finite as {part.dtype}.',
            "Store the vectors with --embedding-dtype fp32, or encode with --set encoder.precision=fp32.",
        )
    result.vectors.put(rows, part)
    result.cosine_lost[rows] = lost.numpy()


def write_shard(encoded: EncodedGroup, out: Path, work: Path) -> ShardRecord:
    """Store an encoded group, and its record once the shard stands on the disk.

    Args:
        encoded: What to store.
        out: The corpus folder; the shard appears there complete or not at all.
        work: A folder on the same file system for the unfinished file and the record.
    """
    group, vectors = encoded.group, encoded.vectors
    moments = Moments.of(vectors)
    cosine_lost, cosine_lost_most = encoded.losses()
    record = ShardRecord(
        shard=_write_arrow(group, vectors, out, work) if group.texts else None,
        candidates=group.candidates,
        too_long=group.candidates - len(group.texts),
        tokens=len(group.tokens),
        max_tokens=int(group.lengths.max(initial=0)),
        unknown_tokens=group.unknown_tokens,
        truncated=group.truncated,
        cosine_lost=cosine_lost,
        cosine_lost_most=cosine_lost_most,
        mean=moments.mean.tolist(),
        squares=moments.squares.tolist(),
        taken=len(encoded.taken_rows),
        taken_from=None if encoded.known is None else encoded.known.fingerprint,
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
