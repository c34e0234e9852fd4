"""What the decoder is told of a draft: its words, and how its meaning differs from the one that is asked for.

The idea is vec2text's corrector (arXiv 2310.06816 §3.2), which reads target, draft and their difference; here the
whole sentence is written anew from a mask, with the draft in sight.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

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
    """What a decoder is told when it sees a draft: a meaning that answers it, and its words.

    The draft's latent and what it lacks of the meaning asked for move that meaning, so what the decoder already makes
    of a latent serves here too. All that is added is zero at the start: a decoder that was trained without drafts goes
    on from where it stands, and rows without a draft are written as before.

    Args:
        latent_dim: Size of the latents.
        config: Width and hidden width.
    """

    def __init__(self, latent_dim: int, config: DecoderConfig) -> None:
        super().__init__()
        self.louder = nn.Parameter(torch.zeros(latent_dim))
        self.meaning = projector(2 * latent_dim, config.feedback_hidden, latent_dim)
        self.words = nn.Linear(config.width, config.width, bias=False)
        for parameter in (*self.meaning[-1].parameters(), *self.words.parameters()):
            nn.init.zeros_(parameter)

    def corrected_latent(self, z: Tensor, draft: Draft) -> Tensor:
        """The latents [B, latent_dim] to be told instead of `z`: what the drafts lack said louder, and more."""
        lack = z - draft.z
        moved: Tensor = self.louder * lack + self.meaning(torch.cat([lack, draft.z], dim=-1))
        return z + moved * draft.given[:, None].to(moved.dtype)

    def token_features(self, draft: Draft, embedded: Tensor) -> Tensor:
        """What the drafts' words, embedded [B, n, width], add to the canvas [B, n, width]."""
        words: Tensor = self.words(embedded)
        return words * draft.given[:, None, None].to(words.dtype)
