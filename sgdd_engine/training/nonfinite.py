"""Steps whose loss or gradient is not finite: what was in them is written down, so that the reason can be found."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from sgdd_engine.atomic_files import write_json
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.training.dataloading import TrainingBatches

# `nonfinite-` and the position of the step's first micro-batch.
NAME = r"nonfinite-[0-9]{7,}\.json"


def write_down(run: Path, step: int, corpus: Corpus, batches: TrainingBatches, positions: range) -> str:
    """Write the sentences of a step into a file of the run's folder; returns a sentence that names it.

    The file holds the step and for each micro-batch its position, whether it came with drafts, and its sentences: their
    rows in the training split, texts, numbers of tokens, and the norms of their vectors (null if not finite).

    Args:
        run: The run's folder.
        step: The step, from 1.
        corpus: What is trained on.
        batches: The order of the run's batches; called in the thread that uses it.
        positions: Those of the step's micro-batches.
    """
    path = run / f"nonfinite-{positions[0]:07d}.json"
    content = {
        "step": step,
        "corpus": str(corpus.folder),
        "split": "train",
        "micro_batches": [_micro_batch(batches, position) for position in positions],
    }
    # A full disk must not hide why the run stops.
    with suppress(OSError):
        write_json(path, content)
        return f"Its sentences are listed in `{path}`."
    return f"Its sentences could not be listed in `{path}`."


def _micro_batch(batches: TrainingBatches, position: int) -> dict[str, Any]:
    rows, drafts = batches.rows(position)
    split = batches.split
    norms = split.embeddings(rows).norm(dim=1).tolist()
    sentences = [
        {
            "row": row,
            "text": split.text(row),
            "tokens": int(split.lengths[row]),
            "vector_norm": norm if math.isfinite(norm) else None,
        }
        for row, norm in zip(rows.tolist(), norms, strict=True)
    ]
    return {"position": position, "drafts": drafts is not None, "sentences": sentences}
