"""Refining: re-encode what was written, propose another sentence for it, keep whichever is closer to the vector.

A round costs one encoder call per sentence. Source: the loop of vec2text (arXiv 2310.06816 §3); how a sentence is
proposed is a kind of proposal (`PROPOSERS`), one file each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.decode import (
    Canvas,
    Check,
    Decoder,
    OnStep,
    noise_keys,
    stream_generator,
    unchecked,
)
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.registry import Registry
from sgdd_engine.text.encoder import SentenceEncoder
from sgdd_engine.text.tokenizer import TextTokenizer

STAGE = "refining"
# At this cosine a candidate needs no more rounds: an fp16 vector of the same text can differ by as much.
CLOSE_ENOUGH = 0.999
# Vectors of one text in two batches, or of its upper case for an uncased encoder, differ by rounding below this.
ROUNDING = 1e-5
# λ, per nat: what the decoder's mean log-probability of a text's tokens counts beside its cosine. By cosine alone a
# search ends in texts that nobody would write. On 40 held-out sentences of novels with 64 calls, 0 and .05 brought 1.8
# BLEU less, which so few sentences cannot tell apart for certain. One correction of 300 others (one shot: token F1
# .651, BLEU 24.3), chosen among four by predicted cosines: .678, 27.7; with λ = .02: .681, 28.8.
LOG_PROB_WEIGHT = 0.02
# Streams of a seed below this one write first drafts.
REFINEMENT_STREAM = 1 << 32


class EncodedText(NamedTuple):
    """A text's token ids and its vector [D] as the encoder gives it."""

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
        tried: All texts that were encoded so far for this vector and seed, this one among them, in their order.
        gradients: How often the encoder's gradient was taken for it.
        earlier: What a search had found when it had spent as many calls as each of its stops.
    """

    row: int
    seed: int
    tokens: tuple[int, ...]
    text: str
    vector: Tensor
    cosine: float
    tried: Mapping[str, EncodedText]
    gradients: int = 0
    earlier: tuple["Candidate", ...] = ()


def encode_written(encoder: SentenceEncoder, texts: Sequence[str], check: Check = unchecked) -> Tensor:
    """Vectors [M, D] of texts that a model wrote; one encoder call per text.

    A model can write an empty text, which has no vector; a full stop is encoded in its place.

    Args:
        encoder: The frozen encoder.
        texts: M texts.
        check: Called after each batch.
    """
    return encoder.encode([text or "." for text in texts], lambda _: check())


class EncoderScorer:
    """Encodes written sentences and says how close to their vectors they came.

    Args:
        encoder: The frozen encoder.
        tokenizer: The decoder's vocabulary.
        e: The target vectors [N, D], on the CPU.
        check: Called after each batch of the encoder.
    """

    def __init__(
        self, encoder: SentenceEncoder, tokenizer: TextTokenizer, e: Tensor, check: Check = unchecked
    ) -> None:
        self._encoder, self._tokenizer, self._e, self._check = encoder, tokenizer, e, check

    def text(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The texts of token ids."""
        return self._tokenizer.decode_batch(tokens)

    def score(self, rows: Sequence[int], texts: Sequence[str]) -> tuple[Tensor, list[float]]:
        """Vectors of texts [M, D], and their cosines with the vectors of these rows; one encoder call per text."""
        vectors = encode_written(self._encoder, texts, self._check)
        targets = self._e[torch.tensor(rows, dtype=torch.long)]
        return vectors, torch.cosine_similarity(vectors, targets, dim=-1).tolist()


