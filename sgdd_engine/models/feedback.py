"""How the decoder reads a draft: its tokens, and how its latent differs from the target's.

The idea is vec2text's corrector (arXiv 2310.06816 §3.2), which reads target, draft and their difference; here the
whole sentence is written anew from a full mask, with the draft as an input.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdd_engine.models.blocks import projector
from sgdd_engine.models.config import DecoderConfig


class Draft(NamedTuple):
    """Drafts of B sentences, each as long as the canvas.

    Attributes:
        tokens: What stands in them [B, n].
        z: The latents of their re-encoded texts [B, latent_dim].
        given: Which rows are given their draft [B]; the others are written as if there were none.
    """

    tokens: Tensor
    z: Tensor
    given: Tensor


class DraftReader(nn.Module):
    """Makes of a target latent and a draft the latent that conditions the decoder, and features of the draft's tokens.

    `z + louder ⊙ (z − z_draft) + MLP(z − z_draft, z_draft)`: the draft moves the latent, so what the decoder has learnt
    of latents serves here too. All that is added is zero at the start: a decoder that was trained without drafts goes
    on from where it is, and rows without a draft are written as before.

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
        """The latents [B, latent_dim] that take the place of the target's latents `z`."""
        residual = z - draft.z
        moved: Tensor = self.louder * residual + self.meaning(torch.cat([residual, draft.z], dim=-1))
        return z + moved * draft.given[:, None].to(moved.dtype)

    def token_features(self, draft: Draft, embedded: Tensor) -> Tensor:
        """Features of the drafts' embedded tokens [B, n, width], to be added to the canvas [B, n, width]."""
        words: Tensor = self.words(embedded)
        return words * draft.given[:, None, None].to(words.dtype)
