"""A small vocabulary for each text: the tokens that its first denoising step finds likely enough to be written.

The vocabulary head is most of the arithmetic, and after one look at all tokens most of them are out of the question.
The idea is vocabulary selection in machine translation (arXiv 1412.2007 §3.3, arXiv 1610.00072); here the decoder's own
first step selects, so that nothing has to be trained or counted.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TextVocabularies:
    """The tokens that each of B texts may consist of.

    Attributes:
        ids: The mask token, then the others in ascending order [B, K].
        table: Their rows of the token table [B, K, width].
        bias: Their biases [B, K].
    """

    ids: Tensor
    table: Tensor
    bias: Tensor

    @classmethod
    def select(
        cls,
        hidden: Tensor,
        rows: Tensor,
        count: int,
        size: int,
        *,
        table: Tensor,
        bias: Tensor,
        mask_id: int,
        room: Tensor,
    ) -> "TextVocabularies":
        """Of each text the `size` tokens of the highest probability at any of its positions, and the mask.

        Args:
            hidden: Hidden states of the open positions of all texts [M, width] in float32.
            rows: The text that each belongs to, in ascending order [M], on the CPU.
            count: B, the number of texts.
            size: Tokens besides the mask; the whole vocabulary if there are no more.
            table: The token table, transposed [width, V].
            bias: Of the vocabulary [V], low for what is never written.
            mask_id: The mask token.
            room: Where logits are put, a few positions at a time [m, V].
        """
        size = min(size, len(bias) - 1)
        chosen = torch.zeros(count, size, dtype=torch.long, device=bias.device)
        last, best = -1, bias
        for part in torch.split(torch.arange(len(rows)), len(room)):
            logits = torch.addmm(bias, hidden[part.to(hidden.device)], table, out=room[: len(part)])
            logits[:, mask_id] = -torch.inf
            logits -= logits.logsumexp(dim=-1, keepdim=True)
            for row, start, end in _runs(rows[part]):
                likeliest = logits[start:end].amax(dim=0)
                # A text of many positions goes on in the next part.
                best = torch.maximum(best, likeliest) if row == last else likeliest
                last = row
                chosen[row] = best.topk(size).indices
        mask = chosen.new_full((count, 1), mask_id)
        ids = torch.cat([mask, chosen.sort(dim=1).values], dim=1)
        return cls(ids, table.T[ids], bias[ids])

    def logits(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Logits [m, K] of hidden states [m, width] of texts `rows` [m], in ascending order, on the CPU."""
        logits = hidden.new_empty(len(hidden), self.ids.shape[1])
        # One small product after the other: a common one would have to copy the tables of the texts that are open.
        for row, start, end in _runs(rows):
            torch.addmm(self.bias[row], hidden[start:end], self.table[row].T, out=logits[start:end])
        return logits

    def columns(self, canvas: Tensor) -> Tensor:
        """Where the tokens of canvases [B, n] stand in `ids` [B, n]; the mask's column for a token that does not."""
        others = self.ids[:, 1:].contiguous()
        place = torch.searchsorted(others, canvas).clamp_max(others.shape[1] - 1)
        return torch.where(others.gather(1, place) == canvas, place + 1, 0)


def _runs(rows: Tensor) -> Iterator[tuple[int, int, int]]:
    """Each number in `rows` [m], in ascending order, with the start and the end of its run."""
    start = 0
    for row, run in itertools.groupby(rows.tolist()):
        end = start + len(list(run))
        yield row, start, end
        start = end