@dataclass(frozen=True)
class ProposalContext:
    """What every kind of proposal is made with.

    Attributes:
        decoder: The model with the sampling that was asked for.
        e: The target vectors [N, D].
        lengths: The lengths that a sentence of each vector may have; by default all.
        on_step: Gives, for a number of denoising steps and the vectors' indices of the canvases, where these are known,
            what is called after each step.
    """

    decoder: Decoder
    e: Tensor
    lengths: Sequence[LengthRange] | None = None
    on_step: Callable[[int, Sequence[int]], OnStep | None] | None = None

    @cached_property
    def z(self) -> Tensor:
        """The target vectors' latents [N, latent_dim]."""
        return self.decoder.latents(self.e)

    @cached_property
    def _length_logits(self) -> Tensor:
        return self.decoder.model.length_logits(self.z).cpu()

    def fill(
        self,
        decoder: Decoder,
        z: Tensor,
        canvases: Sequence[Canvas],
        candidates: Sequence[Candidate] = (),
    ) -> list[tuple[int, ...]]:
        """Complete canvases.

        Args:
            decoder: The model and its way of sampling.
            z: Latents [N, latent_dim], of which each canvas names its row.
            canvases: What to complete.
            candidates: The one that each canvas is to replace, so that who watches can tell whose it is.

        Returns:
            Token ids, in the order of the canvases.
        """
        on_step = None
        if self.on_step is not None:
            on_step = self.on_step(decoder.sampling.steps, [candidate.row for candidate in candidates])
        return [tuple(tokens) for tokens in decoder.fill(z, canvases, on_step)]

    def log_probs(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> list[float]:
        """The mean log-probability of each text's tokens under the decoder, in nats; computed once for each text.

        Args:
            rows: The vector that each text belongs to.
            texts: Token ids of each, at least one.
        """
        known = self._known_log_probs
        keys = [(row, tuple(tokens)) for row, tokens in zip(rows, texts, strict=True)]
        new = [key for key in dict.fromkeys(keys) if key not in known]
        of_tokens = self.decoder.unguided().token_log_probs(
            self.z, [row for row, _ in new], [tokens for _, tokens in new]
        )
        known.update((key, float(log_probs.mean())) for key, log_probs in zip(new, of_tokens, strict=True))
        return [known[key] for key in keys]

    @cached_property
    def _known_log_probs(self) -> dict[tuple[int, tuple[int, ...]], float]:
        return {}

    def length_change(self, candidate: Candidate, generator: torch.Generator) -> int:
        """−1, 0 or 1, drawn by what the length head says of the candidate's length and its two neighbours."""
        n, max_tokens = len(candidate.tokens), self._length_logits.shape[1]
        allowed = LengthRange(1, max_tokens) if self.lengths is None else self.lengths[candidate.row]
        changes = [change for change in (-1, 0, 1) if n + change in allowed]
        if len(changes) == 1:
            return changes[0]
        logits = self._length_logits[candidate.row, [n + change - 1 for change in changes]].double()
        return changes[int(torch.multinomial(logits.softmax(-1), 1, generator=generator))]


def score_of(cosine: float, log_prob: float) -> float:
    """The score that texts of one vector are compared by: `cosine + λ · mean log-probability of the tokens`."""
    return cosine + LOG_PROB_WEIGHT * log_prob


class Proposer(Protocol):
    """Proposes another sentence in the place of each candidate."""

    def __call__(
        self, candidates: Sequence[Candidate], generators: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per candidate, drawn from the candidate's own generator."""
        ...


class ProposerKind(Protocol):
    """A class of proposers: what it needs of a model, and how one is made.

    Attributes:
        needs_feedback: Whether the decoder must have learnt to read drafts (`decoder.feedback`).
    """

    needs_feedback: bool

    def __call__(self, context: ProposalContext) -> Proposer:
        """A proposer for one call of `generate`."""
        ...


PROPOSERS: Registry[ProposerKind] = Registry("kind of proposal")


def usable_proposers(model: SemanticDecoder, names: Sequence[str]) -> list[str]:
    """Those of these kinds of proposals that the model can make, in their order."""
    can_read_drafts = model.draft_reader is not None
    return [name for name in names if can_read_drafts or not PROPOSERS.entry(name).needs_feedback]


def encode_distinct(
    scorer: EncoderScorer, rows: Sequence[int], seeds: Sequence[int], tokens: Sequence[Sequence[int]]
) -> list[Candidate]:
    """The sentences of each (row, seed) as candidates, in their order; what was written twice is encoded once."""
    texts = scorer.text(tokens)
    first: dict[tuple[int, int, str], int] = {}
    for index, key in enumerate(zip(rows, seeds, texts, strict=True)):
        first.setdefault(key, index)
    vectors, cosines = scorer.score([row for row, _, _ in first], [text for _, _, text in first])
    candidates = []
    for ((row, seed, text), index), vector, cosine in zip(first.items(), vectors, cosines, strict=True):
        encoded = EncodedText(tuple(tokens[index]), vector)
        candidates.append(Candidate(row, seed, encoded.tokens, text, vector, cosine, {text: encoded}))
    return candidates


def closest_of_each(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Of each (row, seed) the candidate closest to its vector, the first among equals.

    Returns:
        One per (row, seed), in the order in which these first come.
    """
    best: dict[tuple[int, int], Candidate] = {}
    for candidate in candidates:
        kept = best.get((candidate.row, candidate.seed))
        best[candidate.row, candidate.seed] = candidate if kept is None else _closer(kept, candidate)
    return list(best.values())


def refine(
    candidates: Sequence[Candidate],
    rounds: int,
    propose: Proposer,
    scorer: EncoderScorer,
    z: Tensor,
    on_event: Listener = ignore,
) -> list[Candidate]:
    """Change candidates round by round and keep a change only where the cosine rises.

    A candidate does not depend on those beside it. What was tried before is not encoded again.

    Args:
        candidates: Where to start.
        rounds: Proposals per candidate; one at `CLOSE_ENOUGH` needs no more.
        propose: New sentences for old.
        scorer: The encoder.
        z: The target vectors' latents [N, latent_dim], by which random numbers differ.
        on_event: Told of each round.

    Returns:
        The closest sentence found for each, in order.
    """
    best = list(candidates)
    keys = noise_keys(z)
    generators = [
        stream_generator(candidate.seed, REFINEMENT_STREAM, keys[candidate.row]) for candidate in best
    ]
    on_event(StageStarted(STAGE, rounds, "rounds"))
    for number in range(1, rounds + 1):
        unfinished = [i for i, candidate in enumerate(best) if candidate.cosine < CLOSE_ENOUGH]
        if not unfinished:
            break
        old = [best[i] for i in unfinished]
        new = _score_new(scorer, old, propose(old, [generators[i] for i in unfinished]))
        for i, kept, found in zip(unfinished, old, new, strict=True):
            best[i] = kept if found is None else _closer(kept, found)
        on_event(StageProgress(STAGE, number, f"cosine {_mean_cosine(best):.3f}"))
    on_event(StageFinished(STAGE, f"cosine {_mean_cosine(candidates):.3f} → {_mean_cosine(best):.3f}."))
    return best


def _score_new(
    scorer: EncoderScorer, candidates: Sequence[Candidate], proposals: Sequence[tuple[int, ...]]
) -> list[Candidate | None]:
    """The proposals as candidates; None where the text was tried before."""
    texts = scorer.text(proposals)
    untried = [
        i for i, (old, text) in enumerate(zip(candidates, texts, strict=True)) if text not in old.tried
    ]
    scored: list[Candidate | None] = [None] * len(candidates)
    if not untried:
        return scored
    vectors, cosines = scorer.score([candidates[i].row for i in untried], [texts[i] for i in untried])
    for i, vector, cosine in zip(untried, vectors, cosines, strict=True):
        encoded = EncodedText(tuple(proposals[i]), vector)
        scored[i] = replace(
            candidates[i],
            tokens=encoded.tokens,
            text=texts[i],
            vector=vector,
            cosine=cosine,
            tried={texts[i]: encoded},
        )
    return scored


def _closer(kept: Candidate, other: Candidate) -> Candidate:
    """The closer of two, the first among equals, and that both were tried."""
    better = other if other.cosine > kept.cosine + ROUNDING else kept
    return replace(better, tried={**kept.tried, **other.tried})


def _mean_cosine(candidates: Sequence[Candidate]) -> float:
    return sum(candidate.cosine for candidate in candidates) / max(1, len(candidates))
