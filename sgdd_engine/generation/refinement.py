"""Feedback: encode again what was written, propose another sentence for it, keep whichever is closer.

A round costs one encoder call per sentence. Source: the loop of vec2text (arXiv 2310.06816 §3); how a sentence is
proposed is left open here (see `remasking`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation.decode import noise_of
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.tokenizer import TextTokenizer

STAGE = "refining"
# Closer than this, what is left to gain is rounding.
ENOUGH = 0.999
# Equal meanings in another batch, or in another case for an uncased encoder, differ by rounding only.
SAME = 1e-5
# Streams of a seed's noise below this one write first drafts.
STREAM = 1 << 32


class Reading(NamedTuple):
    """What the encoder said of a text: its token ids and its vector [D]."""

    tokens: tuple[int, ...]
    vector: Tensor


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence written from a vector, and how close it came.

    Attributes:
        row: Index of the vector.
        seed: The seed that wrote it.
        tokens: Its token ids.
        text: The sentence.
        vector: Its re-encoded vector [D].
        cosine: Of that with the vector it was written from.
        tried: All texts that were encoded on the way to it, its own among them, in their order.
    """

    row: int
    seed: int
    tokens: tuple[int, ...]
    text: str
    vector: Tensor
    cosine: float
    tried: Mapping[str, Reading]


class Proposer(Protocol):
    """Other sentences in the place of drafts; the place where a trained corrector goes."""

    def __call__(
        self, drafts: Sequence[Candidate], noise: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per draft, drawn from the draft's own generator."""
        ...


class EncoderScorer:
    """Reads written sentences with the encoder and says how close to their vectors they came.

    Args:
        encoder: The frozen encoder.
        tokenizer: The decoder's vocabulary.
        e: The vectors that are to be matched [N, D], on the CPU.
    """

    def __init__(self, encoder: SentenceEncoder, tokenizer: TextTokenizer, e: Tensor) -> None:
        self._encoder, self._tokenizer, self._e = encoder, tokenizer, e

    def text(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """What the tokens spell."""
        return self._tokenizer.decode_batch(tokens)

    def read(self, rows: Sequence[int], texts: Sequence[str]) -> tuple[Tensor, list[float]]:
        """Vectors of texts [M, D], and their cosines with the vectors of these rows; one encoder call per text."""
        # An empty text has no meaning to compare; a full stop stands for it so that the rows stay aligned.
        vectors = self._encoder.encode([text or "." for text in texts])
        targets = self._e[torch.tensor(rows, dtype=torch.long)]
        return vectors, torch.cosine_similarity(vectors, targets, dim=-1).tolist()


def best_of_n(
    reader: EncoderScorer, rows: Sequence[int], seeds: Sequence[int], tokens: Sequence[Sequence[int]]
) -> list[Candidate]:
    """Of the sentences of each (row, seed) the one closest to its vector, the first among equals.

    A text that was written twice is encoded once.

    Returns:
        One draft per (row, seed), in the order in which these first come.
    """
    texts = reader.text(tokens)
    first: dict[tuple[int, int, str], int] = {}
    for index, key in enumerate(zip(rows, seeds, texts, strict=True)):
        first.setdefault(key, index)
    vectors, cosines = reader.read([row for row, _, _ in first], [text for _, _, text in first])
    best: dict[tuple[int, int], Candidate] = {}
    for ((row, seed, text), index), vector, cosine in zip(first.items(), vectors, cosines, strict=True):
        reading = Reading(tuple(tokens[index]), vector)
        draft = Candidate(row, seed, reading.tokens, text, vector, cosine, {text: reading})
        kept = best.get((row, seed))
        best[row, seed] = draft if kept is None else _closer(kept, draft)
    return list(best.values())


def refine(
    drafts: Sequence[Candidate],
    rounds: int,
    propose: Proposer,
    reader: EncoderScorer,
    on_event: Listener = ignore,
) -> list[Candidate]:
    """Change drafts round by round and keep a change only where the cosine rises.

    A draft does not depend on those beside it. What was tried before is not encoded again.

    Args:
        drafts: Where to start.
        rounds: Proposals per draft; a draft that is close enough (`ENOUGH`) needs no more.
        propose: New sentences for old.
        reader: The encoder.
        on_event: Told of each round.

    Returns:
        The closest draft found for each, in order.
    """
    best = list(drafts)
    noise = [noise_of(draft.seed, STREAM) for draft in best]
    on_event(StageStarted(STAGE, rounds, "rounds"))
    for number in range(1, rounds + 1):
        unfinished = [i for i, draft in enumerate(best) if draft.cosine < ENOUGH]
        if not unfinished:
            break
        old = [best[i] for i in unfinished]
        new = _read_new(reader, old, propose(old, [noise[i] for i in unfinished]))
        for i, kept, found in zip(unfinished, old, new, strict=True):
            best[i] = kept if found is None else _closer(kept, found)
        on_event(StageProgress(STAGE, number, f"cosine {_mean_cosine(best):.3f}"))
    on_event(StageFinished(STAGE, f"cosine {_mean_cosine(drafts):.3f} → {_mean_cosine(best):.3f}."))
    return best


def _read_new(
    reader: EncoderScorer, drafts: Sequence[Candidate], proposals: Sequence[tuple[int, ...]]
) -> list[Candidate | None]:
    """The proposals as drafts; None where the text was tried before."""
    texts = reader.text(proposals)
    fresh = [i for i, (draft, text) in enumerate(zip(drafts, texts, strict=True)) if text not in draft.tried]
    found: list[Candidate | None] = [None] * len(drafts)
    if not fresh:
        return found
    vectors, cosines = reader.read([drafts[i].row for i in fresh], [texts[i] for i in fresh])
    for i, vector, cosine in zip(fresh, vectors, cosines, strict=True):
        found[i] = replace(
            drafts[i],
            tokens=tuple(proposals[i]),
            text=texts[i],
            vector=vector,
            cosine=cosine,
            tried={texts[i]: Reading(tuple(proposals[i]), vector)},
        )
    return found


def _closer(kept: Candidate, other: Candidate) -> Candidate:
    """The closer of two, the first among equals, and that both were tried."""
    better = other if other.cosine > kept.cosine + SAME else kept
    return replace(better, tried={**kept.tried, **other.tried})


def _mean_cosine(drafts: Sequence[Candidate]) -> float:
    return sum(draft.cosine for draft in drafts) / max(1, len(drafts))
