"""Proposals of a decoder that was trained to correct: it sees its draft and what the draft's meaning lacks.

The loop is vec2text's (arXiv 2310.06816 §3), with sixteen parallel steps in the place of a beam.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgdd_engine.generation.decode import Canvas
from sgdd_engine.generation.guided_denoiser import DraftInput
from sgdd_engine.generation.proposal import ProposalContext
from sgdd_engine.generation.refinement import Candidate

# Where the best guess was no better than the draft, the next one is drawn with some chance.
TEMPERATURE = 0.7


class CorrectionProposer:
    """Each draft written anew from the mask with the draft in sight; a `Proposer` for `refine`.

    The first proposal for a draft is the decoder's best guess. The next ones for the same draft are drawn by chance,
    and their length goes up or down by one as often as the length head finds the neighbours likely.

    Args:
        writer: What is written with; its model has `decoder.feedback`.
    """

    def __init__(self, writer: ProposalContext) -> None:
        self._writer = writer
        warm = max(TEMPERATURE, writer.sampling.temperature)
        self._bold = replace(writer.sampling, temperature=warm)
        self._answered: dict[tuple[int, int], tuple[int, ...]] = {}

    def __call__(
        self, drafts: Sequence[Candidate], noise: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per draft."""
        again = [self._answered.get((draft.row, draft.seed)) == draft.tokens for draft in drafts]
        written: list[tuple[int, ...]] = [()] * len(drafts)
        for bold, sampling in ((False, self._writer.sampling), (True, self._bold)):
            chosen = [i for i, repeated in enumerate(again) if repeated == bold]
            canvases = [self._canvas(drafts[i], noise[i], bold) for i in chosen]
            for i, tokens in zip(chosen, self._writer.write(self._writer.z, canvases, sampling), strict=True):
                written[i] = tuple(tokens)
        self._answered.update(((draft.row, draft.seed), draft.tokens) for draft in drafts)
        return written

    def _canvas(self, draft: Candidate, noise: torch.Generator, bold: bool) -> Canvas:
        mask_id = self._writer.model.config.vocabulary.mask_id
        seen = list(draft.tokens)
        if bold:
            change = self._writer.change_of_length(draft, noise)
            place = int(torch.randint(len(seen), (), generator=noise))
            # A gap for one more, or one left out.
            seen[place : place + (change < 0)] = [mask_id] * (change > 0)
        return Canvas(draft.row, [mask_id] * len(seen), noise, DraftInput(seen, self._latent(draft)))

    def _latent(self, draft: Candidate) -> Tensor:
        return self._writer.latents(draft.vector[None])[0]
