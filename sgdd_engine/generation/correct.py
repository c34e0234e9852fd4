"""Proposals of a decoder that was trained to correct: it reads its draft and the draft's difference from the target.

The loop is vec2text's (arXiv 2310.06816 §3), with parallel denoising steps in the place of a beam search.
"""

from collections.abc import Sequence

import torch

from sgdd_engine.generation.decode import Canvas
from sgdd_engine.generation.guided_denoiser import DraftInput
from sgdd_engine.generation.refinement import PROPOSERS, Candidate, ProposalContext


@PROPOSERS.register("correct")
class CorrectionProposer:
    """Each candidate written anew from a full mask, with the candidate as a draft; a `Proposer` for `refine`.

    The first proposal for a draft takes the likeliest tokens. The next ones for the same draft are drawn, and their
    length goes up or down by one as often as the length head finds the neighbouring lengths likely.

    Args:
        context: Its model has `decoder.feedback`.
    """

    needs_feedback = True

    def __init__(self, context: ProposalContext) -> None:
        self._context = context
        self._seen: set[tuple[int, int, tuple[int, ...]]] = set()

    def __call__(
        self, candidates: Sequence[Candidate], generators: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per candidate."""
        repeated = []
        for candidate in candidates:
            key = candidate.row, candidate.seed, candidate.tokens
            repeated.append(key in self._seen)
            self._seen.add(key)
        proposals: list[tuple[int, ...]] = [()] * len(candidates)
        greedy, drawing = self._context.decoder, self._context.decoder.resampling()
        for draws, decoder in ((False, greedy), (True, drawing)):
            indices = [i for i, again in enumerate(repeated) if again == draws]
            canvases = [self._canvas(candidates[i], generators[i], draws) for i in indices]
            of = [candidates[i] for i in indices]
            written = self._context.fill(decoder, self._context.z, canvases, of)
            for i, tokens in zip(indices, written, strict=True):
                proposals[i] = tokens
        return proposals

    def _canvas(self, candidate: Candidate, generator: torch.Generator, draws: bool) -> Canvas:
        mask_id = self._context.decoder.mask_id
        draft = list(candidate.tokens)
        if draws:
            change = self._context.length_change(candidate, generator)
            position = int(torch.randint(len(draft), (), generator=generator))
            # A mask in the draft stands for one token more; one token fewer is left out.
            draft[position : position + (change < 0)] = [mask_id] * (change > 0)
        z = self._context.decoder.latents(candidate.vector[None])[0]
        return Canvas(candidate.row, [mask_id] * len(draft), generator, DraftInput(draft, z))
