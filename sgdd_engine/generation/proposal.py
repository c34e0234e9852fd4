"""What proposals are written with, whoever makes them: the decoder, the meanings and the guidance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.generation.decode import Canvas, fill
from sgdd_engine.generation.refinement import Candidate
from sgdd_engine.models.model import SemanticDecoder

OnStep = Callable[[int, Sequence[int], Sequence[list[int]]], None]
"""Called with (steps done, which drafts, their canvases)."""


@dataclass(frozen=True)
class ProposalContext:
    """A decoder that writes other sentences in the place of drafts.

    Attributes:
        model: In evaluation mode.
        e: The vectors that are to be matched [N, D].
        sampling: Steps and guidance.
        schedule: The model's masking schedule.
        forbidden: Token ids that are never written (specials).
        keep_length: Whether lengths stay as they are.
        watch: Gives, for a number of steps, what is called after each of them.
    """

    model: SemanticDecoder
    e: Tensor
    sampling: SamplingConfig
    schedule: MaskingSchedule
    forbidden: Sequence[int]
    keep_length: bool = False
    watch: Callable[[int], OnStep | None] | None = None

    @cached_property
    def z(self) -> Tensor:
        """The vectors' latents [N, latent_dim]."""
        return self.latents(self.e)

    @cached_property
    def _lengths(self) -> Tensor:
        return self.model.length_logits(self.z).cpu()

    def latents(self, e: Tensor) -> Tensor:
        """Latents [M, latent_dim] of any vectors [M, D], on the model's device."""
        z: Tensor = self.model.latent(e.to(self.model.null.device)).z
        return z

    def write(self, z: Tensor, canvases: Sequence[Canvas], sampling: SamplingConfig) -> list[list[int]]:
        """Complete canvases of rows of `z` [N, latent_dim]; token ids in their order."""
        return fill(
            self.model,
            z,
            canvases,
            sampling=sampling,
            schedule=self.schedule,
            forbidden=self.forbidden,
            on_step=None if self.watch is None else self.watch(sampling.steps),
        )

    def change_of_length(self, draft: Candidate, noise: torch.Generator) -> int:
        """−1, 0 or 1, as likely as the length head finds the draft's length and its neighbours."""
        if self.keep_length:
            return 0
        n, longest = len(draft.tokens), self._lengths.shape[1]
        changes = [change for change in (-1, 0, 1) if 1 <= n + change <= longest]
        likely = self._lengths[draft.row, [n + change - 1 for change in changes]].double().softmax(-1)
        return changes[int(torch.multinomial(likely, 1, generator=noise))]
