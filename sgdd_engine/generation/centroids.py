"""Names for groups of vectors: what the mean of each says, its words, and the row that lies nearest to it."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdd_engine.counted import counted
from sgdd_engine.events import Listener, Notice, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.vectors.arithmetic import GroupMeans
from sgdd_engine.vectors.source import VectorBatch, Vectors

if TYPE_CHECKING:
    from sgdd_engine.generation.pipeline import SGDD
    from sgdd_engine.generation.vector_words import Word
    from sgdd_engine.generation.written import Generation

# Means that are written together.
GROUPS_AT_ONCE = 32
# Groups that a message names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class NearestRow:
    """The row of a group that lies nearest to its mean, the first among equals.

    Attributes:
        id: Of the row.
        cosine: With the mean.
        text: Its stored text, where the source has texts.
    """

    id: str
    cosine: float
    text: str | None


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """A group of vectors.

    Attributes:
        group: The value that its rows share.
        size: Its rows.
        written: What was written from its mean, `num_samples` texts.
        words: The words that its mean asks for; empty where the model has no trained null condition.
        nearest: The row nearest to its mean; None where the source can be read only once.
    """

    group: str
    size: int
    written: "tuple[Generation, ...]"
    words: "tuple[Word, ...]"
    nearest: NearestRow | None


def name_groups(
    model: "SGDD",
    batches: Iterable[VectorBatch],
    read_again: Callable[[], Iterable[VectorBatch]] | None,
    *,
    count: int = 10,
    on_event: Listener = ignore,
    **options: Any,  # noqa: ANN401 - passed on to generate
) -> Generator[NamedGroup, None, None]:
    """Write the mean of each group of a source, in memory for the groups alone.

    Args:
        model: The model.
        batches: Vectors of its encoder with `groups`, such as `CheckedVectors`.
        read_again: Gives the same rows a second time, in which the nearest ones are found; None where this cannot be.
        count: Words for each group.
        on_event: Told of both readings, and of the groups that have no mean.
        **options: As for `SGDD.generate`.

    Yields:
        The groups in the order in which they came.
    """
    means = GroupMeans()
    for batch in _counted("averaging", batches, on_event):
        means.add(batch.groups or [], batch.vectors)
    found = dict(means.means())
    if means.vanished:
        on_event(Notice(_of_vanished(means.vanished), warning=True))
    nearest: dict[str, NearestRow] = {}
    if read_again is not None:
        nearest = _nearest_rows(found, _counted("comparing", read_again(), on_event))
    groups = list(found)
    for start in range(0, len(groups), GROUPS_AT_ONCE):
        some = groups[start : start + GROUPS_AT_ONCE]
        vectors = np.stack([found[group] for group in some])
        written = model.generate(vectors, **options)
        words = model.words(vectors, count) if model.info.trained_null else [[] for _ in some]
        for row, group in enumerate(some):
            texts = tuple(item for item in written if item.row == row)
            yield NamedGroup(group, means.sizes[group], texts, tuple(words[row]), nearest.get(group))


def _of_vanished(groups: list[str]) -> str:
    named = ", ".join(groups[:_NAMED]) + (", …" if len(groups) > _NAMED else "")
    which = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
    return f"Left out: {which} whose vectors cancel each other out, and so have no mean: {named}"


def _nearest_rows(means: dict[str, Vectors], batches: Iterable[VectorBatch]) -> dict[str, NearestRow]:
    """The row of each group with the highest cosine to its mean."""
    directions = {
        group: mean.astype(np.float64) / np.linalg.norm(mean.astype(np.float64))
        for group, mean in means.items()
    }
    nearest: dict[str, NearestRow] = {}
    for batch in batches:
        for place, group in enumerate(batch.groups or ()):
            if group not in directions:
                continue
            vector = batch.vectors[place].astype(np.float64)
            # Above 1 by rounding where a group has one row.
            cosine = min(1.0, float(vector @ directions[group] / np.linalg.norm(vector)))
            if group not in nearest or cosine > nearest[group].cosine:
                text = None if batch.texts is None else batch.texts[place]
                nearest[group] = NearestRow(batch.ids[place], cosine, text)
    return nearest


def _counted(stage: str, batches: Iterable[VectorBatch], on_event: Listener) -> Iterator[VectorBatch]:
    done = 0
    on_event(StageStarted(stage, unit="vectors"))
    for batch in batches:
        yield batch
        done += len(batch.ids)
        on_event(StageProgress(stage, done))
    on_event(StageFinished(stage, f"{counted(done, 'vector')}."))
