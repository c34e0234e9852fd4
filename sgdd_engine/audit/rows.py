"""The texts and vectors of an audit: lines of text, or the rows of a store; some to audit, some for the attacker."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sgdd_engine.counted import counted
from sgdd_engine.data.cleaning import clean
from sgdd_engine.data.config import DataConfig
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.evaluation.data import EvaluationSet, from_text_file
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.generation import SGDD, CheckedVectors
from sgdd_engine.vectors import OpenSource, VectorBatch
from sgdd_engine.vectors.selection import sample_rows, take


@dataclass(frozen=True)
class AuditRows:
    """What an audit works on.

    Attributes:
        audited: The texts whose vectors are attacked.
        own: Other texts of the source, which stand for the attacker's own; None where none is left.
        ids: Of the audited rows in a store.
    """

    audited: EvaluationSet
    own: EvaluationSet | None
    ids: Sequence[str] | None = None


def rows_of_text(
    path: Path,
    model: SGDD,
    limit: int,
    own_texts: int,
    seed: int,
    *,
    config: DataConfig | None = None,
    on_event: Listener = ignore,
) -> AuditRows:
    """A random choice of lines of text, encoded by the model's encoder; see `from_text_file`.

    Raises:
        DataError: the file cannot be read, or no line of it can be used.
    """
    found = from_text_file(path, model, limit + own_texts, seed, config=config, on_event=on_event)
    return _divided(found, limit)


def rows_of_store(
    source: OpenSource,
    model: SGDD,
    limit: int,
    own_texts: int,
    seed: int,
    *,
    assume_same: bool = False,
    on_event: Listener = ignore,
) -> AuditRows:
    """A random choice of the rows of a store that have a text which the model can write, each text once.

    Raises:
        VectorSourceError: it holds no texts, none that can be used, or the vectors are another encoder's.
    """
    counts: Counter[str] = Counter()
    longest = model.info.model.max_tokens
    # What is audited are the vectors as they are stored: mapped ones would be others under each defence.
    checked = CheckedVectors(model, source, assume_same=assume_same, mappable=False, on_event=on_event)
    seen: set[str] = set()

    def usable() -> Iterator[VectorBatch]:
        for batch in checked:
            if batch.texts is None:
                raise VectorSourceError(
                    f"{source.name} holds no texts, and an audit compares what is written with them.",
                    "Name the column of the texts with --text-column.",
                )
            texts = [clean(text or "") for text in batch.texts]
            counts["rows"] += len(texts)
            kept = []
            for place, (text, tokens) in enumerate(
                zip(texts, model.tokenizer.encode_batch(texts), strict=True)
            ):
                if not text:
                    counts["no text"] += 1
                elif text in seen:
                    counts["a text that another row has"] += 1
                elif not 1 <= len(tokens) <= longest:
                    counts[f"more than the model's {longest} tokens"] += 1
                else:
                    seen.add(text)
                    kept.append(place)
            yield take(batch, kept)

    chosen = sample_rows(usable(), limit + own_texts, torch.Generator().manual_seed(seed))
    read = counts.pop("rows", 0)
    for reason, count in counts.items():
        on_event(Notice(f"Left out: {counted(count, 'row')} of {read:,} with {reason}.", warning=True))
    if not len(chosen.ids):
        raise VectorSourceError(
            f"{source.name} has no row with a vector and a text that this model can write.",
            "Name the columns with --column and --text-column.",
        )
    # The order of the store may be that of time or of a subject.
    order = np.random.default_rng(seed).permutation(len(chosen.ids)).tolist()
    chosen = take(chosen, order)
    texts = [clean(text or "") for text in chosen.texts or ()]
    found = EvaluationSet(
        sentences=texts,
        vectors=torch.from_numpy(np.ascontiguousarray(chosen.vectors, np.float32)),
        token_ids=model.tokenizer.encode_batch(texts),
        encoder=model.encoder_reference,
        tokenizer_fingerprint=model.tokenizer.fingerprint(),
        origin={
            "kind": "store",
            "path": source.name.replace("`", ""),
            "rows": read,
            "left_out": dict(counts),
            "seed": seed,
        },
    )
    divided = _divided(found, limit)
    return AuditRows(divided.audited, divided.own, list(chosen.ids)[:limit])


def _divided(found: EvaluationSet, limit: int) -> AuditRows:
    rows = range(len(found))
    own = found.rows(rows[limit:]) if len(found) > limit else None
    return AuditRows(found.rows(rows[:limit]), own)
