"""The training sentences beside an evaluation: the nearest one to each source, and which texts are copies of one.

Both are looked for in the training split some thousand rows of one length at a time, so memory does not grow with the
corpus. Of a large split every sentence is compared word for word, and the vectors of an even part of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.evaluation.bootstrap import Floats, Interval, Resampling, share_difference, share_interval
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.scores import Scores, score
from sgdd_engine.events import Listener, Notice, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD, Generation

RowNumbers = npt.NDArray[np.int64]

STAGE, COPIES = "training sentences", "copies of training sentences"
# Rows of the training split held at once.
BLOCK = 8192


@dataclass(frozen=True)
class Memorisation:
    """How many texts are training sentences, with 95 % intervals.

    Attributes:
        outputs: Share of what was written.
        sources: Share of the sources.
        excess: The former less the latter, paired by sentence.
    """

    outputs: Interval
    sources: Interval
    excess: Interval


@dataclass(frozen=True)
class TrainingComparison:
    """The N sentences of an evaluation beside the training text.

    Attributes:
        nearest: The nearest training sentences, scored as if they had been written.
        memorisation: How many outputs and sources are training sentences.
        origin: Where the training text came from and how much of it was looked at, as JSON values.
    """

    nearest: Scores
    memorisation: Memorisation
    origin: Mapping[str, Any]


def compare_with_training(
    model: SGDD,
    data: EvaluationSet,
    written: Scores,
    corpus: Corpus,
    *,
    limit: int,
    seed: int,
    on_event: Listener = ignore,
) -> TrainingComparison | None:
    """Look the sentences and what was written up in the training split of a corpus.

    Args:
        model: The model that wrote.
        data: The sentences.
        written: What was written for them.
        corpus: The corpus whose training split is looked at.
        limit: Training sentences among which the nearest is looked for, an even part of more; copies are looked for
            among all.
        seed: Of the bootstrap.
        on_event: Told of progress, and why nothing could be looked up.

    Returns:
        None where the corpus was made by another encoder or tokenizer than the model's, or has no training split.
    """
    split = corpus.split("train")
    if problem := _incompatibility(model, corpus):
        on_event(Notice(f"Retrieval and memorisation are left out: `{corpus.folder}` {problem}."))
        return None
    outputs = model.tokenizer.encode_batch(written.texts)
    # The tokens of a corpus are those of cleaned sentences, as the sources' are.
    found = look_up(
        split,
        data.vectors,
        [*outputs, *data.token_ids],
        limit=limit,
        device=model.device,
        on_event=on_event,
    )
    fingerprint = corpus.manifest.fingerprint()
    tokens = [split.tokens(row) for row in found.nearest.tolist()]
    texts = enumerate(zip(model.tokenizer.decode_batch(tokens), tokens, strict=True))
    nearest = [Generation(text, tuple(ids), row, seed) for row, (text, ids) in texts]
    copied, overlap = np.split(found.known.astype(np.float64), [len(outputs)])
    trained_on = fingerprint == model.info.facts.get("corpus", {}).get("fingerprint")
    if not trained_on:
        on_event(
            Notice(
                f"`{corpus.folder}` is not recorded as the corpus of the training: what is said about training "
                "sentences is about its own. For those of the training: --train-corpus FOLDER"
            )
        )
    return TrainingComparison(
        nearest=score(model, data, nearest),
        memorisation=Memorisation(
            _share(copied, seed), _share(overlap, seed), share_difference(copied, overlap)
        ),
        origin={
            "path": str(corpus.folder),
            "fingerprint": fingerprint,
            "trained_on": trained_on,
            "available": found.available,
            "searched": found.searched,
        },
    )


def _share(found: Floats, seed: int) -> Interval:
    return share_interval(Resampling(len(found), seed).means(found[:, None])[:, 0], len(found))


def _incompatibility(model: SGDD, corpus: Corpus) -> str | None:
    """Why the vectors or tokens of a corpus cannot be compared with a model's; None where they can."""
    if different := corpus.encoder_reference.differences(model.encoder_reference):
        return f"was made by another encoder than the model's ({'; '.join(different)})"
    if corpus.manifest.tokenizer["fingerprint"] != model.tokenizer.fingerprint():
        return "was made by another tokenizer than the model's"
    return None if len(corpus.split("train")) else "has no training sentences"


