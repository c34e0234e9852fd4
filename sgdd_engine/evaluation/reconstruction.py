"""Sentences written from a full mask under several conditions, each scored against its own source.

The conditions are the sentence's own vector (true), the same without feedback (one_shot) or without guidance
(unguided), another sentence's vector (shuffled) and no vector (null). What the last two score is what guessing
scores: only the distance to them shows that the vector is used.

The reference of a sentence is what the decoder's tokenizer can write of it, `decode(encode(source))`: a
vocabulary without capitals must not be scored on capitals. The cosine is, under every condition, between the
re-encoded text and the source's own original vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.bootstrap import Figures
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.scores import Scores, score
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD, Generation

# Sentences between two reports of progress; a text does not depend on the batch it was written in.
CHUNK = 64


@dataclass(frozen=True)
class Controlled:
    """The conditions side by side.

    Attributes:
        true: Written from the sentence's own vector.
        shuffled: Written from another sentence's vector.
        null: Written from no vector.
        unguided: Written from the sentence's own vector without guidance; None where `true` has none, or where it
            was not asked for.
        one_shot: Written from the sentence's own vector at once; None where `true` is, too.
        random_pair_cosines: Of the sentences' vectors with those they were shuffled with [N].
    """

    true: Scores
    shuffled: Scores
    null: Scores
    unguided: Scores | None
    one_shot: Scores | None
    random_pair_cosines: Figures


def reconstruct_with_controls(
    model: SGDD,
    data: EvaluationSet,
    *,
    config: EvalConfig,
    sampling: SamplingConfig,
    on_event: Listener = ignore,
) -> Controlled:
    """Write every sentence from a full mask under the conditions, with predicted lengths.

    Args:
        model: A trained model.
        data: N ≥ 2 sentences that fit it.
        config: Candidates, rounds of feedback, seed. Both are steered by the vector that was given, so the null
            condition, which has none, has one candidate and no feedback.
        sampling: Steps, guidance, order, temperature.
        on_event: Told of progress.

    Raises:
        GenerationError: Guidance was asked of a model without a trained null condition.
    """
    references = references_of(model, data)
    other = derangement(references, config.seed)
    away = replace(
        data,
        vectors=data.vectors[torch.from_numpy(other)],
        token_ids=[data.token_ids[row] for row in other.tolist()],
    )
    own = write(model, data, "reconstruction", config, sampling, on_event)
    at_once = plain = None
    if config.feedback:
        at_once = write(
            model, data, "one shot", replace(config, candidates=1, refine=0, shortlist=1), sampling, on_event
        )
    elif config.compare_guidance and sampling.cfg != 1:
        plain = write(model, data, "unguided", config, replace(sampling, cfg=1.0), on_event)
    others = write(model, away, "shuffled", config, sampling, on_event)
    nothing = _write_null(model, len(data), config.seed, sampling, on_event)
    return Controlled(
        true=score_written(model, data, references, own),
        shuffled=score_written(model, data, references, others),
        null=score_written(model, data, references, nothing),
        unguided=None if plain is None else score_written(model, data, references, plain),
        one_shot=None if at_once is None else score_written(model, data, references, at_once),
        random_pair_cosines=_cosines(data.vectors, away.vectors),
    )


def references_of(model: SGDD, data: EvaluationSet) -> list[str]:
    """What the decoder's tokenizer can write of each sentence."""
    return model.tokenizer.decode_batch(data.token_ids)


def derangement(sentences: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """For each of N ≥ 2 rows another row [N], each used once, and of another sentence wherever that can be.

    Rows in random order, equal sentences side by side, shifted by the size of the largest group of equals: so
    nobody stays in its group as long as no sentence makes up more than half of the rows.
    """
    size = len(sentences)
    assert size >= 2, "a derangement needs two rows"
    groups: dict[str, list[int]] = {}
    for row in np.random.default_rng(seed).permutation(size).tolist():
        groups.setdefault(sentences[row], []).append(row)
    order = np.array([row for group in groups.values() for row in group], dtype=np.int64)
    shift = min(max(map(len, groups.values())), size - 1)
    other = np.empty(size, dtype=np.int64)
    other[order] = np.roll(order, -shift)
    return other


def write(
    model: SGDD,
    data: EvaluationSet,
    stage: str,
    config: EvalConfig,
    sampling: SamplingConfig,
    on_event: Listener = ignore,
) -> list[Generation]:
    """One text per vector of a set, in order."""
    written: dict[int, Generation] = {}
    # Sentences of like length are decoded together, so each chunk makes few and large batches.
    order = np.argsort([len(tokens) for tokens in data.token_ids], kind="stable")
    on_event(StageStarted(stage, len(order)))
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        texts = model.generate(
            data.vectors[torch.from_numpy(rows)],
            sampling=sampling,
            candidates=config.candidates,
            refine=config.refine,
            shortlist=config.shortlist,
            seed=config.seed,
        )
        written.update(zip(rows.tolist(), texts, strict=True))
        on_event(StageProgress(stage, len(written)))
    on_event(StageFinished(stage))
    return [written[row] for row in range(len(order))]


def score_written(
    model: SGDD, data: EvaluationSet, references: Sequence[str], written: Sequence[Generation]
) -> Scores:
    """Score what was written for each sentence of a set."""
    return score(
        model,
        data,
        references,
        [item.text for item in written],
        [len(item.tokens) for item in written],
        [item.encoder_calls for item in written],
    )


def _write_null(
    model: SGDD, count: int, seed: int, sampling: SamplingConfig, on_event: Listener
) -> list[Generation]:
    """`count` texts without a vector; without chance in the sampler they are one and the same, written once."""
    on_event(StageStarted("null", count))
    nothing = torch.zeros(1, model.info.model.embedding_dim)
    samples = count if sampling.stochastic else 1
    written = model.generate(nothing, sampling=sampling, num_samples=samples, seed=seed, unconditional=True)
    on_event(StageProgress("null", count))
    on_event(StageFinished("null"))
    return written if sampling.stochastic else written * count


def _cosines(one: Tensor, other: Tensor) -> Figures:
    return torch.cosine_similarity(one.double(), other.double(), dim=-1).numpy()
