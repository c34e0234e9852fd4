"""The shape of an encoder, counted from real modules on the meta device, without its weights."""

from dataclasses import dataclass
from typing import Any

import torch

from sgdd_engine.text.config import BGE_M3, MINILM, EncoderConfig
from sgdd_engine.text.loading import find_files, load_config, load_tokenizer, without_pooler
from sgdd_engine.text.pooling import read_module_chain
from sgdd_engine.text.tokenizer import TextTokenizer


@dataclass(frozen=True)
class EncoderSpec:
    """Sizes of an encoder and of the vocabulary that its tokenizer gives the decoder.

    Attributes:
        name: As in the settings.
        dim: Size of a vector.
        vocab_size: Pieces of the decoder's vocabulary (a mask piece included).
        parameters: Parameters of the Transformer without a pooler.
        mask_id: The mask piece.
        bos_id: The piece of the left anchor.
        eos_id: The piece of the right anchor.
    """

    name: str
    dim: int
    vocab_size: int
    parameters: int
    mask_id: int
    bos_id: int
    eos_id: int


def read_encoder_spec(config: EncoderConfig) -> EncoderSpec:
    """The shape of the named encoder; the two reference encoders need no file at all.

    Raises:
        EncoderError: If another encoder's configuration or tokenizer cannot be found or read.
    """
    if config.name == BGE_M3:
        return EncoderSpec(config.name, 1024, 250_002, _count(_bge_m3()), mask_id=250_001, bos_id=0, eos_id=2)
    if config.name == MINILM:
        return EncoderSpec(config.name, 384, 30_522, _count(_minilm()), mask_id=103, bos_id=101, eos_id=102)
    files = find_files(config, weights=False)
    chain = read_module_chain(files.folder, config)
    model_config = load_config(chain.transformer)
    tokenizer = TextTokenizer.from_transformers(load_tokenizer(chain.transformer))
    return EncoderSpec(
        name=config.name,
        dim=int(model_config.hidden_size),
        vocab_size=tokenizer.vocab_size,
        parameters=_count(model_config),
        mask_id=tokenizer.mask_id,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
    )


def _count(config: Any) -> int:  # noqa: ANN401 - transformers' own configuration class
    from transformers import AutoModel  # noqa: PLC0415 - transformers takes seconds to import

    with torch.device("meta"):
        build: Any = AutoModel.from_config  # untyped in transformers
        model = build(config, trust_remote_code=False, **without_pooler(config))
    return sum(parameter.numel() for parameter in model.parameters())


def _bge_m3() -> Any:  # noqa: ANN401
    """BAAI/bge-m3's config.json, as far as it sets sizes."""
    from transformers import XLMRobertaConfig  # noqa: PLC0415

    return XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=8194,
        type_vocab_size=1,
    )


def _minilm() -> Any:  # noqa: ANN401
    """all-MiniLM-L6-v2's config.json, as far as it sets sizes."""
    from transformers import BertConfig  # noqa: PLC0415

    return BertConfig(
        vocab_size=30_522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=512,
        type_vocab_size=2,
    )
