"""Text for the vectors of a source, a few at a time."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from sgdd_engine.generation.pipeline import SGDD
from sgdd_engine.generation.written import Generation
from sgdd_engine.vectors.selection import rebatched
from sgdd_engine.vectors.source import VectorBatch

# Vectors decoded at once: enough to fill a batch, few enough that the first lines come soon.
ROWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class ReadText:
    """What was written for one row of a source.

    Attributes:
        id: Of the row.
        written: The text, with its cosine and seed.
        stored: The text that the source holds, if any.
    """

    id: str
    written: Generation
    stored: str | None = None


def write_texts(
    model: SGDD,
    batches: Iterable[VectorBatch],
    *,
    rows_at_once: int = ROWS_AT_ONCE,
    **options: Any,  # noqa: ANN401 - passed on to generate
) -> Generator[list[ReadText], None, None]:
    """Write the rows of batches in their order; each text depends on its vector, the settings and the seed alone.

    Args:
        model: The model.
        batches: Vectors of its encoder, such as `CheckedVectors`.
        rows_at_once: Rows that are decoded together.
        **options: As for `SGDD.generate`.

    Yields:
        The texts of `rows_at_once` rows, `num_samples` for each.
    """
    for batch in rebatched(batches, rows_at_once):
        texts = batch.texts or [None] * len(batch.ids)
        yield [
            ReadText(batch.ids[item.row], item, texts[item.row])
            for item in model.generate(batch.vectors, **options)
        ]
