"""From latents and lengths to tokens: joins the networks with the sampler."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE, plain_guidance
from sgdd_engine.diffusion.sampler import Scores, sample
from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.model import SemanticDecoder

# Logits held at once, in elements of both branches together (64 MiB in fp32): however many sentences are written,
# decoding takes no more, and the matrix product has rows enough to be busy.
CHUNK_ELEMENTS = 1 << 24
# What is computed from logits reads them several times: 2 MiB of them stay in the cache of a CPU's core.
PIECE_ELEMENTS = 1 << 19
# Tokens of all canvases that fill in together.
BATCH_TOKENS = 1 << 13
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
    on_step: Callable[[int, Sequence[Task], Sequence[list[int]]], None] | None = None,
) -> list[list[int]]:
    """Write each task's sentence from an all-mask canvas.

    Tasks of all lengths are written together, and the network reads those of one length at a time: nothing is
    padded, and the vocabulary head still gets many positions at once.

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
    results: list[list[int]] = [[] for _ in tasks]
    for indices in _batches(tasks):
        batch = [tasks[i] for i in indices]
        watch = None if on_step is None else _watcher(on_step, batch)
        for i, tokens in zip(
            indices, _decode_batch(model, z, batch, sampling, schedule, forbidden, watch), strict=True
        ):
            results[i] = tokens
    return results


def _batches(tasks: Sequence[Task]) -> list[list[int]]:
    """Indices of tasks, the shortest first, in batches of about `BATCH_TOKENS`."""
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(tasks)), key=lambda index: tasks[index].length):
        room -= tasks[index].length
        if room < 0:
            batches.append([])
            room = BATCH_TOKENS - tasks[index].length
        batches[-1].append(index)
    return batches


def _watcher(
    on_step: Callable[[int, Sequence[Task], Sequence[list[int]]], None], batch: Sequence[Task]
) -> Callable[[int, Tensor], None]:
    return lambda step, canvas: on_step(step, batch, _texts(canvas, batch))


def _texts(canvas: Tensor, batch: Sequence[Task]) -> list[list[int]]:
    return [row[: task.length] for row, task in zip(canvas.tolist(), batch, strict=True)]


