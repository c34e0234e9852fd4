"""Rows chosen from a stream of batches: the first ones, a random sample, batches of another size."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from sgdd_engine.errors import SgddError
from sgdd_engine.vectors.source import VectorBatch


def take(batch: VectorBatch, places: Sequence[int], left_out: Sequence[str] = ()) -> VectorBatch:
    """Some rows of a batch, by their places from 0; `left_out` is what the new batch says of missing rows."""
    return VectorBatch(
        [batch.ids[place] for place in places],
        batch.vectors[list(places)],
        None if batch.texts is None else [batch.texts[place] for place in places],
        None if batch.groups is None else [batch.groups[place] for place in places],
        left_out,
    )


def join(batches: Sequence[VectorBatch]) -> VectorBatch:
    """Batches of one source as a single one."""
    texts = [batch.texts for batch in batches if batch.texts is not None]
    groups = [batch.groups for batch in batches if batch.groups is not None]
    # A batch of rows that were all left out may not know the width.
    vectors = [batch.vectors for batch in batches if len(batch.ids)]
    return VectorBatch(
        [row for batch in batches for row in batch.ids],
        np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32),
        [text for part in texts for text in part] if texts else None,
        [group for part in groups for group in part] if groups else None,
        tuple(row for batch in batches for row in batch.left_out),
    )


def first_rows(batches: Iterable[VectorBatch], limit: int) -> Iterator[VectorBatch]:
    """The first `limit` rows; no more is read than the batch that holds the last of them."""
    for batch in batches:
        yield batch if len(batch.ids) <= limit else take(batch, range(limit), batch.left_out)
        limit -= len(batch.ids)
        if limit <= 0:
            return


def sample_rows(batches: Iterable[VectorBatch], count: int, generator: torch.Generator) -> VectorBatch:
    """`count` random rows, each subset equally likely, in the order of the source; memory for these alone.

    Row i, from 0, takes the place of one of the `count` kept rows with probability `count / (i + 1)`. Which rows are
    chosen does not depend on the sizes of batches. Source: algorithm R of Vitter 1985, "Random Sampling with a
    Reservoir".
    """
    kept: list[tuple[int, VectorBatch]] = []
    number = 0
    for batch in batches:
        for place in range(len(batch.ids)):
            if len(kept) < count:
                kept.append((number, take(batch, [place])))
            else:
                # One draw for each row: a draw for a batch would depend on its size.
                slot = int(torch.rand((), generator=generator, dtype=torch.float64).item() * (number + 1))
                if slot < count:
                    kept[slot] = number, take(batch, [place])
            number += 1
    return join([batch for _, batch in sorted(kept, key=lambda row: row[0])])


def rebatched(batches: Iterable[VectorBatch], rows: int) -> Iterator[VectorBatch]:
    """The same rows in batches of `rows`, the last one smaller; a fault is raised after the rows before it."""
    iterator = iter(batches)
    held = VectorBatch([], np.empty((0, 0), np.float32))
    fault: SgddError | None = None
    while fault is None:
        try:
            if (batch := next(iterator, None)) is None:
                break
        except SgddError as error:
            fault = error
            break
        whole = join([held, batch])
        full = len(whole.ids) - len(whole.ids) % rows
        for start in range(0, full, rows):
            yield take(whole, range(start, start + rows))
        held = take(whole, range(full, len(whole.ids)))
    if held.ids:
        yield held
    if fault is not None:
        raise fault
