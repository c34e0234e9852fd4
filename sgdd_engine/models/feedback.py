"""How the decoder reads a draft: its tokens, and how its latent differs from the target's.

The idea is vec2text's corrector (arXiv 2310.06816 §3.2), which reads target, draft and their difference; here the
whole sentence is written anew from a full mask, and attention reads the draft beside the canvas. So the new sentence
may be longer or shorter than the draft, and a word may move.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgdd_engine.models.blocks import MemoryTokens, projector
from sgdd_engine.models.config import DecoderConfig

# Memory tokens that tell how the draft's latent differs from the target's.
DIFFERENCE_TOKENS = 4


class Draft(NamedTuple):
    """Drafts of B sentences.

    Attributes:
        tokens: What stands in them [B, m]; any token behind the end of a shorter one.
        lengths: Tokens of each [B].
        z: The latents of their re-encoded texts [B, latent_dim].
        given: Which rows are given their draft [B]; the others are written as if there were none.
    """

    tokens: Tensor
    lengths: Tensor
    z: Tensor
    given: Tensor


class DraftReader(nn.Module):
    """Makes of a target latent and a draft the latent that conditions the decoder, memory, and a guess of the length.

    The latent is `z + louder ⊙ (z − z_draft) + MLP(z − z_draft, z_draft)`: the draft moves it, so what the decoder has
    learnt of latents serves here too. What is added to it is zero at the start.

    Args:
        latent_dim: Size of the latents.
        max_tokens: Of a sentence.
        config: Width and hidden width.
    """

    def __init__(self, latent_dim: int, max_tokens: int, config: DecoderConfig) -> None:
        super().__init__()
        self.louder = nn.Parameter(torch.zeros(latent_dim))
        self.meaning = projector(2 * latent_dim, config.feedback_hidden, latent_dim)
        self.difference = projector(2 * latent_dim, config.feedback_hidden, DIFFERENCE_TOKENS * config.width)
        self.words = nn.Linear(config.width, config.width, bias=False)
        self.length = nn.Embedding(max_tokens + 1, max_tokens)
        for parameter in (*self.meaning[-1].parameters(), self.length.weight):
            nn.init.zeros_(parameter)

    def corrected_latent(self, z: Tensor, draft: Draft) -> Tensor:
        """The latents [B, latent_dim] that take the place of the target's latents `z`."""
        residual = z - draft.z
        moved: Tensor = self.louder * residual + self.meaning(torch.cat([residual, draft.z], dim=-1))
        return z + moved * draft.given[:, None].to(moved.dtype)

    def length_correction(self, draft: Draft) -> Tensor:
        """What the lengths of the drafts add to the logits of the lengths [B, max_tokens]."""
        logits: Tensor = self.length(draft.lengths)
        return logits * draft.given[:, None].to(logits.dtype)

    def memory(
        self,
        z: Tensor,
        draft: Draft,
        embedded: Tensor,
        angles: tuple[Tensor, Tensor],
        before: MemoryTokens | None,
    ) -> MemoryTokens:
        """The memory of the target, if there is any, and behind it the difference and the words of the draft.

        Args:
            z: The target's latents [B, latent_dim].
            draft: The drafts.
            embedded: Embeddings of their tokens [B, m, width].
            angles: Of the positions where these tokens would stand on a canvas, each [m, head_dim / 2].
            before: The memory of the target.
        """
        rows, m = draft.tokens.shape
        difference = self.difference(torch.cat([z - draft.z, draft.z], dim=-1))
        words = self.words(embedded)
        parts = [difference.unflatten(-1, (DIFFERENCE_TOKENS, -1)), words]
        if before is not None:
            parts.insert(0, before.vectors)
        unturned = sum(part.shape[1] for part in parts) - m
        cos, sin = (
            torch.cat([angle.new_full((unturned, angle.shape[1]), value), angle])
            for angle, value in zip(angles, (1.0, 0.0), strict=True)
        )
        known = 0 if before is None else before.vectors.shape[1]
        place = torch.arange(unturned - known + m, device=z.device)
        read = draft.given[:, None] & (place < DIFFERENCE_TOKENS + draft.lengths[:, None])
        mask = torch.zeros(rows, unturned + m, device=z.device)
        mask[:, known:].masked_fill_(~read, -torch.inf)
        return MemoryTokens(torch.cat(parts, dim=1), (cos, sin), mask[:, None, None])
