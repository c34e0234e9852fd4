"""Keys and values of canvases, kept over denoising steps: a step reads the open positions and what was written last.

Source: dKV-Cache (arXiv 2505.15781) and Fast-dLLM (arXiv 2505.22618): those of a written token change little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdd_engine.models.blocks import KeptKeysValues
from sgdd_engine.models.decoder import Condition, DenoisingTransformer

# Positions that a call may read in vain before its rows are read in two calls: on a CPU a call of four blocks of width
# 256 takes about 5 ms besides, and a position .11 ms. On other devices a position is nearly free.
MOST_IN_VAIN = 48


class KeptCanvases:
    """Keys and values of canvases of any lengths, in each block, and the tokens that they are of.

    A position is read again while it is masked, and once after it was written; then its keys and values are those of
    that step, although the canvas around it and the time change on. The anchors are read in the first step alone.
    Canvases stand in slots: one for each row, and behind them one for each row's null branch.

    Args:
        denoiser: The network.
        condition: Of each row, and behind them that of the null branch; with the cached angles of the longest canvas.
        lengths: Tokens of each row's canvas.
    """

    def __init__(self, denoiser: DenoisingTransformer, condition: Condition, lengths: Sequence[int]) -> None:
        device, config = condition.vector.device, denoiser.config
        self._before, self._behind = denoiser.around
        count, longest = len(lengths), max(lengths)
        # The rows of the condition that the slots are read under.
        self._of_slots = torch.arange(2 * count).clamp_max(count)
        self._lengths = torch.tensor([*lengths, *lengths])
        self._tokens_read = torch.full((2 * count, longest), -1)
        whole = self._before + longest + self._behind
        ends = self._lengths[:, None] + self._before + self._behind
        mask = torch.zeros(2 * count, whole).masked_fill(torch.arange(whole) >= ends, -torch.inf)
        self._blocks: list[tuple[Tensor, Tensor]] = []
        shape = 2 * count, whole, config.heads, config.width // config.heads
        of_slots = self._of_slots.to(device)
        for block in range(config.layers):
            keys, values = condition.vector.new_zeros(shape), condition.vector.new_zeros(shape)
            if condition.memory_kv:
                memory = condition.memory_kv[block]
                keys = torch.cat([keys, memory.keys[of_slots].transpose(1, 2)], dim=1)
                values = torch.cat([values, memory.values[of_slots].transpose(1, 2)], dim=1)
            self._blocks.append((keys, values))
        self._mask = F.pad(mask, (0, self._blocks[0][0].shape[1] - whole)).to(condition.vector)
        if condition.memory_kv and (of_memory := condition.memory_kv[0].mask) is not None:
            self._mask[:, whole:] = of_memory[of_slots, 0, 0]
        self._condition = replace(condition, memory=None, memory_kv=())

    def read(
        self, slots: Tensor, tokens: Tensor, masked: Tensor
    ) -> Iterator[tuple[Tensor, Condition, Tensor]]:
        """What the network is given to read canvases anew where that is needed, in one or more calls.

        Args:
            slots: Which canvases [B], on the CPU.
            tokens: Their tokens [B, n], on the CPU.
            masked: Where they are open [B, n].

        Yields:
            Which of these canvases [b] one call reads, their condition, and the indices [M] of the open positions in
            what it reads of them, flattened.
        """
        first_time = (self._tokens_read[slots] < 0).all(dim=1, keepdim=True)
        inside = torch.arange(tokens.shape[1]) < self._lengths[slots, None]
        needed = (masked | (self._tokens_read[slots] != tokens)) & inside
        self._tokens_read[slots] = tokens
        # The end of a canvas stands right behind its last token.
        needed = F.pad(needed, (self._before, self._behind))
        needed[:, : self._before] = first_time
        if self._behind:
            needed.scatter_(1, self._lengths[slots, None] + self._before, first_time)
        is_open = F.pad(masked, (self._before, self._behind))
        counts = needed.sum(dim=1)
        device = self._condition.vector.device
        most_in_vain = MOST_IN_VAIN if device.type == "cpu" else counts.numel() * tokens.shape[1]
        for rows in _of_like_size(counts, most_in_vain):
            most = int(counts[rows].max())
            reading = (~needed[rows]).byte().argsort(dim=1, stable=True)[:, :most]
            # Rows with fewer read their first position several times: what is put in for it is the same each time.
            is_more = torch.arange(most) >= counts[rows, None]
            reading = torch.where(is_more, reading[:, :1], reading)
            wanted = (is_open[rows].gather(1, reading) & ~is_more).flatten().nonzero().squeeze(1)
            at, positions = slots[rows].to(device), reading.to(device)
            mask = self._mask[at, None, None]
            condition = replace(
                self._condition.select(self._of_slots[slots[rows]].to(device)),
                kept=tuple(KeptKeysValues(*kept, at, positions, mask) for kept in self._blocks),
                reading=positions,
                lengths=self._lengths[slots[rows]].to(device),
            )
            yield rows, condition, wanted.to(device)

    def repeat(self, read: Tensor, slots: Tensor) -> None:
        """Give slots [B] what was read in those of `read` [B], of the same length and tokens."""
        if torch.equal(read, slots):
            return
        self._tokens_read[slots] = self._tokens_read[read]
        for kept in self._blocks:
            for of in kept:
                of[slots.to(of.device)] = of[read.to(of.device)]


def _of_like_size(counts: Tensor, most_in_vain: int) -> Iterator[Tensor]:
    """Rows in groups, so that a call in which each reads as many positions as its largest reads few in vain."""
    order = counts.argsort(descending=True, stable=True)
    start = in_vain = 0
    for number, count in enumerate(counts[order].tolist()):
        in_vain += int(counts[order[start]]) - count
        if in_vain > most_in_vain:
            yield order[start:number].sort().values
            start, in_vain = number, 0
    yield order[start:].sort().values
