"""Proposals that need no training: mask what the decoder is least sure of, and write it again.

Source: Mask-Predict (arXiv 1904.09324 §3.2) and ReMDM (arXiv 2503.00307), here towards a vector: what is written anew
is told the meaning and, on top, what the draft lacks of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgdd_engine.certainty import certainty
from sgdd_engine.decoding import Canvas, fill
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.refining import Draft

# Share of the tokens that a proposal writes anew, drawn evenly between the two.
FEWEST, MOST = 0.15, 0.6
# Of a token's doubt: also one that the decoder is sure of may go, seldom.
LEAST_DOUBT = 0.02
STEPS, TEMPERATURE = 4, 0.7
# How far beyond the meaning is aimed at most, in lengths of what the draft lacks of it.
OVERSHOOT = 1.0


class Remasking:
    """Each draft with some of its tokens written anew; a `Proposer` for `refine`.

    Positions are drawn by how unlikely their tokens are. The length goes up or down by one as often as the length head
    finds the neighbouring lengths likely. The meaning is told as `e + γ (e − v)`, v being the draft's own vector and γ
    drawn evenly between 0 and `OVERSHOOT`: what the draft says too little of is said louder.

    Args:
        model: In evaluation mode.
        e: The vectors that are to be matched [N, D].
        sampling: The guidance under which is written; its temperature where that is above `TEMPERATURE`.
        schedule: The model's masking schedule.
        forbidden: Token ids that are never written (specials).
        keep_length: Whether lengths stay as they are.
        on_step: Called with (steps done, which drafts, their canvases).
    """

    def __init__(
        self,
        model: SemanticDecoder,
        e: Tensor,
        *,
        sampling: SamplingConfig,
        schedule: MaskingSchedule,
        forbidden: Sequence[int],
        keep_length: bool = False,
        on_step: Callable[[int, Sequence[int], Sequence[list[int]]], None] | None = None,
    ) -> None:
        self._model = model
        self._e = e.to(model.null.device)
        self._z = model.latent(self._e).z
        self._schedule, self._forbidden, self._on_step = schedule, forbidden, on_step
        self._sampling = replace(sampling, steps=STEPS, temperature=max(TEMPERATURE, sampling.temperature))
        self._lengths = None if keep_length else model.length_logits(self._z).cpu()
        self._doubts: dict[tuple[int, int], tuple[tuple[int, ...], Tensor]] = {}

    def __call__(
        self, drafts: Sequence[Draft], noise: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per draft."""
        overshoot = [OVERSHOOT * float(torch.rand((), generator=generator)) for generator in noise]
        canvases = [
            Canvas(number, self._opened(draft, doubt, generator), generator)
            for number, (draft, doubt, generator) in enumerate(
                zip(drafts, self._all_doubts(drafts), noise, strict=True)
            )
        ]
        written = fill(
            self._model,
            self._model.latent(self._aims(drafts, overshoot)).z,
            canvases,
            sampling=self._sampling,
            schedule=self._schedule,
            forbidden=self._forbidden,
            on_step=self._on_step,
        )
        return [tuple(tokens) for tokens in written]

    def _aims(self, drafts: Sequence[Draft], overshoot: Sequence[float]) -> Tensor:
        """For each draft the vector to write from [M, D], as long as the one it stands for."""
        e: Tensor = self._e[[draft.row for draft in drafts]]
        lack = e - torch.stack([draft.vector for draft in drafts]).to(e)
        beyond: Tensor = e + torch.tensor(overshoot).to(e)[:, None] * lack
        scale = e.norm(dim=-1, keepdim=True) / beyond.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return beyond.mul_(scale)

    def _all_doubts(self, drafts: Sequence[Draft]) -> list[Tensor]:
        """How unlikely each token of each draft is [n]; asked again only where a draft has changed."""
        known = self._doubts
        new = [d for d in drafts if known.get((d.row, d.seed), ((), None))[0] != d.tokens]
        sure = certainty(
            self._model,
            self._z,
            [draft.row for draft in new],
            [draft.tokens for draft in new],
            sampling=self._sampling,
            schedule=self._schedule,
            forbidden=self._forbidden,
        )
        for draft, log_probs in zip(new, sure, strict=True):
            known[draft.row, draft.seed] = draft.tokens, 1.0 - log_probs.exp()
        return [known[draft.row, draft.seed][1] for draft in drafts]

    def _opened(self, draft: Draft, doubt: Tensor, generator: torch.Generator) -> list[int]:
        """The draft's tokens, some of them masked, and perhaps one more or one fewer."""
        mask_id, n = self._model.config.vocabulary.mask_id, len(draft.tokens)
        share = FEWEST + (MOST - FEWEST) * float(torch.rand((), generator=generator))
        chosen = torch.multinomial(
            doubt.double() + LEAST_DOUBT, max(1, round(share * n)), generator=generator
        ).tolist()
        tokens = [mask_id if position in chosen else token for position, token in enumerate(draft.tokens)]
        change = self._change_of_length(draft, generator)
        if change > 0:
            tokens.insert(chosen[0], mask_id)
        elif change < 0:
            del tokens[chosen[0]]
        return tokens

    def _change_of_length(self, draft: Draft, generator: torch.Generator) -> int:
        """−1, 0 or 1, as likely as the length head finds the lengths."""
        if self._lengths is None:
            return 0
        n, longest = len(draft.tokens), self._lengths.shape[1]
        changes = [change for change in (-1, 0, 1) if 1 <= n + change <= longest]
        likely = self._lengths[draft.row, [n + change - 1 for change in changes]].double().softmax(-1)
        return changes[int(torch.multinomial(likely, 1, generator=generator))]
