"""A tiny encoder of BGE-M3's own class with random weights: for measuring everything around an encoder."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from sgdd_engine.atomic_files import write_json
from sgdd_engine.text.transformers_loading import quiet_transformers
from sgdd_engine.text.unigram import MASK, build_unigram

_MAX_TOKENS = 128
_MODULES = ("Transformer", "Pooling", "Normalize")


def write_tiny_encoder(folder: Path, sentences: Sequence[str], *, dim: int = 32, pieces: int = 1000) -> Path:
    """Write an XLM-RoBERTa of one layer, with CLS pooling, normalisation and a vocabulary of its own.

    Its vectors mean nothing; its files are read, and its sentences tokenised and encoded, as those of a large one.

    Args:
        folder: Where to; made if missing.
        sentences: The text that its vocabulary is learnt from.
        dim: Size of a vector.
        pieces: Pieces of the vocabulary; a small text may give fewer.

    Returns:
        The folder.

    Raises:
        DataError: there is too little text for a vocabulary.
    """
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer  # noqa: PLC0415 - takes seconds

    trained = json.loads(build_unigram(sentences, pieces).to_str())["model"]["vocab"]
    vocabulary = [*map(tuple, trained), (MASK, 0.0)]
    config = XLMRobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=dim,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * dim,
        max_position_embeddings=_MAX_TOKENS + 2,
        type_vocab_size=1,
        initializer_range=0.2,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        XLMRobertaTokenizer(vocab=vocabulary, model_max_length=_MAX_TOKENS).save_pretrained(folder)
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    _describe(folder, dim)
    return folder


def _describe(folder: Path, dim: int) -> None:
    """The files by which sentence-transformers describes Transformer → Pooling → Normalize."""
    paths = ["", *(f"{number}_{name}" for number, name in enumerate(_MODULES) if number)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(zip(_MODULES, paths, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    (folder / paths[1]).mkdir(exist_ok=True)
    write_json(folder / paths[1] / "config.json", {"embedding_dimension": dim, "pooling_mode": "cls"})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": _MAX_TOKENS, "do_lower_case": False})
