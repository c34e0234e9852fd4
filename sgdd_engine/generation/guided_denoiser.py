"""The network under guidance, as the sampler calls it: logits of the open positions of canvases of many lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE, GUIDANCE_SCHEDULES, plain_guidance
from sgdd_engine.diffusion.sampler import LogitChunk, LogitChunks
from sgdd_engine.generation.kept_canvases import KeptCanvases
from sgdd_engine.generation.text_vocabulary import TextVocabularies
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
    """A draft that the decoder reads while it writes: its tokens and its latent."""

    tokens: Sequence[int]
    z: Tensor


@dataclass(slots=True)
class _RowGroup:
    """Rows that the network reads together: those of one length, or all where keys and values are kept.

    Attributes:
        rows: Which rows of the batch.
        length: Tokens of each, or of the longest.
        condition: Of each row, and behind them that of the null branch.
        last_hidden: With self-conditioning: hidden states of the last step of both branches [2, R, length, width].
        null_hidden: Hidden states of the null branch when it was last computed [R, length, width].
        has_null: For which rows it was [R].
        kept: Keys and values of the canvases of the rows, and behind them of those of the null branch, if they are.
    """

    rows: slice
    length: int
    condition: Condition
    has_null: Tensor
    last_hidden: Tensor | None = None
    null_hidden: Tensor | None = None
    kept: KeptCanvases | None = None

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.rows.stop - self.rows.start)


class GuidedDenoiser:
    """`(z_t [B, n], t [B], masked [B, n]) → guided logits` of the masked positions.

    The network reads, in one batch, the rows that have a masked position, and once more under the null condition those
    whose guidance weight is not 1; in calls in between, the null branch's hidden states of its last call serve again
    (`null_every`). With a weight of 0 only the null branch is computed, in either form of guidance, so
    that nothing of the meaning is used.

    Args:
        model: In evaluation mode.
        z: Latents [B, latent_dim].
        lengths: Tokens of each row, ascending.
        sampling: The guidance weight, its schedule and its form, and `null_every`.
        forbidden: Token ids that are never written.
        drafts: A draft for each row, or none at all; the null branch reads none.
        in_sequence: Whether each call is one step after the last: then a decoder with self-conditioning reads its own
            hidden states of the last call, and `null_every`, `kv_cache` and `vocabulary` of the sampling hold.
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
        in_sequence: bool = True,
    ) -> None:
        self._model = model
        self._self_conditioning = in_sequence and model.config.decoder.self_conditioning
        self._lengths = torch.tensor(list(lengths))
        self._calls = 0
        self._null_every = sampling.null_every if in_sequence else 1
        # What is kept for later steps is needed at positions that are masked again, or read by them; and a GPU would
        # have to be waited for.
        kept = sampling.remask > 0 or self._self_conditioning
        self._kv_cache = sampling.kv_cache and in_sequence
        self._masked_only = self._kv_cache or (z.device.type == "cpu" and not kept)
        self._guide = GUIDANCE[sampling.guidance]
        self._plain = sampling.guidance == "plain"
        # The null branch guided by itself is itself.
        self._cfg = 1.0 if sampling.cfg == 0 else sampling.cfg
        self._guidance_schedule = GUIDANCE_SCHEDULES.build(sampling.guidance_schedule)
        if sampling.cfg == 0:
            z, drafts = model.null_latent(len(z)), ()
        groups = self._kept if self._kv_cache else self._grouped
        self._groups = groups(z, lengths, drafts)
        head, vocabulary = model.head, model.config.vocabulary
        never_written = torch.tensor([*forbidden, vocabulary.bos_id], device=z.device)
        self._bias = head.scaled_bias.index_fill(0, never_written, FORBIDDEN_LOGIT)
        self._table = head.table.float().T
        # A GPU's cache is too small for chunks that would keep it busy.
        on_cpu = z.device.type == "cpu"
        self._chunk_elements = CACHED_ELEMENTS * torch.get_num_threads() if on_cpu else CHUNK_ELEMENTS
        # One buffer for the logits of both branches: memory that is allocated anew is cleared by the system first.
        rows = max(2, min(CHUNK_ELEMENTS // vocabulary.size, 2 * sum(lengths)))
        self._logits = self._bias.new_empty(rows, vocabulary.size)
        self._vocabulary_size = sampling.vocabulary if in_sequence else 0
        self._vocabularies: TextVocabularies | None = None

    def _grouped(self, z: Tensor, lengths: Sequence[int], drafts: Sequence[DraftInput]) -> list[_RowGroup]:
        null = self._model.null_latent(1)
        groups = []
        for length in sorted(set(lengths)):
            start = lengths.index(length)
            rows = slice(start, start + lengths.count(length))
            draft = _with_null_draft(drafts[rows], null) if drafts else None
            condition = self._model.condition(torch.cat([z[rows], null]), draft)
            condition = self._model.denoiser.cache_condition(condition, length)
            groups.append(
                _RowGroup(rows, length, condition, torch.zeros(rows.stop - start, dtype=torch.bool))
            )
        return groups

    def _kept(self, z: Tensor, lengths: Sequence[int], drafts: Sequence[DraftInput]) -> list[_RowGroup]:
        """All rows as one group of canvases whose keys and values are kept."""
        null = self._model.null_latent(1)
        draft = _with_null_draft(drafts, null) if drafts else None
        condition = self._model.condition(torch.cat([z, null]), draft)
        condition = self._model.denoiser.cache_condition(condition, max(lengths))
        kept = KeptCanvases(self._model.denoiser, condition, lengths)
        has_null = torch.zeros(len(z), dtype=torch.bool)
        return [_RowGroup(slice(0, len(z)), max(lengths), condition, has_null, kept=kept)]

    def __call__(self, z_t: Tensor, t: Tensor, masked: Tensor) -> LogitChunks:
        """Guided logits of the masked positions of a canvas [B, n]; see `Denoiser` in `diffusion.sampler`."""
        device = self._bias.device
        masks = masked.sum(dim=1)
        weights = self._guidance_schedule.weight(self._cfg, 1.0 - masks / self._lengths)
        canvas, times = z_t.to(device), t.to(device)
        # What is chosen is found on the CPU, so that a GPU need not be waited for.
        branches = [self._hidden(group, z_t, times, masked, weights != 1) for group in self._groups]
        self._calls += 1
        conditional, null = (torch.cat(parts) for parts in zip(*branches, strict=True))
        rows = masked.nonzero()[:, 0]
        guided, w = (weights != 1)[rows], weights[rows]
        # On a canvas without a token the forms of guidance are the same. Guided before the head, which is affine, the
        # two branches need one projection.
        merged = guided & ((masks == self._lengths)[rows] | self._plain)
        if merged.any():
            at, of_null = (
                merged.nonzero().squeeze(1).to(device),
                merged[guided].nonzero().squeeze(1).to(device),
            )
            weight = w[merged, None].to(device)
            conditional[at] = plain_guidance(conditional[at], null[of_null], weight, rows, canvas)
        null_rows = guided.cumsum(0) - 1
        guided &= ~merged
        if self._vocabulary_size and self._vocabularies is None:
            self._vocabularies = TextVocabularies.select(
                conditional,
                rows,
                len(canvas),
                self._vocabulary_size,
                table=self._table,
                bias=self._bias,
                mask_id=self._model.config.vocabulary.mask_id,
                room=self._logits,
            )
        if self._vocabularies is not None:
            canvas = self._vocabularies.columns(canvas)
        return partial(self._logit_chunks, conditional, null, guided, null_rows, w, rows, canvas)

    def _hidden(
        self, group: _RowGroup, z_t: Tensor, times: Tensor, masked: Tensor, guided: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hidden states of a group's masked positions [M, width], and under the null condition those of guided rows."""
        masked = masked[group.rows, : group.length]
        is_open = masked.any(dim=1)
        width = self._model.head.width
        if not is_open.any():
            return (self._bias.new_empty(0, width),) * 2
        is_guided = is_open & guided[group.rows]
        refreshed = is_guided if self._calls % self._null_every == 0 else is_guided & ~group.has_null
        rows, null_rows = (which.nonzero().squeeze(1) for which in (is_open, refreshed))
        read, of_null = self._null_rows(group, null_rows, masked)
        tokens, at = z_t[group.rows, : group.length], torch.cat([rows, read])
        last = group.last_hidden
        before = None if last is None else torch.cat([last[0, rows], last[1, read]])
        hidden = self._read(group, at, len(rows), tokens, times[group.rows], masked, before)
        conditional, null = hidden[: len(rows)], hidden[len(rows) :][of_null]
        if len(read):
            if group.null_hidden is None:
                group.null_hidden = hidden.new_zeros(group.count, group.length, width)
            group.null_hidden[null_rows] = null
            group.has_null[null_rows] = True
            if group.kept is not None:
                group.kept.repeat(group.count + read[of_null], group.count + null_rows)
        if self._self_conditioning:
            if last is None:
                last = group.last_hidden = hidden.new_zeros(2, group.count, group.length, width)
            last[0, rows] = conditional
            if len(read):
                last[1, null_rows] = null
        positions = masked[rows].flatten().nonzero().squeeze(1).to(hidden.device)
        head = self._model.head
        of_rows = head.scaled(conditional.reshape(-1, width).index_select(0, positions))
        if group.null_hidden is None:
            return of_rows, of_rows[:0]
        where = (masked & is_guided[:, None]).to(hidden.device)
        return of_rows, head.scaled(group.null_hidden[where])

    def _null_rows(self, group: _RowGroup, rows: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Rows to read under the null condition, and which of them stands for each of `rows` [b] (its index) [b]."""
        lengths = self._lengths[group.rows][rows]
        if group.last_hidden is not None or not torch.equal(masked[rows].sum(dim=1), lengths):
            return rows, torch.arange(len(rows))
        # All rows of nothing but masks, and of one length, are one to the null branch.
        is_first = lengths.diff(prepend=lengths.new_zeros(1)) > 0
        return rows[is_first], is_first.cumsum(0) - 1

    def _read(
        self,
        group: _RowGroup,
        at: Tensor,
        conditional: int,
        tokens: Tensor,
        times: Tensor,
        masked: Tensor,
        before: Tensor | None,
    ) -> Tensor:
        """Hidden states [b, n, width] of rows `at` [b], all behind the first ones under the null condition.

        Where only the masked positions are computed the others are 0.
        """
        device = self._bias.device
        null = torch.arange(len(at)) >= conditional
        canvas, times = tokens[at].to(device), times[at.to(device)]
        if not self._masked_only:
            condition = group.condition.select(at.masked_fill(null, group.count).to(device))
            return self._model.hidden(canvas, times, condition, before)
        hidden = self._bias.new_zeros(*canvas.shape, self._model.head.width)
        if group.kept is not None:
            calls = group.kept.read(at + null * group.count, tokens[at], masked[at])
        else:
            condition = group.condition.select(at.masked_fill(null, group.count).to(device))
            open_positions = masked[at].flatten().nonzero().squeeze(1).to(device)
            calls = iter([(torch.arange(len(at)), condition, open_positions)])
        for part, condition, wanted in calls:
            of_part = part.to(device)
            of_before = None if before is None else before[of_part]
            found = self._model.hidden(canvas[of_part], times[of_part], condition, of_before, wanted)
            is_open = torch.zeros_like(masked[at])
            is_open[part] = masked[at][part]
            hidden[is_open.to(device)] = found.to(hidden.dtype)
        return hidden

    def _logit_chunks(
        self,
        conditional: Tensor,
        null: Tensor,
        guided: Tensor,
        null_rows: Tensor,
        w: Tensor,
        rows: Tensor,
        canvas: Tensor,
        which: Tensor,
    ) -> Iterator[LogitChunk]:
        """Guided logits of positions `which` of `conditional` [M, width], a few at a time; see `LogitChunks`."""
        device = self._bias.device
        for part in torch.split(which, len(self._logits) // 2):
            logits = self._project(conditional[part.to(device)], rows[part], self._logits[: len(part)])
            two = guided[part]
            of_null = null[null_rows[part][two].to(device)]
            room = self._logits[len(part) : len(part) + len(of_null)]
            null_logits = self._project(of_null, rows[part][two], room) if len(of_null) else room
            chunk_rows = max(1, self._chunk_elements // logits.shape[1])
            done = 0
            for chunk, with_null, chunk_part in zip(
                *(torch.split(each, chunk_rows) for each in (logits, two, part)), strict=True
            ):
                count = int(with_null.sum())
                unconditional = null_logits[done : done + count]
                done += count
                chosen = chunk_part[with_null]
                weight, of_rows = w[chosen, None].to(device), rows[chosen].to(device)
                if count == len(chunk):
                    chunk = self._guide(chunk, unconditional, weight, of_rows, canvas)  # noqa: PLW2901
                elif count:
                    where = with_null.nonzero().squeeze(1).to(device)
                    chunk[where] = self._guide(chunk[where], unconditional, weight, of_rows, canvas)
                yield LogitChunk(chunk, self._ids(rows[chunk_part]))

    def _project(self, hidden: Tensor, rows: Tensor, room: Tensor) -> Tensor:
        """Logits [m, V] of hidden states, put where there is room, or those of their texts' own tokens [m, K]."""
        if self._vocabularies is None:
            return torch.addmm(self._bias, hidden, self._table, out=room)
        return self._vocabularies.logits(hidden, rows)

    def _ids(self, rows: Tensor) -> Tensor | None:
        """The tokens that the columns of logits stand for [m, K]; None where they are all tokens."""
        vocabularies = self._vocabularies
        return None if vocabularies is None else vocabularies.ids[rows.to(vocabularies.ids.device)]


def _with_null_draft(drafts: Sequence[DraftInput], null: Tensor) -> Draft:
    """Drafts as the model reads them, and behind them a row without a draft, for the null branch."""
    return draft_of(
        [*(draft.tokens for draft in drafts), drafts[0].tokens],
        torch.cat([torch.stack([draft.z for draft in drafts]), null]),
        given=len(drafts),
    )


def draft_of(texts: Sequence[Sequence[int]], z: Tensor, *, given: int) -> Draft:
    """Drafts as the model reads them.

    Args:
        texts: Token ids of each.
        z: Latents of their re-encoded texts [B, latent_dim].
        given: So many of the first rows are given their draft.
    """
    longest = max(map(len, texts))
    # Tokens behind the end of a draft are not read.
    tokens = [[*text, *[text[0]] * (longest - len(text))] for text in texts]
    lengths = torch.tensor([*map(len, texts)], device=z.device)
    return Draft(
        torch.tensor(tokens, device=z.device), lengths, z, torch.arange(len(z), device=z.device) < given
    )
