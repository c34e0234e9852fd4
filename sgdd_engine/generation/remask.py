"""Proposals that need no training: mask what the decoder is least sure of, and write it again.

Source: Mask-Predict (arXiv 1904.09324 §3.2) and ReMDM (arXiv 2503.00307), here towards a vector: what is written anew
is told the meaning and, on top, what the draft lacks of it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgdd_engine.generation.decode import Canvas
from sgdd_engine.generation.proposal import ProposalContext
from sgdd_engine.generation.refinement import Candidate
from sgdd_engine.generation.token_scores import token_log_probs

# Share of the tokens that a proposal writes anew, drawn evenly between the two.
FEWEST, MOST = 0.15, 0.6
# Of a token's doubt: also one that the decoder is sure of may go, seldom.
LEAST_DOUBT = 0.02
STEPS, TEMPERATURE = 4, 0.7
# How far beyond the meaning is aimed at most, in lengths of what the draft lacks of it.
OVERSHOOT = 1.0


class RemaskProposer:
    """Each draft with some of its tokens written anew; a `Proposer` for `refine`.

    Positions are drawn by how unlikely their tokens are. The length goes up or down by one as often as the length head
    finds the neighbouring lengths likely. The meaning is told as `e + γ (e − v)`, v being the draft's own vector and γ
    drawn evenly between 0 and `OVERSHOOT`: what the draft says too little of is said louder.

    Args:
        writer: What is written with; the temperature is at least `TEMPERATURE`.
    """

    def __init__(self, writer: ProposalContext) -> None:
        self._writer = writer
        warm = max(TEMPERATURE, writer.sampling.temperature)
        self._sampling = replace(writer.sampling, steps=STEPS, temperature=warm)
        self._doubts: dict[tuple[int, int], tuple[tuple[int, ...], Tensor]] = {}

    def __call__(
        self, drafts: Sequence[Candidate], noise: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per draft."""
        overshoot = [OVERSHOOT * float(torch.rand((), generator=generator)) for generator in noise]
        canvases = [
            Canvas(number, self._opened(draft, doubt, generator), generator)
            for number, (draft, doubt, generator) in enumerate(
                zip(drafts, self._all_doubts(drafts), noise, strict=True)
            )
        ]
        aims = self._writer.latents(self._aims(drafts, overshoot))
        written = self._writer.write(aims, canvases, self._sampling)
        return [tuple(tokens) for tokens in written]

    def _aims(self, drafts: Sequence[Candidate], overshoot: Sequence[float]) -> Tensor:
        """For each draft the vector to write from [M, D], as long as the one it stands for."""
        e: Tensor = self._writer.e[[draft.row for draft in drafts]]
        lack = e - torch.stack([draft.vector for draft in drafts]).to(e)
        beyond: Tensor = e + torch.tensor(overshoot).to(e)[:, None] * lack
        scale = e.norm(dim=-1, keepdim=True) / beyond.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return beyond.mul_(scale)

    def _all_doubts(self, drafts: Sequence[Candidate]) -> list[Tensor]:
        """How unlikely each token of each draft is [n]; asked again only where a draft has changed."""
        known = self._doubts
        new = [d for d in drafts if known.get((d.row, d.seed), ((), None))[0] != d.tokens]
        writer = self._writer
        sure = token_log_probs(
            writer.model,
            writer.z,
            [draft.row for draft in new],
            [draft.tokens for draft in new],
            sampling=self._sampling,
            schedule=writer.schedule,
            forbidden=writer.forbidden,
        )
        for draft, log_probs in zip(new, sure, strict=True):
            known[draft.row, draft.seed] = draft.tokens, 1.0 - log_probs.exp()
        return [known[draft.row, draft.seed][1] for draft in drafts]

    def _opened(self, draft: Candidate, doubt: Tensor, generator: torch.Generator) -> list[int]:
        """The draft's tokens, some of them masked, and perhaps one more or one fewer."""
        mask_id, n = self._writer.model.config.vocabulary.mask_id, len(draft.tokens)
        share = FEWEST + (MOST - FEWEST) * float(torch.rand((), generator=generator))
        chosen = torch.multinomial(
            doubt.double() + LEAST_DOUBT, max(1, round(share * n)), generator=generator
        ).tolist()
        tokens = [mask_id if position in chosen else token for position, token in enumerate(draft.tokens)]
        change = self._writer.change_of_length(draft, generator)
        if change > 0:
            tokens.insert(chosen[0], mask_id)
        elif change < 0:
            del tokens[chosen[0]]
        return tokens
