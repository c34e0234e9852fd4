"""What the decoder is told of a draft: its words, and how its meaning differs from the one that is asked for.

The idea is vec2text's corrector (arXiv 2310.06816 §3.2), which reads target, draft and their difference; here the
whole sentence is written anew from a mask, with the draft in sight.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdd_engine.models.condition import Condition
from sgdd_engine.models.config import DecoderConfig
from sgdd_engine.models.projector import projector


class Draft(NamedTuple):
    """Drafts of B sentences, each as long as the canvas.

    Attributes:
        tokens: What stands in them [B, n].
        z: The latents of their re-encoded texts [B, latent_dim].
        given: The rows that are shown their draft [B]; the others are written as if there were none.
    """

    tokens: Tensor
    z: Tensor
    given: Tensor


class DraftReader(nn.Module):
    """Adds to a condition what a draft says.

    All it adds is zero at the start, so a decoder that was trained without drafts goes on from where it stands, and
    rows without a draft are written as before.

    Args:
        latent_dim: Size of the latents.
        config: Width, memory tokens and hidden width.
    """

    def __init__(self, latent_dim: int, config: DecoderConfig) -> None:
        super().__init__()
        self.shape = (1 + config.memory_tokens, config.width)
        self.meaning = projector(2 * latent_dim, config.feedback_hidden, self.shape[0] * config.width)
        self.words = nn.Linear(config.width, config.width, bias=False)
        for parameter in (*self.meaning[-1].parameters(), *self.words.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, condition: Condition, z: Tensor, draft: Draft, embedded: Tensor) -> Condition:
        """The condition of latents `z` [B, latent_dim] with their drafts.

        Args:
            condition: Without them.
            z: The meaning asked for.
            draft: The drafts.
            embedded: Their tokens' embeddings [B, n, width].
        """
        given = draft.given[:, None, None].to(embedded.dtype)
        meanings = torch.cat([z - draft.z, draft.z], dim=-1)
        told = self.meaning(meanings).unflatten(-1, self.shape) * given
        memory = condition.memory
        return replace(
            condition,
            vector=condition.vector + told[:, 0],
            memory=None if memory is None else memory + told[:, 1:],
            draft=self.words(embedded) * given,
        )
