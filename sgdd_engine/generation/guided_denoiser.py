"""The networks as the sampler sees them: guided scores of the open positions of canvases of many lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE, plain_guidance
from sgdd_engine.diffusion.sampler import LogitChunks
from sgdd_engine.models.condition import Condition
from sgdd_engine.models.feedback import Draft
from sgdd_engine.models.model import SemanticDecoder

# Logits held at once, in elements of both branches together (64 MiB in fp32): however many sentences are written,
# decoding takes no more, and the matrix product has rows enough to be busy.
CHUNK_ELEMENTS = 1 << 24
# What is computed from logits reads them several times: 2 MiB of them stay in the cache of a CPU's core.
PIECE_ELEMENTS = 1 << 19
# Low enough never to be drawn, finite so that the difference of two branches stays a number.
FORBIDDEN = -1e4


@dataclass(frozen=True, slots=True)
class DraftInput:
    """A draft that the decoder sees while it writes: tokens, as many as the canvas has, and the draft's latent."""

    tokens: Sequence[int]
    z: Tensor


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
        drafts: What each row sees beside its meaning, all of them or none; the null branch sees nothing.
        remembers: Whether each call is one step after the last, so that a decoder with self-conditioning is shown
            what it made of the last canvas.
    """

    def __init__(
        self,
        model: SemanticDecoder,
        z: Tensor,
        lengths: Sequence[int],
        sampling: SamplingConfig,
        forbidden: Sequence[int],
        drafts: Sequence[DraftInput | None] = (),
        *,
        remembers: bool = True,
    ) -> None:
        self._model = model
        self._remembers = remembers and model.config.decoder.self_conditioning
        self._before: dict[int, Tensor] = {}
        self._sampling = sampling
        self._branches = 1 if sampling.cfg in (0.0, 1.0) else 2
        self._groups = self._grouped(z, lengths, [draft for draft in drafts if draft is not None])
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

    def _grouped(self, z: Tensor, lengths: Sequence[int], drafts: Sequence[DraftInput]) -> list[_Group]:
        groups = []
        for length in sorted(set(lengths)):
            start = lengths.index(length)
            rows = slice(start, start + lengths.count(length))
            null = self._model.null_latent(rows.stop - start)
            told = {0.0: [null], 1.0: [z[rows]]}.get(self._sampling.cfg, [z[rows], null])
            draft = _shown(drafts[rows], len(told), shown=self._sampling.cfg != 0.0) if drafts else None
            condition = self._model.condition(torch.cat(told), draft)
            groups.append(_Group(rows, length, self._model.denoiser.cache_condition(condition, length)))
        return groups

    def __call__(self, z_t: Tensor, t: Tensor, masked: Tensor) -> LogitChunks:
        """LogitChunks of the masked positions of a canvas [B, n]; see `Denoiser` in `diffusion.sampler`."""
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
        before = self._before.get(group.length)
        hidden = self._model.hidden(tokens, times[group.rows].repeat(branches), group.condition, before)
        if self._remembers:
            self._before[group.length] = hidden
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


def _shown(drafts: Sequence[DraftInput], branches: int, *, shown: bool) -> Draft:
    """Drafts of one length as the model reads them, given to the first of the branches."""
    z = torch.stack([draft.z for draft in drafts])
    tokens = torch.tensor([list(draft.tokens) for draft in drafts], device=z.device)
    given = torch.zeros(branches, len(drafts), dtype=torch.bool, device=z.device)
    given[0] = shown
    return Draft(tokens.repeat(branches, 1), z.repeat(branches, 1), given.flatten())
