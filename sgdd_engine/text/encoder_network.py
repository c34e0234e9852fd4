"""An encoder's network and its sizes: read by `bert` where that can be, by `transformers` otherwise."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.bounded_files import shortened
from sgdd_engine.errors import EncoderError
from sgdd_engine.models.config import MOST_LAYERS, VocabularyConfig
from sgdd_engine.text.bert import BertConfig, load_bert, outline_bert, read_bert_config
from sgdd_engine.text.config import BGE_M3, MINILM, EncoderConfig
from sgdd_engine.text.encoder_files import find_files, read_json_object, refuse_special_files
from sgdd_engine.text.encoder_tokenizer import load_tokenizer
from sgdd_engine.text.hub import weight_files
from sgdd_engine.text.module_chain import ModuleChain, read_module_chain
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.text.transformers_loading import load_auto_model, outline_auto_model

# The sizes in the config.json of the two reference encoders, which are thus known without any file.
_BGE_M3 = BertConfig(
    model_type="xlm-roberta",
    vocab_size=250_002,
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    max_position_embeddings=8194,
    type_vocab_size=1,
    layer_norm_eps=1e-5,
    pad_token_id=1,
)
_MINILM = BertConfig(
    model_type="bert",
    vocab_size=30_522,
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    max_position_embeddings=512,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    pad_token_id=0,
)
# Keys of config.json that are sizes; none of any encoder is above 2^31.
_SIZE = re.compile(r"(?P<layers>^n(um)?_(hidden_)?layers?$)|(size|heads|embeddings)$")
_MOST_SIZE = 1 << 31
_REFERENCES = {
    BGE_M3: (_BGE_M3, VocabularyConfig(size=250_002, mask_id=250_001, bos_id=0, eos_id=2)),
    MINILM: (_MINILM, VocabularyConfig(size=30_522, mask_id=103, bos_id=101, eos_id=102)),
}


@dataclass(frozen=True)
class NetworkSize:
    """What the shapes of a network say.

    Attributes:
        hidden_size: Width of a token's state.
        parameters: Numbers in it, without a pooler.
        positions: Tokens that a text can have.
        pieces: Rows of its word table.
    """

    hidden_size: int
    parameters: int
    positions: int
    pieces: int

    @classmethod
    def of(cls, network: Any) -> "NetworkSize":  # noqa: ANN401 - a transformers model, or our own
        """The sizes of a network, which may be on the meta device."""
        return cls(
            hidden_size=int(network.config.hidden_size),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            positions=_positions(network),
            pieces=network.get_input_embeddings().num_embeddings,
        )


def load_network(folder: Path, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """The frozen network in evaluation mode, without a pooler.

    Raises:
        EncoderError: If files are missing or damaged, do not fit each other, or would need code from the hub.
    """
    check_files(folder)
    config = read_bert_config(folder)
    own = None if config is None else load_bert(folder, config, dtype, device)
    return own or load_auto_model(folder, dtype, device)


def outline_network(folder: Path) -> torch.nn.Module:
    """The same network on the meta device, from `config.json` alone: shapes and no numbers.

    Raises:
        EncoderError: If `config.json` is missing or damaged, or of a kind that is not known.
    """
    _check_config(folder)
    config = read_bert_config(folder)
    return outline_auto_model(folder) if config is None else outline_bert(config)


class LazyNetwork(torch.nn.Module):
    """A network that is loaded when it is first called, which may be never."""

    def __init__(self, load: Callable[[], torch.nn.Module]) -> None:
        super().__init__()
        self._loaded: Callable[[], Any] = cache(load)  # untyped where it is a transformers model

    def forward(self, **inputs: Any) -> Any:  # noqa: ANN401 - what the network takes and gives
        """What the network gives."""
        return self._loaded()(**inputs)

    def get_input_embeddings(self) -> Any:  # noqa: ANN401
        """Those of the network."""
        return self._loaded().get_input_embeddings()


def check_files(folder: Path) -> None:
    """See that weights and their configuration are there; they are not read.

    Raises:
        EncoderError: If one is missing.
    """
    _check_config(folder)
    refuse_special_files(folder)
    if not weight_files(folder):
        raise EncoderError(f"The encoder folder {folder} holds no weights (model.safetensors).")


def _check_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise EncoderError(f"{folder} is not an encoder folder: it has no config.json.")
    for key, value in read_json_object(folder / "config.json").items():
        if not isinstance(value, int) or not (size := _SIZE.search(key)):
            continue
        # A network of more layers is built for hours, also on the meta device.
        least, most = (1, MOST_LAYERS) if size["layers"] else (0, _MOST_SIZE)
        if not least <= value <= most:
            raise EncoderError(
                f"{folder / 'config.json'} has a {shortened(key)} that does not lie between {least} and {most:,}.",
                "Fetch the encoder's files again.",
            )


def _positions(network: Any) -> int:  # noqa: ANN401 - as above
    """Positions that a text can fill: the RoBERTa family begins to count after its padding id."""
    for name, module in network.named_modules():
        if name.endswith(("position_embeddings", "embeddings.positions")):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings - offset)
    limit = getattr(network.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else 1 << 30


@dataclass(frozen=True)
class EncoderSpec:
    """Sizes of an encoder, and the vocabulary that its tokenizer gives the decoder.

    Attributes:
        dim: Size of a vector.
        parameters: Parameters of the Transformer without a pooler.
        vocabulary: Pieces of the decoder's vocabulary, and the ids of its mask and anchors.
    """

    dim: int
    parameters: int
    vocabulary: VocabularyConfig


def read_encoder_spec(config: EncoderConfig) -> EncoderSpec:
    """The sizes of the named encoder; the two reference encoders need no file at all.

    Raises:
        EncoderError: If another encoder's configuration or tokenizer cannot be found or read.
    """
    if config.name in _REFERENCES:
        network, vocabulary = _REFERENCES[config.name]
        size = NetworkSize.of(outline_bert(network))
        return EncoderSpec(size.hidden_size, size.parameters, vocabulary)
    chain = _chain_without_weights(config)
    size = NetworkSize.of(outline_network(chain.transformer))
    return EncoderSpec(chain.dim_of(size.hidden_size), size.parameters, _vocabulary_of(chain).vocabulary())


def encoder_vocabulary(config: EncoderConfig) -> TextTokenizer:
    """The vocabulary that the named encoder's tokenizer gives the decoder; its weights are not needed.

    Raises:
        EncoderError: If the encoder's configuration or tokenizer cannot be found or read.
    """
    return _vocabulary_of(_chain_without_weights(config))


def _chain_without_weights(config: EncoderConfig) -> ModuleChain:
    return read_module_chain(find_files(config, weights=False).folder, config)


def _vocabulary_of(chain: ModuleChain) -> TextTokenizer:
    return TextTokenizer.from_fast(load_tokenizer(chain.transformer, lowercase=chain.lowercase))
