"""An encoder's own tokenizer: what is used of it, how it is read, and what identifies it."""

import hashlib
import json
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer, normalizers

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.bert_tokenizer import read_bert_tokenizer
from sgdd_engine.text.transformers_loading import load_auto_tokenizer

# A folder without one of these has no vocabulary, and `transformers` makes one of five special pieces in silence.
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("tokenizer.model",),
)
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


class FastTokenizer(Protocol):
    """What is used of a fast tokenizer of `transformers`; `bert_tokenizer` makes one without that library.

    Attributes:
        backend_tokenizer: The tokenizer of the `tokenizers` library that does the work.
        model_max_length: Tokens of a text, as its files say; a huge number where they are silent.
    """

    backend_tokenizer: Tokenizer
    model_max_length: int
    mask_token_id: int | None
    cls_token_id: int | None
    sep_token_id: int | None
    bos_token_id: int | None
    eos_token_id: int | None
    unk_token_id: int | None
    pad_token_id: int | None

    def get_vocab(self) -> dict[str, int]:
        """The id of each piece."""


def load_tokenizer(folder: Path, *, lowercase: bool = False) -> FastTokenizer:
    """Read the tokenizer in an encoder's folder.

    Args:
        folder: The folder.
        lowercase: Lower-case texts before all else, as sentence-transformers does for `do_lower_case`.

    Raises:
        EncoderError: If its files are missing or damaged, or it has no fast form.
    """
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        raise EncoderError(
            f"The encoder folder {folder} holds no tokenizer (tokenizer.json, vocab.txt or the like).",
            "Copy the tokenizer's files into it, or fetch the encoder's files again.",
        )
    tokenizer = read_bert_tokenizer(folder) or load_auto_tokenizer(folder)
    if lowercase:
        backend = tokenizer.backend_tokenizer
        steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
        backend.normalizer = normalizers.Sequence(steps)
    return tokenizer


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