@dataclass(frozen=True)
class TrainingText:
    """What the pass found for N vectors and M token rows.

    Attributes:
        nearest: Row of the training sentence whose vector has the highest cosine with each vector [N].
        known: Whether each token row is a training sentence [M].
        searched: Training sentences whose vectors were compared.
        available: Training sentences there are, each compared word for word.
    """

    nearest: RowNumbers
    known: npt.NDArray[np.bool_]
    searched: int
    available: int


def look_up(
    split: CorpusSplit,
    vectors: Tensor,
    token_ids: Sequence[Sequence[int]],
    *,
    limit: int,
    device: torch.device | str = "cpu",
    on_event: Listener = ignore,
) -> TrainingText:
    """Find the nearest training sentence of each vector, and the token rows that are training sentences.

    Args:
        split: The training split, of at least one row.
        vectors: [N, D], of the encoder that made the split's.
        token_ids: M rows of the tokenizer that made the split's.
        limit: Vectors of the split that are compared, evenly spread over a larger one.
        device: Where the products are computed, in float32.
        on_event: Told of each block.
    """
    known = _known(split, token_ids, on_event)
    searched = min(limit, len(split))
    rows = np.arange(searched) * len(split) // searched
    queries = torch.nn.functional.normalize(vectors.float(), dim=-1).to(device)
    best, nearest = torch.full((len(queries),), -torch.inf), torch.zeros(len(queries), dtype=torch.long)
    on_event(StageStarted(STAGE, len(rows)))
    done = 0
    for block in _blocks(split, rows):
        cosine, place = _closest(queries, split.embeddings(block))
        # Equal cosines go to the earlier row, whatever the order of the blocks.
        found = torch.from_numpy(block)[place]
        better = (cosine > best) | ((cosine == best) & (found < nearest))
        best, nearest = torch.where(better, cosine, best), torch.where(better, found, nearest)
        done += len(block)
        on_event(StageProgress(STAGE, done))
    on_event(StageFinished(STAGE))
    return TrainingText(nearest.numpy(), known, len(rows), len(split))


def _known(
    split: CorpusSplit, token_ids: Sequence[Sequence[int]], on_event: Listener
) -> npt.NDArray[np.bool_]:
    """Whether each of M token rows is a row of the split [M]."""
    wanted: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(token_ids):
        wanted.setdefault(tuple(row), []).append(number)
    known = np.zeros(len(token_ids), dtype=np.bool_)
    rows = np.flatnonzero(np.isin(split.lengths, list(set(map(len, wanted)))))
    on_event(StageStarted(COPIES, len(rows)))
    done = 0
    for block in _blocks(split, rows):
        tokens = split.token_rows(block)
        # Numbers that differ for nearly all rows leave few to be compared token by token, which is slow in Python.
        factors = np.random.default_rng(0).integers(1 << 62, size=tokens.shape[1])
        alike = np.array([row for row in wanted if len(row) == tokens.shape[1]])
        for row in map(tuple, tokens[np.isin(tokens @ factors, alike @ factors)].tolist()):
            if numbers := wanted.get(row):
                known[numbers] = True
        done += len(block)
        on_event(StageProgress(COPIES, done))
    on_event(StageFinished(COPIES))
    return known


def _blocks(split: CorpusSplit, rows: RowNumbers) -> Iterator[RowNumbers]:
    """The rows in blocks of one length each."""
    lengths = split.lengths[rows]
    for length in np.unique(lengths):
        alike = rows[lengths == length]
        yield from (alike[start : start + BLOCK] for start in range(0, len(alike), BLOCK))


def _closest(queries: Tensor, stored: Tensor) -> tuple[Tensor, Tensor]:
    """Highest cosine of each query [N, D] with the stored vectors [B, D], and where it stands: [N], [N]."""
    unit = torch.nn.functional.normalize(stored.to(queries.device), dim=-1)
    cosine, place = (queries @ unit.T).max(dim=1)
    return cosine.cpu(), place.cpu()
