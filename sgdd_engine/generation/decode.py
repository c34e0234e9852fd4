"""From latents and lengths to tokens: joins the networks with the sampler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.sampler import sample
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.generation.guided_denoiser import DraftInput, GuidedDenoiser
from sgdd_engine.models.model import SemanticDecoder

# Tokens of all canvases that fill in together.
BATCH_TOKENS = 1 << 13


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One sentence to write: which latent, how many tokens, which seed, and which of the seed's streams of noise."""

    row: int
    length: int
    seed: int
    stream: int = 0


@dataclass(frozen=True, slots=True)
class Canvas:
    """A sentence to complete: of which latent, its tokens (the mask where it is open), and the noise to draw from."""

    row: int
    tokens: Sequence[int]
    generator: torch.Generator
    draft: DraftInput | None = None


def noise_of(seed: int, stream: int = 0) -> torch.Generator:
    """The noise of one stream of a seed; what is drawn from one says nothing of another."""
    # An odd multiplier spreads the streams of neighbouring seeds far apart in the 63-bit seed space.
    return torch.Generator().manual_seed((seed + stream * 0x9E3779B97F4A7C15) % (1 << 63))


def decode(
    model: SemanticDecoder,
    z: Tensor,
    tasks: Sequence[DecodeRequest],
    *,
    sampling: SamplingConfig,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
    on_step: Callable[[int, Sequence[DecodeRequest], Sequence[list[int]]], None] | None = None,
) -> list[list[int]]:
    """Write each task's sentence from an all-mask canvas.

    Args:
        model: In evaluation mode.
        z: Latents [N, latent_dim], on the model's device.
        tasks: What to write.
        sampling: Steps, guidance, order, temperature.
        schedule: The model's masking schedule.
        forbidden: Token ids that are never written (specials).
        on_step: Called with (steps done, the batch's tasks, their canvases).

    Returns:
        Token ids, in the order of the tasks.
    """
    mask_id = model.config.vocabulary.mask_id
    return fill(
        model,
        z,
        [Canvas(task.row, [mask_id] * task.length, noise_of(task.seed, task.stream)) for task in tasks],
        sampling=sampling,
        schedule=schedule,
        forbidden=forbidden,
        on_step=None
        if on_step is None
        else lambda step, indices, texts: on_step(step, [tasks[i] for i in indices], texts),
    )


def fill(
    model: SemanticDecoder,
    z: Tensor,
    canvases: Sequence[Canvas],
    *,
    sampling: SamplingConfig,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
    on_step: Callable[[int, Sequence[int], Sequence[list[int]]], None] | None = None,
) -> list[list[int]]:
    """Write on the open positions of each canvas; what stands there stays.

    Canvases of all lengths are filled together, and the network reads those of one length at a time: nothing is
    padded, and the vocabulary head still gets many positions at once.

    Args:
        model: In evaluation mode.
        z: Latents [N, latent_dim], on the model's device.
        canvases: What to complete.
        sampling: Steps, guidance, order, temperature.
        schedule: The model's masking schedule.
        forbidden: Token ids that are never written (specials).
        on_step: Called with (steps done, which canvases the batch holds, what stands on them).

    Returns:
        Token ids, in the order of the canvases.
    """
    results: list[list[int]] = [[] for _ in canvases]
    for indices in batches([len(canvas.tokens) for canvas in canvases]):
        batch = [canvases[i] for i in indices]
        watch = None if on_step is None else _watcher(on_step, indices, batch)
        for i, tokens in zip(
            indices, _fill_batch(model, z, batch, sampling, schedule, forbidden, watch), strict=True
        ):
            results[i] = tokens
    return results


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of sentences of these lengths, the shortest first, in batches of about `BATCH_TOKENS`."""
    found: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        room -= lengths[index]
        if room < 0:
            found.append([])
            room = BATCH_TOKENS - lengths[index]
        found[-1].append(index)
    return found


def pad_rows(texts: Sequence[Sequence[int]], model: SemanticDecoder) -> Tensor:
    """Token ids of a batch as one table [B, n].

    Behind its end a row holds an anchor, which is neither open nor ever written.
    """
    table = torch.full((len(texts), max(map(len, texts))), model.config.vocabulary.bos_id)
    for row, tokens in zip(table, texts, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    return table


def _watcher(
    on_step: Callable[[int, Sequence[int], Sequence[list[int]]], None],
    indices: Sequence[int],
    batch: Sequence[Canvas],
) -> Callable[[int, Tensor], None]:
    return lambda step, table: on_step(step, indices, _texts(table, batch))


def _texts(table: Tensor, batch: Sequence[Canvas]) -> list[list[int]]:
    return [row[: len(canvas.tokens)] for row, canvas in zip(table.tolist(), batch, strict=True)]


@torch.inference_mode()
def _fill_batch(
    model: SemanticDecoder,
    z: Tensor,
    batch: Sequence[Canvas],
    sampling: SamplingConfig,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
    on_step: Callable[[int, Tensor], None] | None,
) -> list[list[int]]:
    lengths = [len(canvas.tokens) for canvas in batch]
    tokens = sample(
        GuidedDenoiser(
            model,
            z[[canvas.row for canvas in batch]],
            lengths,
            sampling,
            forbidden,
            [canvas.draft for canvas in batch],
        ),
        pad_rows([canvas.tokens for canvas in batch], model),
        mask_id=model.config.vocabulary.mask_id,
        schedule=schedule,
        config=sampling,
        generators=[canvas.generator for canvas in batch],
        lengths=lengths,
        on_step=on_step,
    )
    return _texts(tokens, batch)
