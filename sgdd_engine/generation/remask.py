"""Proposals that need no training: mask the tokens that the decoder finds least likely, and fill them again.

Source: Mask-Predict (arXiv 1904.09324 §3.2) and ReMDM (arXiv 2503.00307), here towards a vector: what is filled again
is conditioned on the target plus a share of the difference between target and draft.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdd_engine.generation.decode import Canvas
from sgdd_engine.generation.refinement import PROPOSERS, Candidate, ProposalContext

# The constants below are those under which the rounds of examples/mini/README.md were measured (first tried on 256
# TinyStories sentences, where F1, BLEU and cosine rose together over 24 rounds); other values were not compared.
#
# Share of the tokens that a proposal masks, drawn uniformly between the two.
MIN_MASK_SHARE, MAX_MASK_SHARE = 0.15, 0.6
# Added to each token's improbability: a token that the decoder is sure of can be masked too, seldom.
MIN_IMPROBABILITY = 0.02
STEPS = 4
# Largest overshoot γ beyond the target, in units of the difference between target and draft.
MAX_OVERSHOOT = 1.0


@PROPOSERS.register("remask")
class RemaskProposer:
    """Each candidate with some of its tokens written anew; a `Proposer` for `refine`.

    Positions are drawn in proportion to `1 − p(token)`. The length goes up or down by one as often as the length head
    finds the neighbouring lengths likely. The decoder is conditioned on `e + γ (e − v)`, rescaled to the length of
    `e`, v being the candidate's own vector and γ drawn uniformly between 0 and `MAX_OVERSHOOT`.

    Args:
        context: The temperature is at least `RESAMPLING_TEMPERATURE`.
    """

    needs_feedback = False

    def __init__(self, context: ProposalContext) -> None:
        self._context = context
        self._decoder = context.decoder.resampling(steps=STEPS)
        self._improbabilities: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def __call__(
        self, candidates: Sequence[Candidate], generators: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per candidate."""
        overshoot = [MAX_OVERSHOOT * float(torch.rand((), generator=generator)) for generator in generators]
        canvases = [
            Canvas(index, self._masked(candidate, improbability, generator), generator)
            for index, (candidate, improbability, generator) in enumerate(
                zip(candidates, self._improbability_of(candidates), generators, strict=True)
            )
        ]
        z = self._decoder.latents(self._targets(candidates, overshoot))
        return self._context.fill(self._decoder, z, canvases, candidates)

    def _targets(self, candidates: Sequence[Candidate], overshoot: Sequence[float]) -> Tensor:
        """`e + γ (e − v)` for each candidate [M, D], rescaled to the length of `e`."""
        e: Tensor = self._context.e[[candidate.row for candidate in candidates]]
        residual = e - torch.stack([candidate.vector for candidate in candidates]).to(e)
        beyond: Tensor = e + torch.tensor(overshoot).to(e)[:, None] * residual
        scale = e.norm(dim=-1, keepdim=True) / beyond.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return beyond.mul_(scale)

    def _improbability_of(self, candidates: Sequence[Candidate]) -> list[Tensor]:
        """`1 − p` of each token of each candidate [n]; computed again only where a candidate has changed."""
        known = self._improbabilities
        new = {(c.row, c.tokens) for c in candidates} - known.keys()
        asked = sorted(new)
        log_probs = self._decoder.token_log_probs(
            self._context.z, [row for row, _ in asked], [tokens for _, tokens in asked]
        )
        known.update((key, 1.0 - log_prob.exp()) for key, log_prob in zip(asked, log_probs, strict=True))
        self._improbabilities = {(c.row, c.tokens): known[c.row, c.tokens] for c in candidates}
        return [self._improbabilities[c.row, c.tokens] for c in candidates]

    def _masked(self, candidate: Candidate, improbability: Tensor, generator: torch.Generator) -> list[int]:
        """The candidate's tokens, some of them masked, and perhaps one more or one fewer."""
        mask_id, n = self._decoder.mask_id, len(candidate.tokens)
        share = MIN_MASK_SHARE + (MAX_MASK_SHARE - MIN_MASK_SHARE) * float(
            torch.rand((), generator=generator)
        )
        positions = torch.multinomial(
            improbability.double() + MIN_IMPROBABILITY, max(1, round(share * n)), generator=generator
        ).tolist()
        tokens = [mask_id if i in positions else token for i, token in enumerate(candidate.tokens)]
        change = self._context.length_change(candidate, generator)
        if change > 0:
            tokens.insert(positions[0], mask_id)
        elif change < 0:
            del tokens[positions[0]]
        return tokens
