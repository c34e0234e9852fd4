"""An encoder's own tokenizer: how it is read, what identifies it, and sentences as its network reads them.

BERT's is read from its files by the `tokenizers` library alone. Through `transformers` it costs more than half the
processor time of `import torch`, and that library does not use `tokenizer.json` as it is: it rebuilds BERT's tokenizer
from the vocabulary and `tokenizer_config.json`. Where `tokenizer.json` describes just what it would build, that file
is the tokenizer; a folder that holds anything else is left to `transformers`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, normalizers

from sgdd_engine.bounded_files import UnreadableError, parse_json
from sgdd_engine.errors import EncoderError
from sgdd_engine.text.encoder_files import read_json_object, refuse_special_files, tokenizer_text
from sgdd_engine.text.hub import has_vocabulary
from sgdd_engine.text.transformers_loading import load_auto_tokenizer

# Texts on which two tokenizers that differ in case, accents, Unicode forms, white space, numbers, scripts or special
# pieces give different ids.
_SAMPLES = (
    "",
    "The old sailor didn't sell his boat, he GAVE it away.",
    "  Two  spaces,\ta tab\nand a line.  ",
    "Crème brûlée, Ångström, İstanbul, straße, naïveté, cafe\u0301",
    "ﬁnancial ①②③ ＡＢＣ １２３ ½ x² ™ … – — “quoted” ‘single’",
    "1,234.56 + 7e-8 = 3:45 a.m. on 2021-12-31 (50 %) #tag @name https://example.org/a_b?c=d",
    "Antidisestablishmentarianism hyper-parameterisation snake_case camelCase",
    "Привет, мир! Καλημέρα κόσμε. مرحبا بالعالم שלום עולם",
    "हिन्दी में लिखो। ภาษาไทยไม่มีช่องว่าง 今日は良い天気です。你好，世界！ 안녕하세요",
    "🙂 👩‍👩‍👧 ❤️ \u200b\u00ad\u0000 zero\u200dwidth",
    "[MASK] [CLS] [SEP] <s> </s> <mask> <unk> ##ing ▁piece",
)
_BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast")
_BERT_SPECIALS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Other keys of a BERT tokenizer_config.json, and their only values under which they change nothing; `...` for any.
_BERT_NEUTRAL_KEYS: dict[str, Any] = {
    "added_tokens_decoder": ...,  # compared with the pieces of tokenizer.json
    "additional_special_tokens": [],
    "backend": "tokenizers",
    "clean_up_tokenization_spaces": ...,  # of decoding only
    "do_basic_tokenize": True,
    "extra_special_tokens": {},
    "name_or_path": ...,
    "never_split": None,
    "special_tokens_map_file": ...,
}
# Sentences tokenised at once: enough for all cores, while the library's objects take a kilobyte each.
_ROWS = 4096
# The first so many pieces of text show whether the tokenizer knows the language. Enough to judge a text by; few
# enough that a garbled one is found before it is encoded.
_JUDGED_PIECES = 16


@dataclass
class FastTokenizer:
    """An encoder's own tokenizer: what is used of `transformers`' fast tokenizers, under the same names.

    Attributes:
        backend_tokenizer: The tokenizer of the `tokenizers` library that does the work.
        model_max_length: Tokens of a text, as its files say; a huge number where they are silent.
    """

    backend_tokenizer: Tokenizer
    model_max_length: int
    _vocabulary: dict[str, int]
    mask_token_id: int | None
    cls_token_id: int | None
    sep_token_id: int | None
    unk_token_id: int | None
    pad_token_id: int | None
    # BERT has cls and sep only.
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def get_vocab(self) -> dict[str, int]:
        """The id of each piece."""
        return self._vocabulary


def load_tokenizer(folder: Path, *, lowercase: bool = False) -> FastTokenizer:
    """Read the tokenizer in an encoder's folder.

    Args:
        folder: The folder.
        lowercase: Lower-case texts before all else, as sentence-transformers does for `do_lower_case`.

    Raises:
        EncoderError: If its files are missing or damaged, or it has no fast form.
    """
    if not has_vocabulary(folder):
        raise EncoderError(
            f"The encoder folder {folder} holds no tokenizer (tokenizer.json, vocab.txt or the like).",
            "Copy the tokenizer's files into it, or fetch the encoder's files again.",
        )
    tokenizer = read_bert_tokenizer(folder)
    if tokenizer is None:
        refuse_special_files(folder)
        _check_ids(folder)
        tokenizer = load_auto_tokenizer(folder)
    if lowercase:
        backend = tokenizer.backend_tokenizer
        steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
        backend.normalizer = normalizers.Sequence(steps)
    return tokenizer


def _check_ids(folder: Path) -> None:
    """Check the files in which a tokenizer gives its pieces ids, before a library makes tables of them."""
    try:
        for name in ("tokenizer.json", "vocab.json", "added_tokens.json"):
            if (folder / name).exists():
                tokenizer_text(folder / name)
    except UnreadableError as error:
        raise EncoderError(error.message, "Fetch the encoder's files again.") from error


def read_bert_tokenizer(folder: Path) -> FastTokenizer | None:
    """The tokenizer of a folder, or None where it is not surely the one that `transformers` would make of it."""
    try:
        config = read_json_object(folder / "tokenizer_config.json")
        is_bert = read_json_object(folder / "config.json").get("model_type") == "bert"
        if not is_bert or not _is_plain(folder, config):
            return None
        text = tokenizer_text(folder / "tokenizer.json")
        described = parse_json(text, folder / "tokenizer.json")
        specials = {name: config[name] for name in _BERT_SPECIALS}
        vocabulary = described["model"]["vocab"]
        expected = _as_transformers_builds_it(config, specials, vocabulary)
        if {key: described.get(key) for key in expected} != expected:
            return None
        decoder = config.get("added_tokens_decoder")
        if decoder is not None and _with_ids(decoder) != described["added_tokens"]:
            return None
        ids = {f"{name}_id": vocabulary[piece] for name, piece in specials.items()}
        return FastTokenizer(Tokenizer.from_str(text), config["model_max_length"], vocabulary, **ids)
    # Whatever is wrong with these files, transformers is asked, and its complaint is shown.
    except Exception:
        return None


def _is_plain(folder: Path, config: dict[str, Any]) -> bool:
    """Whether nothing beside BERT's own settings has a say."""
    own = {*_BERT_SPECIALS, "do_lower_case", "strip_accents", "tokenize_chinese_chars", "model_max_length"}
    rest = {key: value for key, value in config.items() if key not in own}
    specials_map = folder / "special_tokens_map.json"
    named = read_json_object(specials_map) if specials_map.is_file() else {}
    return (
        rest.pop("tokenizer_class", None) in _BERT_CLASSES
        and all(
            key in _BERT_NEUTRAL_KEYS and _BERT_NEUTRAL_KEYS[key] in (..., value)
            for key, value in rest.items()
        )
        and all(isinstance(config[name], str) for name in _BERT_SPECIALS)
        and isinstance(config["model_max_length"], int)
        and all(value == config.get(name) for name, value in named.items())
        and not (folder / "added_tokens.json").exists()
    )


