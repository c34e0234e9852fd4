"""How sure a decoder is of each token of a text: its probability where the text stands around it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.generation.decode import batches, pad_rows
from sgdd_engine.generation.guided_denoiser import GuidedDenoiser
from sgdd_engine.models.model import SemanticDecoder

# Every third token is masked at a time: a token that is looked at sees its neighbours, and three passes see all.
STRIDE = 3


@torch.inference_mode()
def token_log_probs(
    model: SemanticDecoder,
    z: Tensor,
    rows: Sequence[int],
    texts: Sequence[Sequence[int]],
    *,
    sampling: SamplingConfig,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
) -> list[Tensor]:
    """Log-probability of each token of each text, with every third token masked and the others given.

    Args:
        model: In evaluation mode.
        z: Latents [N, latent_dim], on the model's device.
        rows: The latent that each text belongs to.
        texts: Token ids of each text, at least one.
        sampling: The guidance; `cfg = 1` asks what the meaning says.
        schedule: The model's masking schedule.
        forbidden: Token ids that are never written (specials).

    Returns:
        One [n] in float32 on the CPU per text of n tokens.
    """
    found = [torch.zeros(len(tokens)) for tokens in texts]
    for indices in batches([len(tokens) for tokens in texts]):
        tokens = pad_rows([texts[i] for i in indices], model)
        lengths = [len(texts[i]) for i in indices]
        latents = z[[rows[i] for i in indices]]
        denoiser = GuidedDenoiser(model, latents, lengths, sampling, forbidden, remembers=False)
        sure = torch.zeros(tokens.shape)
        for first in range(STRIDE):
            masked = torch.zeros_like(tokens, dtype=torch.bool)
            masked[:, first::STRIDE] = True
            masked &= torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
            if masked.any():
                sure[masked] = _of_masked(denoiser, tokens, masked, lengths, schedule, model)
        for i, row in zip(indices, sure, strict=True):
            found[i] = row[: len(texts[i])].clone()
    return found


def _of_masked(
    denoiser: GuidedDenoiser,
    tokens: Tensor,
    masked: Tensor,
    lengths: Sequence[int],
    schedule: MaskingSchedule,
    model: SemanticDecoder,
) -> Tensor:
    """Log-probabilities [M] of the tokens that stand at the masked positions of [B, n]."""
    canvas = tokens.masked_fill(masked, model.config.vocabulary.mask_id)
    scores = denoiser(canvas, schedule.time_at(masked.sum(dim=1) / torch.tensor(lengths)), masked)
    parts, targets = [], tokens[masked]
    for logits in scores(torch.arange(len(targets))):
        of = targets[: len(logits), None].to(logits.device)
        targets = targets[len(logits) :]
        # Under guidance what the branches give are logits, not yet normalised, the mask token among them.
        logits[:, model.config.vocabulary.mask_id] = -torch.inf
        parts.append((logits.gather(1, of).squeeze(1) - logits.logsumexp(dim=-1)).cpu())
    return torch.cat(parts)