@torch.inference_mode()
def _decode_batch(
    model: SemanticDecoder,
    z: Tensor,
    batch: Sequence[Task],
    sampling: SamplingConfig,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
    on_step: Callable[[int, Tensor], None] | None,
) -> list[list[int]]:
    vocabulary = model.config.vocabulary
    lengths = [task.length for task in batch]
    # Behind its end a row holds an anchor, which is neither open nor ever written.
    canvas = torch.full((len(batch), lengths[-1]), vocabulary.bos_id)
    canvas[torch.arange(lengths[-1]) < torch.tensor(lengths)[:, None]] = vocabulary.mask_id
    tokens = sample(
        GuidedDenoiser(model, z[[task.row for task in batch]], lengths, sampling, forbidden),
        canvas,
        mask_id=vocabulary.mask_id,
        schedule=schedule,
        config=sampling,
        generators=[torch.Generator().manual_seed(task.seed) for task in batch],
        lengths=lengths,
        on_step=on_step,
    )
    return _texts(tokens, batch)


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one length, and what the network is told of them: given the meaning, then without, where both."""

    rows: slice
    length: int
    condition: Condition

    @property
    def count(self) -> int:
        """How many rows."""
        return int(self.rows.stop - self.rows.start)


class GuidedDenoiser:
    """The denoiser under guidance, for the sampler; both branches run in one batch.

    With w = 1 only the conditional branch is computed. With w = 0 only the null branch is, in either form of
    guidance, so that nothing of the meaning is told.

    Args:
        model: In evaluation mode.
        z: Latents [B, latent_dim].
        lengths: Tokens of each row, ascending.
        sampling: The guidance.
        forbidden: Token ids that are never written.
    """

    def __init__(
        self,
        model: SemanticDecoder,
        z: Tensor,
        lengths: Sequence[int],
        sampling: SamplingConfig,
        forbidden: Sequence[int],
    ) -> None:
        self._model = model
        self._sampling = sampling
        self._branches = 1 if sampling.cfg in (0.0, 1.0) else 2
        self._groups = self._grouped(z, lengths)
        head, vocabulary = model.head, model.config.vocabulary
        closed = torch.tensor([*forbidden, vocabulary.bos_id], device=z.device)
        self._bias = head.bias.float().index_fill(0, closed, FORBIDDEN)
        self._table = head.table.float().T
        # A GPU's cache is too small for pieces that would keep it busy.
        elements = PIECE_ELEMENTS * torch.get_num_threads() if z.device.type == "cpu" else CHUNK_ELEMENTS
        self._piece = max(1, elements // vocabulary.size)
        rows = max(self._branches, min(CHUNK_ELEMENTS // vocabulary.size, self._branches * sum(lengths)))
        # One place for all logits: memory that is asked for anew is cleared by the system first, every time.
        self._logits = self._bias.new_empty(rows, vocabulary.size)

    def _grouped(self, z: Tensor, lengths: Sequence[int]) -> list[_Group]:
        groups = []
        for length in sorted(set(lengths)):
            start = lengths.index(length)
            rows = slice(start, start + lengths.count(length))
            null = self._model.null_latent(rows.stop - start)
            told = {0.0: [null], 1.0: [z[rows]]}.get(self._sampling.cfg, [z[rows], null])
            condition = self._model.condition(torch.cat(told))
            groups.append(_Group(rows, length, self._model.denoiser.keep(condition, length)))
        return groups

    def __call__(self, z_t: Tensor, t: Tensor, masked: Tensor) -> Scores:
        """Scores of the masked positions of a canvas [B, n]; see `Denoiser` in `diffusion.sampler`."""
        device = self._bias.device
        canvas, times, rows = z_t.to(device), t.to(device), masked.nonzero()[:, 0].to(device)
        hidden = torch.cat([self._hidden(group, canvas, times, masked) for group in self._groups], dim=1)
        # Of a canvas on which nothing stands the forms of guidance say the same.
        untouched = hidden.shape[1] == sum(group.length * group.count for group in self._groups)
        if self._branches == 2 and (untouched or self._sampling.guidance == "plain"):
            # Guided before the head, which is affine, the two branches need one projection.
            hidden = plain_guidance(hidden[0], hidden[1], self._sampling.cfg, rows, canvas)[None]

        def scores(which: Tensor) -> Iterator[Tensor]:
            for part in torch.split(which.to(device), len(self._logits) // len(hidden)):
                yield from self._pieces(hidden[:, part], rows[part], canvas)

        return scores

    def _hidden(self, group: _Group, canvas: Tensor, times: Tensor, masked: Tensor) -> Tensor:
        """Hidden states of a group's masked positions [branches, M, width]; of none, where all is written."""
        # Found on the CPU, so that a GPU need not be waited for.
        where = masked[group.rows, : group.length].flatten().nonzero().squeeze(1)
        branches, width = self._branches, self._model.head.width
        if not len(where):
            return self._bias.new_empty(branches, 0, width)
        tokens = canvas[group.rows, : group.length].repeat(branches, 1)
        hidden = self._model.hidden(tokens, times[group.rows].repeat(branches), group.condition)
        return hidden.view(branches, -1, width).index_select(1, where.to(hidden.device)).float()

    def _pieces(self, hidden: Tensor, rows: Tensor, canvas: Tensor) -> Iterator[Tensor]:
        """Guided logits of hidden states [branches, m, width], a few positions at a time."""
        flat = hidden.flatten(0, 1)
        logits = torch.addmm(self._bias, flat, self._table, out=self._logits[: len(flat)])
        branches = [torch.split(branch, self._piece) for branch in logits.chunk(len(hidden))]
        if len(branches) == 1:
            yield from branches[0]
            return
        guide = GUIDANCE[self._sampling.guidance]
        for conditional, unconditional, of in zip(*branches, torch.split(rows, self._piece), strict=True):
            yield guide(conditional, unconditional, self._sampling.cfg, of, canvas)
