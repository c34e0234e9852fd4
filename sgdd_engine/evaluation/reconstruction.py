"""Sentences written from a full mask under several conditions, each scored against its own source.

The scores of the controls are those of guessing: only the distance to them shows that the vector is used.

The reference of a sentence is what the decoder's tokenizer can write of it, `decode(encode(source))`: a
vocabulary without capitals must not be scored on capitals. The cosine is, under every condition, between the
re-encoded text and the source's own original vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.scores import Scores, reencode, score
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD, Generation

# Sentences between two reports of progress; a text does not depend on the batch it was written in.
CHUNK = 64


@dataclass(frozen=True, slots=True)
class Condition:
    """What a text is written from.

    Attributes:
        label: Its name in progress, tables and on the page.
        meaning: What exactly is done.
        control: Whether it shows what is reached without the sentence's own vector.
    """

    label: str
    meaning: str
    control: bool = False


CONDITIONS = {
    "true": Condition(
        "its own vector", "with the candidates, the feedback and the guidance that were asked for"
    ),
    "one_shot": Condition(
        "its own vector, one shot", "one candidate, no rounds of refining, no shortlist, all else the same"
    ),
    "unguided": Condition("its own vector, no guidance", "w = 1, all else the same"),
    "nearest": Condition(
        "nearest training sentence",
        "the training sentence whose stored vector has the highest cosine with the source's; nothing is written",
        control=True,
    ),
    "shuffled": Condition(
        "another sentence's vector",
        "each used once, all else the same: a text depends on its vector alone, so what was written from the other "
        "one is compared with this sentence",
        control=True,
    ),
    "null": Condition("no vector", "one candidate, no feedback", control=True),
}
"""The conditions by their names in reports, in the order of their expected success."""


def reconstruct_with_controls(
    model: SGDD,
    data: EvaluationSet,
    *,
    config: EvalConfig,
    sampling: SamplingConfig,
    on_event: Listener = ignore,
) -> dict[str, Scores]:
    """Write every sentence from a full mask under the conditions, with predicted lengths.

    Args:
        model: A trained model.
        data: N ≥ 2 sentences that fit it.
        config: Candidates, rounds of feedback, seed. Both are steered by the vector that was given, so the null
            condition, which has none, has one candidate and no feedback.
        sampling: Steps, guidance, position rule, temperature.
        on_event: Told of progress.

    Returns:
        The scores by condition: `true`, `shuffled`, `null`, and `one_shot` beside feedback or `unguided` beside
        guidance.

    Raises:
        GenerationError: Guidance was asked of a model without a trained null condition.
    """
    own = write(model, data, _stage("true"), config, sampling, on_event)
    again = reencode(model, [item.text for item in own])
    found = {"true": score(model, data, own, again)}
    for name, way in comparisons(config, sampling).items():
        found[name] = score(model, data, write(model, data, _stage(name), *way, on_event))
    other = derangement(found["true"].references, config.seed)
    found["shuffled"] = score(
        model, data, [own[row] for row in other.tolist()], again[torch.from_numpy(other)]
    )
    found["null"] = score(model, data, _write_null(model, len(data), config.seed, sampling, on_event))
    return found


def comparisons(config: EvalConfig, sampling: SamplingConfig) -> dict[str, tuple[EvalConfig, SamplingConfig]]:
    """In which other ways, by their conditions, every sentence is written from its own vector."""
    if config.feedback:
        return {"one_shot": (config.one_shot, sampling)}
    if config.compare_guidance and sampling.cfg != 1:
        return {"unguided": (config, replace(sampling, cfg=1.0))}
    return {}


def texts_without_vector(count: int, sampling: SamplingConfig) -> int:
    """How many of `count` texts without a vector are written; without randomness one stands for all."""
    return count if sampling.stochastic else 1


def derangement(sentences: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """For each of N ≥ 2 rows another row [N], each used once, and of another sentence wherever that can be.

    Rows in random order, equal sentences side by side, shifted by the size of the largest group of equals: so
    no row stays in its group as long as no sentence makes up more than half of the rows.
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
    *,
    explain: bool = False,
    score: bool = False,
    tell_end: bool = True,
) -> list[Generation]:
    """One text per vector of a set, in order; `explain` and `score` are those of `SGDD.generate`.

    Without `tell_end` the caller tells the end of the stage, with what came of it.
    """
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
            search=config.search,
            gradient=config.gradient,
            seed=config.seed,
            explain=explain,
            score=score,
        )
        written.update(zip(rows.tolist(), texts, strict=True))
        on_event(StageProgress(stage, len(written)))
    if tell_end:
        on_event(StageFinished(stage))
    return [written[row] for row in range(len(order))]


def _write_null(
    model: SGDD, count: int, seed: int, sampling: SamplingConfig, on_event: Listener
) -> list[Generation]:
    """`count` texts without a vector."""
    stage = _stage("null")
    on_event(StageStarted(stage, count))
    nothing = torch.zeros(1, model.info.model.embedding_dim)
    samples = texts_without_vector(count, sampling)
    written = model.generate(
        nothing, sampling=sampling, num_samples=samples, seed=seed, unconditional=True, distinct=False
    )
    on_event(StageProgress(stage, count))
    on_event(StageFinished(stage))
    return written * (count // samples)


def _stage(condition: str) -> str:
    return f"writing from {CONDITIONS[condition].label}"
