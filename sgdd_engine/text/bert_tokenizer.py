"""BERT's tokenizer read from its files by the `tokenizers` library alone.

Through `transformers` it costs more than half the processor time of `import torch`, and that library does not use
`tokenizer.json` as it is: it rebuilds BERT's tokenizer from the vocabulary and `tokenizer_config.json`. Where
`tokenizer.json` describes just what it would build, that file is the tokenizer; a folder that holds anything else is
left to `transformers`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

_CLASSES = ("BertTokenizer", "BertTokenizerFast")
_SPECIALS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Other keys of tokenizer_config.json and their only values under which they change nothing; `...` for any.
_NEUTRAL: dict[str, Any] = {
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


def read_bert_tokenizer(folder: Path) -> FastTokenizer | None:
    """The tokenizer of a folder, or None where it is not surely the one that `transformers` would make of it."""
    try:
        config = _read(folder / "tokenizer_config.json")
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        described = json.loads(text)
        if _read(folder / "config.json").get("model_type") != "bert" or not _is_plain(folder, config):
            return None
        specials = {name: config[name] for name in _SPECIALS}
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


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _is_plain(folder: Path, config: dict[str, Any]) -> bool:
    """Whether nothing beside BERT's own settings has a say."""
    own = {*_SPECIALS, "do_lower_case", "strip_accents", "tokenize_chinese_chars", "model_max_length"}
    rest = {key: value for key, value in config.items() if key not in own}
    specials_map = folder / "special_tokens_map.json"
    named = _read(specials_map) if specials_map.is_file() else {}
    return (
        rest.pop("tokenizer_class", None) in _CLASSES
        and all(key in _NEUTRAL and _NEUTRAL[key] in (..., value) for key, value in rest.items())
        and all(isinstance(config[name], str) for name in _SPECIALS)
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
