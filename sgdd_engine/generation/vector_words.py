"""The words that a vector asks for: those that become likelier on an empty canvas when the decoder knows the vector.

On a canvas of nothing but masks the decoder says how often it expects each piece of the vocabulary: C, summed over the
positions, with the vector, and U under the null condition. The score of a piece is `log((C + δ) / (U + δ))`. Function
words are expected without a vector too and score low, and no text needs to be written: the words of a vector of a long
text are found as well.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdd_engine.errors import GenerationError
from sgdd_engine.generation.arguments import check_latents
from sgdd_engine.generation.decode import Decoder
from sgdd_engine.text.tokenizer import TextTokenizer

Word = tuple[str, float]
"""A word and its score in nats."""

# Expected number per text that counts as nothing: without it, pieces that are improbable with and without the vector
# come first. Share of the first ten words that are content words of the text, by examples/words_precision.py: .207 of
# sentences and .190 of paragraphs without it, .215 and .203 with .0003, .221 and .210 with .001. On other samples, of
# first pieces alone, larger values were no better (.003: .224 against .228 of sentences; .01: .211; .1: .187), nor was
# the largest log-ratio at a position (.200), nor canvases of the four likeliest lengths together (.231).
EXPECTED_NOTHING = 1e-3
# First pieces that are looked at for each word wanted: several may be of the same word.
_PIECES_PER_WORD = 2


class WordFinder:
    """Finds the words that vectors ask for.

    Args:
        decoder: The model, its schedule, and the tokens that are no text.
        tokenizer: Its vocabulary.
        trained_null: Whether its null condition was trained.

    Raises:
        GenerationError: it was not.
    """

    def __init__(self, decoder: Decoder, tokenizer: TextTokenizer, *, trained_null: bool) -> None:
        if not trained_null:
            raise GenerationError(
                "The words of a vector are found by comparing with the null condition, and this model was trained "
                "without one.",
                "Train with train.condition_dropout above 0.",
            )
        self._decoder, self._model, self._tokenizer = decoder, decoder.model, tokenizer
        device = self._model.null.device
        self._table = self._model.head.table.float().T
        never = torch.tensor(decoder.forbidden, device=device)
        self._bias = self._model.head.scaled_bias.index_fill(0, never, -torch.inf)
        self._first = torch.tensor(tokenizer.begins_word, device=device)
        self._later = torch.tensor(tokenizer.continues_word, device=device)
        self._null_counts: dict[int, Tensor] = {}

    @torch.inference_mode()
    def words(self, e: Tensor, count: int) -> list[Word]:
        """The words of one vector [D] with the highest scores, at most `count`, the highest first."""
        z = check_latents(self._decoder.latents(e[None]))
        length = int(self._model.length_logits(z).argmax()) + 1
        probabilities = self._on_empty_canvas(z, length)
        if length not in self._null_counts:
            null = self._on_empty_canvas(self._model.null_latent(1), length)
            self._null_counts[length] = null.sum(dim=0)
        scores = (probabilities.sum(dim=0) + EXPECTED_NOTHING).log()
        scores -= (self._null_counts[length] + EXPECTED_NOTHING).log()
        wanted = min(_PIECES_PER_WORD * count, int(self._first.sum()))
        best = scores.masked_fill(~self._first, -torch.inf).topk(wanted)
        places = probabilities[:, best.indices].argmax(dim=0)
        completed = self._completed(z, length, best.indices.tolist(), places.tolist())
        found: dict[str, Word] = {}
        for word, score in zip(self._tokenizer.decode_batch(completed), best.values.tolist(), strict=True):
            found.setdefault(word.casefold(), (word, score))
        return list(found.values())[:count]

    def _on_empty_canvas(self, z: Tensor, length: int) -> Tensor:
        """Probabilities [length, V] of the pieces at each position of a canvas of nothing but masks."""
        canvas = torch.full((1, length), self._decoder.mask_id, device=z.device)
        hidden = self._model.hidden(canvas, torch.ones(1, device=z.device), self._model.condition(z))
        return self._read(hidden[0])

    def _read(self, hidden: Tensor) -> Tensor:
        """Probabilities [..., V] of hidden states [..., width]."""
        return (self._model.head.scaled(hidden) @ self._table + self._bias).softmax(dim=-1)

    def _completed(
        self, z: Tensor, length: int, pieces: Sequence[int], places: Sequence[int]
    ) -> list[list[int]]:
        """Whole words of first pieces: as long as the decoder finds it likelier than not that the word goes on.

        Each piece is put where it is likeliest, and the next position is read; all others stay masked.
        """
        words = [[piece] for piece in pieces]
        condition = self._model.condition(z)
        canvas = torch.full((len(pieces), length), self._decoder.mask_id)
        canvas[torch.arange(len(pieces)), torch.tensor(places)] = torch.tensor(pieces)
        open_rows = list(range(len(pieces)))
        while open_rows := [row for row in open_rows if places[row] + len(words[row]) < length]:
            written = torch.tensor([len(words[row]) for row in open_rows])
            times = self._decoder.schedule.time_at(1.0 - written / length).to(z.device)
            same = condition.select(torch.zeros(len(open_rows), dtype=torch.long, device=z.device))
            hidden = self._model.hidden(canvas[open_rows].to(z.device), times, same)
            after = torch.tensor([places[row] + len(words[row]) for row in open_rows], device=z.device)
            probabilities = self._read(hidden[torch.arange(len(open_rows), device=z.device), after])
            going_on = probabilities.masked_fill(~self._later, 0.0)
            goes_on = (going_on.sum(dim=1) > 0.5).tolist()
            likeliest = going_on.argmax(dim=1).tolist()
            for row, more, piece in zip(open_rows, goes_on, likeliest, strict=True):
                if more:
                    canvas[row, places[row] + len(words[row])] = piece
                    words[row].append(piece)
            open_rows = [row for row, more in zip(open_rows, goes_on, strict=True) if more]
        return words