def _as_transformers_builds_it(
    config: dict[str, Any], specials: dict[str, str], vocabulary: dict[str, int]
) -> dict[str, Any]:
    """`tokenizer.json` of `transformers.BertTokenizer`, but for truncation and padding, which are not used."""
    cls, sep = specials["cls_token"], specials["sep_token"]

    def special(piece: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": piece, "type_id": segment}}

    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "added_tokens": [
            {"id": vocabulary[piece], "content": piece, "special": True, **flags}
            for piece in sorted(specials.values(), key=vocabulary.__getitem__)
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(cls, 0), first, special(sep, 0)],
            "pair": [special(cls, 0), first, special(sep, 0), second, special(sep, 1)],
            "special_tokens": {
                piece: {"id": piece, "ids": [vocabulary[piece]], "tokens": [piece]} for piece in (cls, sep)
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": specials["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }


def _with_ids(decoder: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The pieces of `added_tokens_decoder` as `tokenizer.json` lists them."""
    return [{"id": int(number), **decoder[number]} for number in sorted(decoder, key=int)]


def untruncated_copy(tokenizer: FastTokenizer) -> Tokenizer:
    """The tokenizer that does the work, which neither pads nor truncates, and which nobody else changes.

    `transformers` changes truncation and padding of its own whenever it is called.
    """
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    return backend


def hash_tokenizer(tokenizer: FastTokenizer, backend: Tokenizer) -> str:
    """Sha256 over the pieces in the order of their ids, these ids, and the ids of some sample texts.

    Of what the tokenizer does, not of its files: these are written otherwise by each version of the libraries, and a
    setting in one of them may or may not be in force.

    Args:
        tokenizer: The tokenizer.
        backend: Its `untruncated_copy`.
    """
    vocabulary = tokenizer.get_vocab()
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    samples = [row.ids for row in backend.encode_batch_fast(list(_SAMPLES), add_special_tokens=True)]
    found = json.dumps([pieces, sorted(vocabulary.values()), samples])
    return hashlib.sha256(found.encode()).hexdigest()


def hash_segmentation(backend: Tokenizer) -> str | None:
    """Sha256 over what chooses among the pieces that fit: scores of a Unigram vocabulary, merges of BPE.

    The sample texts of `hash_tokenizer` meet few of them. None for WordPiece, which takes the longest piece.
    """
    if type(backend.model).__name__ == "WordPiece":
        return None
    model = json.loads(backend.to_str())["model"]
    digest = hashlib.sha256()
    if model["type"] == "Unigram":
        digest.update(np.array([score for _, score in model["vocab"]], "<f4").tobytes())
    # Earlier versions of the library write a merge as one text.
    for merge in model.get("merges", ()):
        digest.update((merge if isinstance(merge, str) else " ".join(merge)).encode() + b"\0")
    return digest.hexdigest()


@dataclass(frozen=True)
class TokenizedBatch:
    """Sentences as the encoder reads them.

    Attributes:
        ids: Token ids of all sentences side by side, int32 `[sum of lengths]`.
        lengths: Tokens of each sentence, special ones included, int64 `[N]`; at least 1.
        truncated: How many sentences were longer than the encoder reads.
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    truncated: int

    def __len__(self) -> int:
        return len(self.lengths)


class EncoderTokenizer:
    """Texts to token ids, on all cores and without holding Python meanwhile.

    Args:
        tokenizer: The encoder's own tokenizer, which stays as it is.
        name: The encoder's name, for messages.
        prompt: Text put before every sentence.
        max_tokens: Of longer sentences only the first so many tokens are kept.
        pieces: Rows of the network's word table; every id must lie below.

    Attributes:
        own: The encoder's own tokenizer.
        sha256: What identifies it (`hash_tokenizer`).
        segmentation_sha256: Likewise (`hash_segmentation`).
        pad_id: The piece that fills a batch up.
    """

    def __init__(
        self, tokenizer: FastTokenizer, *, name: str, prompt: str, max_tokens: int, pieces: int
    ) -> None:
        self._tokenizer = untruncated_copy(tokenizer)
        self.sha256 = hash_tokenizer(tokenizer, self._tokenizer)
        self.segmentation_sha256 = hash_segmentation(self._tokenizer)
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self.own = tokenizer
        self._name = name
        self._prompt = prompt
        self._pieces = pieces
        self.pad_id = tokenizer.pad_token_id or 0
        self._unk_id = tokenizer.unk_token_id
        names = ("cls", "sep", "bos", "eos", "pad", "mask")
        self._special = [
            index for name in names if (index := getattr(tokenizer, f"{name}_token_id")) is not None
        ]
        self._judged = self._unknown = 0

    def __call__(self, texts: Sequence[str], *, judge: bool = True) -> TokenizedBatch:
        """The ids of every text.

        Args:
            texts: Any number of them.
            judge: Whether the first of them show if the tokenizer knows the language.

        Raises:
            EncoderError: If an item is not text, if most pieces of the first texts are unknown, or if a piece has no
                row in the word table.
        """
        if isinstance(texts, str):
            raise EncoderError("encode() takes a list of sentences, not one string.", "Write encode([text]).")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise EncoderError(f"Sentence {index} is {type(text).__name__}, not text.")
        parts = [self._tokenize_rows(texts[start : start + _ROWS]) for start in range(0, len(texts), _ROWS)]
        batch = TokenizedBatch(
            np.concatenate([np.empty(0, np.int32), *(part.ids for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)]),
            sum(part.truncated for part in parts),
        )
        self._check(batch.ids, judge)
        return batch

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each token of each text, from which character to which it goes; (0, 0) for special tokens."""
        shift = len(self._prompt)
        rows = self._tokenizer.encode_batch([self._prompt + text for text in texts], add_special_tokens=True)
        return [[(max(0, a - shift), max(0, b - shift)) for a, b in row.offsets] for row in rows]

    def _tokenize_rows(self, texts: Sequence[str]) -> TokenizedBatch:
        # Lone surrogates (bytes that were not UTF-8) would fail deep inside the tokenizer.
        clean = [
            self._prompt + (text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8"))
            for text in texts
        ]
        found = self._tokenizer.encode_batch_fast(clean, add_special_tokens=True)
        rows = [row.ids or [self.pad_id] for row in found]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))
        return TokenizedBatch(ids, lengths, sum(bool(row.overflowing) for row in found))

    def _check(self, ids: npt.NDArray[np.int32], judge: bool) -> None:
        if len(ids) and ids.max() >= self._pieces:
            raise EncoderError(
                f"The tokenizer of the encoder {self._name} gives the piece {ids.max()}, and the word table of its "
                f"network has {self._pieces} rows: they do not belong together.",
                "Fetch the encoder's files again.",
            )
        if not judge or self._unk_id is None or self._judged >= _JUDGED_PIECES:
            return
        text = ids[~np.isin(ids, self._special)]
        self._judged += len(text)
        self._unknown += int(np.count_nonzero(text == self._unk_id))
        if self._judged >= _JUDGED_PIECES and self._unknown > self._judged / 2:
            raise EncoderError(
                f"The encoder {self._name} does not know these texts: {self._unknown:,} of their first "
                f"{self._judged:,} pieces are unknown to its tokenizer.",
                "Choose an encoder for this language and script, such as BAAI/bge-m3; "
                "or check the tokenizer's files, if it should know them.",
            )
