"""Sentences into the token ids that the encoder reads, side by side in one array."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from sgdd_engine.errors import EncoderError

# Sentences tokenised at once: enough for all cores, while the library's objects take a kilobyte each.
_ROWS = 4096


@dataclass(frozen=True)
class TokenizedBatch:
    """Sentences as the encoder reads them.

    Attributes:
        ids: Token ids of all sentences side by side, int32 `[sum of lengths]`.
        lengths: Tokens of each sentence, special ones included, int64 `[N]`; at least 1.
        truncated: How many sentences were too long, and cut.
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    truncated: int

    def __len__(self) -> int:
        return len(self.lengths)


class EncoderTokenizer:
    """The encoder's tokenizer as encoding wants it; it runs on all cores and needs no Python meanwhile.

    Args:
        tokenizer: The encoder's own fast tokenizer (a `transformers` object), which stays as it is.
        prompt: Text put before every sentence.
        max_tokens: Longer sentences are cut to so many tokens.
        pad_id: Stands for a text without any token.
    """

    def __init__(self, tokenizer: Any, *, prompt: str, max_tokens: int, pad_id: int) -> None:  # noqa: ANN401
        # A copy: transformers changes truncation and padding of its own whenever it is called.
        self._tokenizer = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._prompt = prompt
        self._pad_id = pad_id

    def __call__(self, texts: Sequence[str]) -> TokenizedBatch:
        """The ids of every text.

        Raises:
            EncoderError: If an item is not text.
        """
        if isinstance(texts, str):
            raise EncoderError("encode() takes a list of sentences, not one string.", "Write encode([text]).")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise EncoderError(f"Sentence {index} is {type(text).__name__}, not text.")
        parts = [self._tokenize_rows(texts[start : start + _ROWS]) for start in range(0, len(texts), _ROWS)]
        return TokenizedBatch(
            np.concatenate([np.empty(0, np.int32), *(part.ids for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)]),
            sum(part.truncated for part in parts),
        )

    def _tokenize_rows(self, texts: Sequence[str]) -> TokenizedBatch:
        # Lone surrogates (bytes that were not UTF-8) would fail deep inside the tokenizer.
        clean = [
            self._prompt + (text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8"))
            for text in texts
        ]
        found = self._tokenizer.encode_batch_fast(clean, add_special_tokens=True)
        rows = [row.ids or [self._pad_id] for row in found]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))
        return TokenizedBatch(ids, lengths, sum(bool(row.overflowing) for row in found))
