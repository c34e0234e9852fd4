"""From latents and lengths to tokens: joins the networks with the sampler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE
from sgdd_engine.diffusion.sampler import MaskedLogProbs, sample
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.models.model import SemanticDecoder

# Logits held at once while decoding, in elements of each branch (256 MiB in fp32).
LOGIT_ELEMENTS = 1 << 26
# Low enough never to be drawn, finite so that the difference of two branches stays a number.
FORBIDDEN = -1e4


@dataclass(frozen=True, slots=True)
class Task:
    """One sentence to write: which latent, how many tokens, which seed."""

    row: int
    length: int
    seed: int


def decode(
    model: SemanticDecoder,
    z: Tensor,
    tasks: Sequence[Task],
    *,
    sampling: SamplingConfig,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
    on_step: Callable[[int, Sequence[Task], Tensor], None] | None = None,
) -> list[list[int]]:
    """Write each task's sentence from an all-mask canvas.

    Tasks of one length are decoded together, so nothing is padded.

    Args:
        model: In evaluation mode.
        z: Latents [N, latent_dim], on the model's device.
        tasks: What to write.
        sampling: Steps, guidance, order, temperature.
        schedule: The model's masking schedule.
        forbidden: Token ids that are never written (specials).
        on_step: Called with (steps done, the batch's tasks, canvas [B, n]).

    Returns:
        Token ids, in the order of the tasks.
    """
    results: list[list[int]] = [[] for _ in tasks]
    for indices in _batches(tasks, model.config.vocabulary.size):
        batch = [tasks[i] for i in indices]
        watch = None if on_step is None else _watcher(on_step, batch)
        tokens = _decode_batch(model, z, batch, sampling, schedule, forbidden, watch)
        for i, row in zip(indices, tokens.tolist(), strict=True):
            results[i] = row
    return results


def _batches(tasks: Sequence[Task], vocab_size: int) -> list[list[int]]:
    """Indices of tasks by length, each batch small enough for its logits."""
    by_length: dict[int, list[int]] = {}
    for index, task in enumerate(tasks):
        by_length.setdefault(task.length, []).append(index)
    batches = []
    for length, indices in sorted(by_length.items()):
        rows = max(1, LOGIT_ELEMENTS // (vocab_size * length))
        batches += [indices[start : start + rows] for start in range(0, len(indices), rows)]
    return batches


def _watcher(
    on_step: Callable[[int, Sequence[Task], Tensor], None], batch: Sequence[Task]
) -> Callable[[int, Tensor], None]:
    return lambda step, canvas: on_step(step, batch, canvas)


@torch.inference_mode()
def _decode_batch(
    model: SemanticDecoder,
    z: Tensor,
    batch: Sequence[Task],
    sampling: SamplingConfig,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
    on_step: Callable[[int, Tensor], None] | None,
) -> Tensor:
    rows = torch.tensor([task.row for task in batch], device=z.device)
    mask_id = model.config.vocabulary.mask_id
    canvas = torch.full((len(batch), batch[0].length), mask_id, device=z.device)
    return sample(
        guided_log_probs(model, z[rows], sampling, forbidden),
        canvas,
        mask_id=mask_id,
        schedule=schedule,
        config=sampling,
        generators=[torch.Generator().manual_seed(task.seed) for task in batch],
        on_step=on_step,
    )


def guided_log_probs(
    model: SemanticDecoder, z: Tensor, sampling: SamplingConfig, forbidden: Sequence[int]
) -> MaskedLogProbs:
    """The denoiser under guidance, for latents [B, latent_dim]; both branches run in one batch.

    With w = 1 only the conditional branch is computed. With w = 0 only the null branch is, in either form of
    guidance, so that nothing of the meaning is told.
    """
    closed = torch.tensor(list(forbidden), device=z.device, dtype=torch.long)

    def logits(hidden: Tensor) -> Tensor:
        return model.head.logits(hidden).index_fill_(1, closed, FORBIDDEN)

    if sampling.cfg in (0.0, 1.0):
        single = model.condition(z if sampling.cfg == 1.0 else model.null_latent(len(z)))

        def plain(z_t: Tensor, t: Tensor, masked: Tensor) -> Tensor:
            return logits(model.hidden(z_t, t, single)[masked]).log_softmax(dim=-1)

        return plain

    both = model.condition(torch.cat([z, model.null_latent(len(z))]))
    guide = GUIDANCE[sampling.guidance]

    def guided(z_t: Tensor, t: Tensor, masked: Tensor) -> Tensor:
        hidden = model.hidden(torch.cat([z_t, z_t]), torch.cat([t, t]), both)
        conditional, unconditional = logits(hidden[: len(z)][masked]), logits(hidden[len(z) :][masked])
        rows = masked.nonzero()[:, 0]
        return guide(conditional, unconditional, sampling.cfg, rows, z_t)

    return guided
