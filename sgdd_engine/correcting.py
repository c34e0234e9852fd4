"""Proposals of a decoder that was trained to correct: it sees its draft and what the draft's meaning lacks.

The loop is vec2text's (arXiv 2310.06816 §3), with sixteen parallel steps in the place of a beam.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgdd_engine.decoding import Canvas, fill
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.guided import Sight
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.refining import Draft

# Where the best guess was no better than the draft, the next one is drawn with some chance.
TEMPERATURE = 0.7


class Correcting:
    """Each draft written anew from the mask with the draft in sight; a `Proposer` for `refine`.

    The first proposal for a draft is the decoder's best guess. Where the draft stayed, the next ones are drawn by
    chance, and their length goes up or down by one as often as the length head finds the neighbours likely.

    Args:
        model: In evaluation mode, with `decoder.feedback`.
        e: The vectors that are to be matched [N, D].
        sampling: Steps and guidance.
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
        self._z = model.latent(e.to(model.null.device)).z
        self._schedule, self._forbidden, self._on_step = schedule, forbidden, on_step
        self._sure = sampling
        self._bold = replace(sampling, temperature=max(TEMPERATURE, sampling.temperature))
        self._lengths = None if keep_length else model.length_logits(self._z).cpu()
        self._answered: dict[tuple[int, int], tuple[int, ...]] = {}

    def __call__(
        self, drafts: Sequence[Draft], noise: Sequence[torch.Generator]
    ) -> Sequence[tuple[int, ...]]:
        """Token ids of one new sentence per draft."""
        again = [self._answered.get((draft.row, draft.seed)) == draft.tokens for draft in drafts]
        written: list[tuple[int, ...]] = [()] * len(drafts)
        for bold, sampling in ((False, self._sure), (True, self._bold)):
            chosen = [i for i, repeated in enumerate(again) if repeated == bold]
            canvases = [self._canvas(drafts[i], noise[i], bold) for i in chosen]
            for i, tokens in zip(chosen, self._filled(canvases, sampling), strict=True):
                written[i] = tuple(tokens)
        self._answered.update(((draft.row, draft.seed), draft.tokens) for draft in drafts)
        return written

    def _filled(self, canvases: Sequence[Canvas], sampling: SamplingConfig) -> list[list[int]]:
        return fill(
            self._model,
            self._z,
            canvases,
            sampling=sampling,
            schedule=self._schedule,
            forbidden=self._forbidden,
            on_step=self._on_step,
        )

    def _canvas(self, draft: Draft, noise: torch.Generator, bold: bool) -> Canvas:
        mask_id = self._model.config.vocabulary.mask_id
        seen = list(draft.tokens)
        if bold:
            self._change_length(seen, draft.row, noise)
        z: Tensor = self._model.latent(draft.vector[None].to(self._z.device)).z[0]
        return Canvas(draft.row, [mask_id] * len(seen), noise, Sight(seen, z))

    def _change_length(self, seen: list[int], row: int, noise: torch.Generator) -> None:
        """Put a mask into the draft or take a token out of it, or neither, as likely as the lengths are."""
        if self._lengths is None:
            return
        n, longest = len(seen), self._lengths.shape[1]
        changes = [change for change in (-1, 0, 1) if 1 <= n + change <= longest]
        likely = self._lengths[row, [n + change - 1 for change in changes]].double().softmax(-1)
        change = changes[int(torch.multinomial(likely, 1, generator=noise))]
        place = int(torch.randint(n, (), generator=noise))
        if change > 0:
            seen.insert(place, self._model.config.vocabulary.mask_id)
        elif change < 0:
            del seen[place]
