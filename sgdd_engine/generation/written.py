"""What was written for a vector, and how sure the decoder was of each token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sgdd_engine.diffusion.sampler import TokenTrace
from sgdd_engine.generation.decode import Decoder
from sgdd_engine.generation.refinement import Candidate
from sgdd_engine.text.tokenizer import TextTokenizer

Traces = dict[tuple[int, int, tuple[int, ...]], TokenTrace]
"""How sure the sampler was of the tokens of a sentence, by vector, seed and token ids."""


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """How sure the decoder was of one token of a sentence.

    Attributes:
        piece: The token as the vocabulary spells it.
        probability: Of the token, under the guided distribution of the step that wrote it; where that is not known,
            as after refining, with every third token masked and the others given.
        entropy: Of that distribution, in nats; None where the step is not known.
        step: The step that wrote it, from 1; None where it is not known, 0 where the token was given.
    """

    piece: str
    probability: float
    entropy: float | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Generation:
    """One written sentence.

    Attributes:
        text: The sentence.
        tokens: Its token ids.
        row: Index of the vector it was written from.
        seed: The seed that wrote it.
        cosine: Cosine of its re-encoded vector with the given one; None where it was not re-encoded.
        encoder_calls: Texts that were encoded to write it: each distinct candidate, each proposal of refining, and its
            own text where it was scored. Encoding the source is not counted.
        details: How sure each token was, where that was asked for.
        confidence: Probability that the token F1 with the source is above 0.8; None where it was not asked for, or the
            checkpoint records no fit for a sentence written in this way (`generation.confidence`).
        alternatives: The other texts that were encoded for it, with their cosines, the closest first.
        earlier: What its search had found at each of the stops that were asked for.
    """

    text: str
    tokens: tuple[int, ...] = field(repr=False)
    row: int
    seed: int
    cosine: float | None = None
    encoder_calls: int = 0
    details: tuple[WrittenToken, ...] = field(default=(), repr=False)
    confidence: float | None = None
    alternatives: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    earlier: tuple["Generation", ...] = field(default=(), repr=False)


def generation_of(candidate: Candidate, e: Tensor) -> Generation:
    """A candidate that is kept, as the result of its vector (a row of `e` [N, D]) and seed."""
    others = [text for text in candidate.tried if text != candidate.text]
    cosines: list[float] = []
    if others:
        vectors = torch.stack([candidate.tried[text].vector for text in others])
        cosines = torch.cosine_similarity(vectors, e[candidate.row][None], dim=-1).tolist()
    return Generation(
        candidate.text,
        candidate.tokens,
        candidate.row,
        candidate.seed,
        candidate.cosine,
        len(candidate.tried) + candidate.gradients,
        alternatives=tuple(sorted(zip(others, cosines, strict=True), key=lambda item: -item[1])),
        earlier=tuple(generation_of(before, e) for before in candidate.earlier),
    )


def with_details(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    z: Tensor,
    generations: Sequence[Generation],
    traces: Mapping[tuple[int, int, tuple[int, ...]], TokenTrace],
) -> list[Generation]:
    """The generations with their `details`.

    Args:
        decoder: The model and its way of sampling.
        tokenizer: Of the model.
        z: Latents [N, latent_dim] of the vectors.
        generations: What was written.
        traces: What the sampler said; a sentence that it did not write in one go has none.
    """
    found = [traces.get((item.row, item.seed, item.tokens)) for item in generations]
    changed = [item for item, trace in zip(generations, found, strict=True) if trace is None]
    log_probs = iter(
        decoder.token_log_probs(z, [item.row for item in changed], [item.tokens for item in changed])
    )
    explained = []
    for item, trace in zip(generations, found, strict=True):
        if trace is None:
            pieces = map(tokenizer.piece, item.tokens)
            details = tuple(
                WrittenToken(piece, p, None, None)
                for piece, p in zip(pieces, next(log_probs).exp().tolist(), strict=True)
            )
        else:
            details = traced_tokens(tokenizer, item.tokens, trace)
        explained.append(replace(item, details=details))
    return explained


def traced_tokens(
    tokenizer: TextTokenizer, tokens: Sequence[int], trace: TokenTrace
) -> tuple[WrittenToken, ...]:
    """What the sampler said of each token of a text; one that was given has the step 0 and the probability 1."""
    certainty = zip(
        map(tokenizer.piece, tokens),
        trace.log_prob.exp().tolist(),
        trace.entropy.tolist(),
        trace.step.tolist(),
        strict=True,
    )
    return tuple(WrittenToken(*each) for each in certainty)
