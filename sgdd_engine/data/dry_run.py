"""A dry run of preparation: what would be done, estimated from the first lines of the source."""

from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from sgdd_engine.data.cleaning import Rejection, clean, describe_rejections, rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.deduplicate import MIN_SENTENCES, too_few
from sgdd_engine.data.source_registry import Source
from sgdd_engine.data.vectors import vector_bytes

SAMPLE_LINES = 10_000

# Pieces per word in prose, for an estimate of the size on disk.
_TOKENS_PER_WORD = 1.4


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The estimated result of a preparation.

    Attributes:
        source: The source as the user named it.
        sampled_lines: Lines that were read.
        complete: Whether these were all lines of the source.
        kept: Distinct sentences among them; the limit on tokens is not applied.
        left_out: Lines left out, by reason.
        words_per_sentence: Mean of the kept ones.
        examples: The first kept sentences.
        estimated_lines: Lines in all, if the source tells; at most `data.limit`.
        estimated_sentences: Sentences in all, if the rest is like the sample.
        estimated_bytes: Size of the corpus on disk, where the size of a vector is known.
    """

    source: str
    sampled_lines: int
    complete: bool
    kept: int
    left_out: dict[str, int]
    words_per_sentence: float
    examples: tuple[str, ...]
    estimated_lines: int | None
    estimated_sentences: int | None
    estimated_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)


def dry_run(
    source: Source, *, config: DataConfig, embedding_dim: int | None = None, sample_lines: int = SAMPLE_LINES
) -> DryRun:
    """Read the first lines of a source and estimate what preparation would make of it all.

    Args:
        source: The source of the text.
        config: Filters and storage.
        embedding_dim: Size of a sentence vector, for the estimate of disk space.
        sample_lines: Lines read at most.

    Raises:
        DataError: If the source is unreadable, or it was read whole and leaves too little.
    """
    wanted = min(sample_lines, config.limit or sample_lines)
    lines = source.lines()
    sample = list(islice(lines, wanted))
    complete = wanted == config.limit or next(lines, None) is None
    rejected: Counter[str] = Counter()
    kept: dict[str, None] = {}
    for line in sample:
        sentence = clean(line)
        reason = Rejection.DUPLICATE if sentence in kept else rejection(sentence, config)
        if reason is None:
            kept[sentence] = None
        else:
            rejected[reason.value] += 1
    if complete and len(kept) < MIN_SENTENCES:
        raise too_few(source.name, len(kept), len(sample), describe_rejections(rejected, config))
    total = len(sample) if complete else source.estimated_lines()
    if total is not None and config.limit is not None:
        total = min(total, config.limit)
    sentences = None if total is None else round(total * len(kept) / max(len(sample), 1))
    return DryRun(
        source=source.name,
        sampled_lines=len(sample),
        complete=complete,
        kept=len(kept),
        left_out=dict(rejected),
        words_per_sentence=sum(len(text.split()) for text in kept) / max(len(kept), 1),
        examples=tuple(islice(kept, 3)),
        estimated_lines=total,
        estimated_sentences=sentences,
        estimated_bytes=_bytes_on_disk(list(kept), sentences, embedding_dim, config),
    )


def _bytes_on_disk(
    kept: list[str], sentences: int | None, embedding_dim: int | None, config: DataConfig
) -> int | None:
    if sentences is None or embedding_dim is None or not kept:
        return None
    text = sum(len(sentence.encode()) for sentence in kept) / len(kept)
    tokens = _TOKENS_PER_WORD * sum(len(sentence.split()) for sentence in kept) / len(kept)
    return round(sentences * (text + 4 * tokens + vector_bytes(embedding_dim, config.embedding_dtype) + 8))
