"""The decoder's vocabulary: sentences to ids and back."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tokenizers import AddedToken, Tokenizer

from sgdd_engine.bounded_files import UnreadableError, read_json_object, shortened
from sgdd_engine.config_fields import from_plain
from sgdd_engine.errors import DataError, EncoderError
from sgdd_engine.models.config import VocabularyConfig
from sgdd_engine.text.encoder_files import tokenizer_text
from sgdd_engine.text.unigram import MASK, build_unigram
from sgdd_engine.text.words import spacing

if TYPE_CHECKING:
    from sgdd_engine.text.encoder import SentenceEncoder
    from sgdd_engine.text.encoder_tokenizer import FastTokenizer

Kind = Literal["encoder", "unigram"]
_FILE = "tokenizer.json"
_META = "tokenizer_meta.json"
_VERSION = 1
# Four times the largest published vocabulary (1,000,000 pieces of XLM-V); a table of more would fill the memory.
MOST_PIECES = 1 << 22
# How Unigram vocabularies and byte-level ones spell a space at the beginning of a piece.
_SPACES = ("▁", "Ġ")
# How English sets its punctuation.
_CLOSING = frozenset(".,!?;:%)]}’”…")
_OPENING = frozenset("([{$£€#“‘")
# Texts to set before another one, to see its ids where it is not the beginning; one that does not merge with it.
_ANCHORS = ("a", "x", "1", "...")
_CONTRACTIONS = frozenset({"s", "t", "m", "d", "re", "ve", "ll", "em", "til", "clock", "all"})


@dataclass(frozen=True)
class SpecialIds:
    """The pieces that are no text."""

    mask_id: int
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int


class TextTokenizer:
    """A fast tokenizer with the special pieces that a masked-diffusion decoder needs.

    Attributes:
        kind: `encoder` for an encoder's own vocabulary, `unigram` for one trained on a corpus.
        vocab_size: Pieces, special ones included; ids lie below it.
        mask_id: The piece of a masked position.
        bos_id: The left anchor of the canvas.
        eos_id: The right anchor of the canvas.
        pad_id: The padding piece (`unk_id` where the encoder has none).
        unk_id: The piece of unknown text (`mask_id` for a byte-level vocabulary, which needs none).
        lowercase: Whether text comes back in lower case.
    """

    def __init__(self, tokenizer: Tokenizer, specials: SpecialIds, kind: Kind) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # A sentence that quotes "[MASK]" or "</s>" is text; it must not put an anchor on the canvas.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._specials = specials
        self.kind = kind
        self.mask_id = specials.mask_id
        self.bos_id = specials.bos_id
        self.eos_id = specials.eos_id
        self.pad_id = specials.pad_id
        self.unk_id = specials.unk_id
        # The largest id and not the number of pieces: an encoder's ids may have gaps.
        self.vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if self.vocab_size > MOST_PIECES:
            raise DataError(
                f"A piece of the tokenizer has the id {self.vocab_size - 1:,}; no vocabulary is so large."
            )
        if not all(0 <= index < self.vocab_size for index in asdict(specials).values()):
            raise DataError(f"A special piece lies outside of the vocabulary of {self.vocab_size:,} pieces.")
        self.lowercase = _normalise(tokenizer, "ABC") == "abc"
        self._is_wordpiece = type(tokenizer.model).__name__ == "WordPiece"
        self._control = {specials.mask_id, specials.bos_id, specials.eos_id}
        self._silent = self._control | {specials.pad_id, specials.unk_id}

    @classmethod
    def from_encoder(cls, encoder: "SentenceEncoder") -> "TextTokenizer":
        """The vocabulary of the encoder itself; a mask piece or anchors that it lacks are put at the end."""
        return cls.from_fast(encoder.tokenizer)

    @classmethod
    def from_fast(cls, tokenizer: "FastTokenizer") -> "TextTokenizer":
        """The same from the tokenizer of an encoder, which stays as it is.

        Raises:
            EncoderError: If its kind is not WordPiece, Unigram or BPE.
        """
        copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        kind = type(copy.model).__name__
        if kind not in ("WordPiece", "Unigram", "BPE"):
            raise EncoderError(
                f"The encoder's tokenizer is of the kind {kind}, which cannot write text back; "
                "WordPiece, Unigram and BPE can.",
                "Train a vocabulary on the corpus instead: --vocab-size 16000",
            )

        def known(*names: str) -> int | None:
            found = (getattr(tokenizer, f"{name}_token_id") for name in names)
            return next((int(index) for index in found if index is not None), None)

        def ensured(index: int | None, piece: str) -> int:
            if index is not None:
                return index
            copy.add_special_tokens([AddedToken(piece, special=True, normalized=False)])
            return _id_of(copy, piece)

        mask_id = ensured(known("mask"), MASK)
        # BERT has cls and sep only; the RoBERTa family has both pairs under the same ids.
        bos_id = ensured(known("cls", "bos"), "<s>")
        eos_id = ensured(known("sep", "eos"), "</s>")
        unk_id = known("unk")
        unk_id = mask_id if unk_id is None else unk_id
        pad_id = known("pad")
        specials = SpecialIds(mask_id, bos_id, eos_id, unk_id if pad_id is None else pad_id, unk_id)
        return cls(copy, specials, "encoder")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without anchors and uncut; runs on all cores."""
        rows = [row.ids for row in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        return [
            self._as_text(text) if not self._control.isdisjoint(row) else row
            for text, row in zip(texts, rows, strict=True)
        ]

    def decode_batch(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Readable text of each row of ids; special pieces leave no trace."""
        rows = [list(map(int, row)) for row in ids]
        if not self._is_wordpiece:
            return [text.strip() for text in self._tokenizer.decode_batch(rows, skip_special_tokens=True)]
        return [readable(self._words(row)) for row in rows]

    def encode_behind(self, text: str) -> list[int]:
        """Ids of a text that goes on behind some other text; whether with a space in between, its first character says.

        They do not depend on the other text, where that does not end within a word.
        """
        for before in _ANCHORS:
            start, both = self.encode_batch([before, before + text])
            if both[: len(start)] == start:
                return both[len(start) :]
        return self.encode_batch([text])[0]

    def wrong_starts(self, before: str | None) -> list[int]:
        """Ids that cannot be the first of a text behind a character, since they would add a space or take it away.

        Args:
            before: The character before the text, perhaps a space; None where the text is the beginning.
        """
        if before is None:
            (start,) = self.encode_batch([_ANCHORS[0]])
            return self._wrong_starts[self._adds_space[start[0]] is True]
        return self._wrong_starts[before.isspace()]

    @cached_property
    def _wrong_starts(self) -> tuple[list[int], list[int]]:
        """Those where no space is wanted, and where one is."""
        if self._is_wordpiece:
            # Its pieces do not say whether there is a space before them, except within words.
            no_space = [index for index in range(self.vocab_size) if self.piece(index).startswith("##")]
        else:
            no_space = [index for index, adds in enumerate(self._adds_space) if adds is not False]
        return no_space, [index for index, adds in enumerate(self._adds_space) if adds is not True]

    @cached_property
    def _adds_space(self) -> list[bool | None]:
        """Whether each id is set apart by a space from a word before it; None where it writes nothing visible."""
        word = _ANCHORS[0]
        (start,) = self.encode_batch([word])
        texts = self.decode_batch([*start, index] for index in range(self.vocab_size))
        return [None if text == word else text.startswith(f"{word} ") for text in texts]

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that are never written: mask, anchors, padding, unknown."""
        return tuple(sorted(self._silent))

    def show_canvas(self, row: Sequence[int]) -> str:
        """A canvas that is not yet full, each masked position as `_`."""
        runs = [(masked, list(run)) for masked, run in groupby(row, key=lambda index: index == self.mask_id)]
        written = iter(self.decode_batch(run for masked, run in runs if not masked))
        return " ".join(" ".join("_" * len(run)) if masked else next(written) for masked, run in runs)

    def piece(self, index: int) -> str:
        """The piece of one id, as the vocabulary spells it; empty for an id that is not in use."""
        return self._tokenizer.id_to_token(index) or ""

    @cached_property
    def begins_word(self) -> list[bool]:
        """For each id, whether its piece begins a word: it follows a space, or needs none in its script."""
        return [word and first for word, first in self._piece_kinds]

    @cached_property
    def continues_word(self) -> list[bool]:
        """For each id, whether its piece goes on with the word before it; neither marks nor special pieces do."""
        return [word and not first for word, first in self._piece_kinds]

    def save(self, folder: Path) -> list[Path]:
        """Write `tokenizer.json` and `tokenizer_meta.json` into a folder, and name them."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / _FILE, folder / _META]
        meta = {
            "version": _VERSION,
            "kind": self.kind,
            "fingerprint": self.fingerprint(),
            **asdict(self._specials),
        }
        for path, text in zip(paths, (self._text, json.dumps(meta, indent=2) + "\n"), strict=True):
            path.write_text(text, encoding="utf-8", newline="\n")
        return paths

    @classmethod
    def load(cls, folder: Path) -> "TextTokenizer":
        """Read what `save` wrote.

        Raises:
            DataError: If a file is missing or damaged.
        """
        try:
            meta = read_json_object(folder / _META)
            version, kind = meta.pop("version"), meta.pop("kind")
            fingerprint = meta.pop("fingerprint")
            specials = from_plain(SpecialIds, meta, "the special pieces")
            text = tokenizer_text(folder / _FILE)
            tokenizer = Tokenizer.from_str(text)
        # The tokenizers library raises bare Exception for a damaged file.
        except Exception as problem:
            reason = problem.reason if isinstance(problem, UnreadableError) else str(problem)
            raise DataError(
                f"The tokenizer in {folder} cannot be read: {shortened(' '.join(reason.split()), 200)}.",
                "Prepare the data again.",
            ) from problem
        if version != _VERSION or isinstance(version, bool) or kind not in ("encoder", "unigram"):
            shown = shortened(f"format {version}, kind {kind}")
            raise DataError(f"{folder / _META} comes from another version of sgdd ({shown}).")
        loaded = cls(tokenizer, specials, kind)
        # The library prints the scores of a Unigram model with digits that its own parser does not give back, so
        # the text that was read is kept: what is saved again is the same to the byte.
        loaded._text = text
        if loaded.fingerprint() != fingerprint:
            raise DataError(
                f"The tokenizer in {folder} is damaged or was changed.", "Prepare the data again."
            )
        return loaded

    def fingerprint(self) -> str:
        """Sha256 of the vocabulary, its rules and its special ids, in hexadecimal."""
        return self._fingerprint

    def vocabulary(self) -> VocabularyConfig:
        """The token space, as the model's configuration wants it."""
        return VocabularyConfig(
            size=self.vocab_size, mask_id=self.mask_id, bos_id=self.bos_id, eos_id=self.eos_id
        )

    @cached_property
    def _piece_kinds(self) -> list[tuple[bool, bool]]:
        """For each id, whether its piece starts with a letter or digit, and whether it stands at a word's beginning."""
        pieces = map(self.piece, range(self.vocab_size))
        texts = self.decode_batch([index] for index in range(self.vocab_size))
        return [
            (
                text[:1].isalnum() and index not in self._silent,
                not piece.startswith("##")
                if self._is_wordpiece
                else piece.startswith(_SPACES) or spacing(text) != "spaced",
            )
            for index, (piece, text) in enumerate(zip(pieces, texts, strict=True))
        ]

    @cached_property
    def _text(self) -> str:
        return self._tokenizer.to_str()

    @cached_property
    def _fingerprint(self) -> str:
        ids = json.dumps([self.kind, asdict(self._specials)], sort_keys=True)
        return hashlib.sha256((ids + self._text).encode("utf-8")).hexdigest()

    def _as_text(self, text: str) -> list[int]:
        """Ids of a text that spells a control piece, which a Unigram vocabulary would recognise."""
        for index in self._control:
            marker = self.piece(index)
            text = text.replace(marker, f"{marker[:1]} {marker[1:]}")
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [index for index in ids if index not in self._control]

    def _words(self, row: list[int]) -> list[str]:
        """Whole words and punctuation marks of a row of WordPiece ids."""
        words: list[str] = []
        for index in row:
            piece = self.piece(index)
            if index in self._silent or not piece:
                continue
            if piece.startswith("##") and len(piece) > 2 and words:
                words[-1] += piece[2:]
            else:
                words.append(piece.removeprefix("##") or piece)
        return words


def train_unigram(sentences: Iterable[str], vocab_size: int) -> TextTokenizer:
    """Train a cased Unigram vocabulary that gives cleaned text (NFC, single spaces) back unchanged.

    Args:
        sentences: The text to learn from; only its distinct words and their counts are held in memory, and the
            order does not matter.
        vocab_size: Pieces wanted, special ones included; a small text may give fewer.

    Raises:
        DataError: If there is no text, or too little to learn a piece from.
    """
    tokenizer = build_unigram(sentences, vocab_size)
    specials = SpecialIds(mask_id=_id_of(tokenizer, MASK), bos_id=0, pad_id=1, eos_id=2, unk_id=3)
    return TextTokenizer(tokenizer, specials, "unigram")


def _id_of(tokenizer: Tokenizer, piece: str) -> int:
    index = tokenizer.token_to_id(piece)
    if index is None:
        raise DataError(f"The vocabulary has no piece {piece}.")
    return index


def _normalise(tokenizer: Tokenizer, text: str) -> str:
    return str(tokenizer.normalizer.normalize_str(text)) if tokenizer.normalizer is not None else text


def readable(words: Sequence[str]) -> str:
    """Join words and punctuation marks of BERT's word list, which forgets the spaces, as English prose is spaced.

    Letters are never changed, so that the text, tokenised again, gives the same pieces. The library's own clean-up
    also rewrites words ("do not" becomes "don't").
    """
    parts: list[str] = []
    open_quotes: dict[str, bool] = {'"': False, "'": False}
    glue = True
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        after = words[index + 1] if index + 1 < len(words) else ""
        if word == "'" and before.endswith("s") and not open_quotes["'"] and "'" not in words[index + 1 :]:
            left, right = True, False  # the boys' house
        else:
            left, right = _sides(word, before, after, open_quotes)
        parts.append(word if glue or left else " " + word)
        glue = right
    return "".join(parts)


def _sides(word: str, before: str, after: str, open_quotes: dict[str, bool]) -> tuple[bool, bool]:
    """Whether a word clings to what stands before it, and to what comes after."""
    if word == "'" and before[-1:].isalpha() and after.lower() in _CONTRACTIONS:
        return True, True
    if word in open_quotes:
        closes = open_quotes[word]
        open_quotes[word] = not closes
        return (True, False) if closes else (False, True)
    if word in "-/" and before[-1:].isalnum() and after[:1].isalnum():
        return True, True
    if word == "-" and "-" in (before, after):
        return True, after == "-" or after[:1].isalnum()
    if word in ".,:" and before.isdigit() and after.isdigit():
        return True, _joins_numbers(word, before, after)
    return word in _CLOSING, word in _OPENING or word in ("@", "_", "\\")


def _joins_numbers(mark: str, before: str, after: str) -> bool:
    """3.5, 1,000 and 10:30 are one number; "in 1999, 20 of them" is not."""
    if mark == ",":
        return bool(re.fullmatch(r"\d{3}", after)) and len(before) <= 3
    return mark == "." or len(after) == 2
