"""The network under guidance, as the sampler calls it: logits of the open positions of canvases of many lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE, plain_guidance
from sgdd_engine.diffusion.sampler import LogitChunks
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.feedback import Draft
from sgdd_engine.models.model import SemanticDecoder

# Logits held at once, in elements of both branches together (64 MiB in fp32): decoding takes no more memory for more
# sentences, and the matrix product has rows enough to be busy.
CHUNK_ELEMENTS = 1 << 24
# What is computed from logits reads them several times: 2 MiB of them stay in the cache of a CPU's core.
CACHED_ELEMENTS = 1 << 19
# Low enough never to be drawn, finite so that the difference of two branches stays a number.
FORBIDDEN_LOGIT = -1e4


@dataclass(frozen=True, slots=True)
class DraftInput:
    """A draft that the decoder reads while it writes: tokens, as many as the canvas has, and the draft's latent."""

    tokens: Sequence[int]
    z: Tensor


@dataclass(frozen=True, slots=True)
class _LengthGroup:
    """Rows of one length with their condition: the conditional branch first, then the null branch, where both run."""

    rows: slice
    length: int
    condition: Condition

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.rows.stop - self.rows.start)


class GuidedDenoiser:
    """`(z_t [B, n], t [B], masked [B, n]) → guided logits` of the masked positions; both branches run in one batch.

    With w = 1 only the conditional branch is computed. With w = 0 only the null branch is, in either form of
    guidance, so that nothing of the meaning is used.

    Args:
        model: In evaluation mode.
        z: Latents [B, latent_dim].
        lengths: Tokens of each row, ascending.
        sampling: The guidance weight and its form.
        forbidden: Token ids that are never written.
        drafts: A draft for each row, or none at all; the null branch reads none.
        self_conditioning: Whether each call is one step after the last, so that a decoder with self-conditioning reads
            its own hidden states of the last call.
    """

    def __init__(
        self,
        model: SemanticDecoder,
        z: Tensor,
        lengths: Sequence[int],
        sampling: SamplingConfig,
        forbidden: Sequence[int],
        drafts: Sequence[DraftInput] = (),
        *,
        self_conditioning: bool = True,
    ) -> None:
        self._model = model
        self._self_conditioning = self_conditioning and model.config.decoder.self_conditioning
        self._last_hidden: dict[int, Tensor] = {}
        self._sampling = sampling
        self._branches = 1 if sampling.cfg in (0.0, 1.0) else 2
        self._groups = self._grouped(z, lengths, drafts)
        head, vocabulary = model.head, model.config.vocabulary
        never_written = torch.tensor([*forbidden, vocabulary.bos_id], device=z.device)
        self._bias = head.bias.float().index_fill(0, never_written, FORBIDDEN_LOGIT)
        self._table = head.table.float().T
        # A GPU's cache is too small for chunks that would keep it busy.
        elements = CACHED_ELEMENTS * torch.get_num_threads() if z.device.type == "cpu" else CHUNK_ELEMENTS
        self._chunk_rows = max(1, elements // vocabulary.size)
        rows = max(self._branches, min(CHUNK_ELEMENTS // vocabulary.size, self._branches * sum(lengths)))
        # One buffer for all logits: memory that is allocated anew is cleared by the system first, every time.
        self._logits = self._bias.new_empty(rows, vocabulary.size)

    def _grouped(self, z: Tensor, lengths: Sequence[int], drafts: Sequence[DraftInput]) -> list[_LengthGroup]:
        groups = []
        for length in sorted(set(lengths)):
            start = lengths.index(length)
            rows = slice(start, start + lengths.count(length))
            null = self._model.null_latent(rows.stop - start)
            branches = {0.0: [null], 1.0: [z[rows]]}.get(self._sampling.cfg, [z[rows], null])
            draft = (
                _drafts_of_branches(drafts[rows], len(branches), conditional=self._sampling.cfg != 0.0)
                if drafts
                else None
            )
            condition = self._model.condition(torch.cat(branches), draft)
            groups.append(_LengthGroup(rows, length, self._model.denoiser.cache_condition(condition, length)))
        return groups

    def __call__(self, z_t: Tensor, t: Tensor, masked: Tensor) -> LogitChunks:
        """Guided logits of the masked positions of a canvas [B, n]; see `Denoiser` in `diffusion.sampler`."""
        device = self._bias.device
        canvas, times, rows = z_t.to(device), t.to(device), masked.nonzero()[:, 0].to(device)
        hidden = torch.cat([self._hidden(group, canvas, times, masked) for group in self._groups], dim=1)
        # On a canvas without a token the forms of guidance are the same.
        all_masked = hidden.shape[1] == sum(group.length * group.count for group in self._groups)
        if self._branches == 2 and (all_masked or self._sampling.guidance == "plain"):
            # Guided before the head, which is affine, the two branches need one projection.
            hidden = plain_guidance(hidden[0], hidden[1], self._sampling.cfg, rows, canvas)[None]

        def logit_chunks(which: Tensor) -> Iterator[Tensor]:
            for part in torch.split(which.to(device), len(self._logits) // len(hidden)):
                yield from self._guided_logits(hidden[:, part], rows[part], canvas)

        return logit_chunks

    def _hidden(self, group: _LengthGroup, canvas: Tensor, times: Tensor, masked: Tensor) -> Tensor:
        """Hidden states of a group's masked positions [branches, M, width]; empty where its rows are finished."""
        # Found on the CPU, so that a GPU need not be waited for.
        where = masked[group.rows, : group.length].flatten().nonzero().squeeze(1)
        branches, width = self._branches, self._model.head.width
        if not len(where):
            return self._bias.new_empty(branches, 0, width)
        tokens = canvas[group.rows, : group.length].repeat(branches, 1)
        last = self._last_hidden.get(group.length)
        hidden = self._model.hidden(tokens, times[group.rows].repeat(branches), group.condition, last)
        if self._self_conditioning:
            self._last_hidden[group.length] = hidden
        return hidden.view(branches, -1, width).index_select(1, where.to(hidden.device)).float()

    def _guided_logits(self, hidden: Tensor, rows: Tensor, canvas: Tensor) -> Iterator[Tensor]:
        """Guided logits of hidden states [branches, m, width], a few positions at a time."""
        flat = hidden.flatten(0, 1)
        logits = torch.addmm(self._bias, flat, self._table, out=self._logits[: len(flat)])
        branches = [torch.split(branch, self._chunk_rows) for branch in logits.chunk(len(hidden))]
        if len(branches) == 1:
            yield from branches[0]
            return
        guide = GUIDANCE[self._sampling.guidance]
        chunks = zip(*branches, torch.split(rows, self._chunk_rows), strict=True)
        for conditional, unconditional, chunk_rows in chunks:
            yield guide(conditional, unconditional, self._sampling.cfg, chunk_rows, canvas)


def _drafts_of_branches(drafts: Sequence[DraftInput], branches: int, *, conditional: bool) -> Draft:
    """Drafts of one length as the model reads them: the conditional branch, which is the first, is given them."""
    z = torch.stack([draft.z for draft in drafts])
    tokens = torch.tensor([list(draft.tokens) for draft in drafts], device=z.device)
    given = torch.zeros(branches, len(drafts), dtype=torch.bool, device=z.device)
    given[0] = conditional
    return Draft(tokens.repeat(branches, 1), z.repeat(branches, 1), given.flatten())
