"""Sentences written from a full mask under three conditions, each scored against its own source.

The conditions are the sentence's own vector, another sentence's vector (shuffled) and no vector (null). What
the second and third score is what guessing scores: only the distance to them shows that the vector is used.

The reference of a sentence is what the decoder's tokenizer can write of it, `decode(encode(source))`: a
vocabulary without capitals must not be scored on capitals. The cosine is, under every condition, between the
re-encoded text and the source's own original vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.metrics import (
    corpus_bleu,
    corpus_chrf,
    exact_match,
    repetition,
    sentence_bleu,
    token_f1,
)
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD, Generation

Figures = npt.NDArray[np.float64]

# Sentences between two reports of progress; a text does not depend on the batch it was written in.
CHUNK = 64
# Rows of the similarity table held at once.
RANK_ROWS = 1024


@dataclass(frozen=True)
class Scores:
    """Texts written under one condition, with their scores sentence by sentence [N].

    Attributes:
        texts: What was written.
        references: What it is compared with.
        exact: 1 where the two are the same string.
        f1: Token F1 in 0–1.
        bleu: sacreBLEU of the sentence, 0–100.
        cosine: Of the re-encoded text with the source's own vector.
        repeated: Share of repeated neighbouring words.
        length_difference: Tokens written less tokens of the source.
        ranked_first: 1 where no other source's vector is closer to the re-encoded text.
    """

    texts: Sequence[str]
    references: Sequence[str]
    exact: Figures
    f1: Figures
    bleu: Figures
    cosine: Figures
    repeated: Figures
    length_difference: Figures
    ranked_first: Figures

    def summary(self) -> dict[str, float]:
        """Means over the sentences; shares in 0–1, BLEU and chrF in 0–100, `length_error` in tokens."""
        return {
            "exact_match": float(self.exact.mean()),
            "token_f1": float(self.f1.mean()),
            "bleu": float(self.bleu.mean()),
            "cosine": float(self.cosine.mean()),
            "corpus_bleu": corpus_bleu(self.references, self.texts),
            "chrf": corpus_chrf(self.references, self.texts),
            "repetition": float(self.repeated.mean()),
            "length_error": float(np.abs(self.length_difference).mean()),
            "length_exact": float((self.length_difference == 0).mean()),
            "retrieval_top1": float(self.ranked_first.mean()),
        }


@dataclass(frozen=True)
class Controlled:
    """The three conditions side by side.

    Attributes:
        true: Written from the sentence's own vector.
        shuffled: Written from another sentence's vector.
        null: Written from no vector.
        random_pair_cosine: Mean cosine of the sentences' vectors with those they were shuffled with.
    """

    true: Scores
    shuffled: Scores
    null: Scores
    random_pair_cosine: float


def reconstruct_with_controls(
    model: SGDD,
    data: EvaluationSet,
    *,
    config: EvalConfig,
    sampling: SamplingConfig,
    on_event: Listener = ignore,
) -> Controlled:
    """Write every sentence from a full mask under the three conditions, with predicted lengths.

    Args:
        model: A trained model.
        data: N ≥ 2 sentences that fit it.
        config: Candidates and seed. Candidates are chosen by the vector that was given, so the null condition,
            which has none, always has one.
        sampling: Steps, guidance, order, temperature.
        on_event: Told of progress.

    Raises:
        GenerationError: Guidance was asked of a model without a trained null condition.
    """
    references = model.tokenizer.decode_batch(data.token_ids)
    other = derangement(references, config.seed)
    shuffled = data.vectors[torch.from_numpy(other)]
    lengths = np.array([len(tokens) for tokens in data.token_ids])
    own = _write(model, data.vectors, lengths, "reconstruction", config, sampling, on_event)
    others = _write(model, shuffled, lengths[other], "shuffled", config, sampling, on_event)
    nothing = _write_null(model, len(data), config.seed, sampling, on_event)
    return Controlled(
        true=_scored(model, data, references, own),
        shuffled=_scored(model, data, references, others),
        null=_scored(model, data, references, nothing),
        random_pair_cosine=float(torch.cosine_similarity(data.vectors, shuffled, dim=-1).mean()),
    )


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


def _write(
    model: SGDD,
    vectors: Tensor,
    lengths: npt.NDArray[np.int64],
    stage: str,
    config: EvalConfig,
    sampling: SamplingConfig,
    on_event: Listener,
) -> list[Generation]:
    """One text per vector, in order; `lengths` are those of the sentences that the vectors come from."""
    written: dict[int, Generation] = {}
    # Sentences of like length are decoded together, so each chunk makes few and large batches.
    order = np.argsort(lengths, kind="stable")
    on_event(StageStarted(stage, len(order)))
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        texts = model.generate(
            vectors[torch.from_numpy(rows)], sampling=sampling, candidates=config.candidates, seed=config.seed
        )
        written.update(zip(rows.tolist(), texts, strict=True))
        on_event(StageProgress(stage, len(written)))
    on_event(StageFinished(stage))
    return [written[row] for row in range(len(order))]


def _write_null(
    model: SGDD, count: int, seed: int, sampling: SamplingConfig, on_event: Listener
) -> list[Generation]:
    """`count` texts without a vector; without chance in the sampler they are one and the same, written once."""
    on_event(StageStarted("null", count))
    nothing = torch.zeros(1, model.info.model.embedding_dim)
    samples = count if sampling.by_chance else 1
    written = model.generate(nothing, sampling=sampling, num_samples=samples, seed=seed, unconditional=True)
    on_event(StageProgress("null", count))
    on_event(StageFinished("null"))
    return written if sampling.by_chance else written * count


def _scored(
    model: SGDD, data: EvaluationSet, references: Sequence[str], written: Sequence[Generation]
) -> Scores:
    texts = [item.text for item in written]
    pairs = list(zip(references, texts, strict=True))
    cosine, first = _compare_meaning(_encode_again(model, texts), data.vectors)
    lengths = [len(tokens) for tokens in data.token_ids]
    return Scores(
        texts=texts,
        references=references,
        exact=np.array([exact_match(*pair) for pair in pairs], dtype=np.float64),
        f1=np.array([token_f1(*pair) for pair in pairs]),
        bleu=np.array([sentence_bleu(*pair) for pair in pairs]),
        cosine=cosine,
        repeated=np.array([repetition(text) for text in texts]),
        length_difference=np.array([len(item.tokens) for item in written], dtype=np.float64) - lengths,
        ranked_first=first,
    )


def _encode_again(model: SGDD, texts: Sequence[str]) -> Tensor:
    """Vectors of written texts [N, D]; equal texts are encoded once."""
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    # An empty text has no meaning to compare; a full stop stands for it, as in `SGDD.generate`.
    vectors = model.encoder.encode([text or "." for text in distinct])
    return vectors[torch.tensor([distinct[text] for text in texts])]


def _compare_meaning(again: Tensor, vectors: Tensor) -> tuple[Figures, Figures]:
    """Cosine of each text with its source [N], and whether no other source is closer to it [N]."""
    again, sources = (torch.nn.functional.normalize(v.double(), dim=-1) for v in (again, vectors))
    cosine = (again * sources).sum(dim=-1)
    first = [
        (again[start : start + RANK_ROWS] @ sources.T <= cosine[start : start + RANK_ROWS, None] + 1e-9).all(
            dim=1
        )
        for start in range(0, len(again), RANK_ROWS)
    ]
    return cosine.numpy(), torch.cat(first).double().numpy()
