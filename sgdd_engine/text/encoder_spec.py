"""The sizes of an encoder, read without its weights: for counting parameters and planning."""

from dataclasses import dataclass

from sgdd_engine.text.bert import BertConfig, outline_bert
from sgdd_engine.text.config import BGE_M3, MINILM, EncoderConfig
from sgdd_engine.text.encoder_files import find_files
from sgdd_engine.text.encoder_network import NetworkSize, outline_network
from sgdd_engine.text.fast_tokenizer import load_tokenizer
from sgdd_engine.text.module_chain import read_module_chain
from sgdd_engine.text.tokenizer import TextTokenizer

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
    """The sizes of the named encoder; the two reference encoders need no file at all.

    Raises:
        EncoderError: If another encoder's configuration or tokenizer cannot be found or read.
    """
    if config.name == BGE_M3:
        return _of_reference(config.name, _BGE_M3, mask_id=250_001, bos_id=0, eos_id=2)
    if config.name == MINILM:
        return _of_reference(config.name, _MINILM, mask_id=103, bos_id=101, eos_id=102)
    chain = read_module_chain(find_files(config, weights=False).folder, config)
    size = NetworkSize.of(outline_network(chain.transformer))
    tokenizer = TextTokenizer.from_fast(load_tokenizer(chain.transformer))
    return EncoderSpec(
        name=config.name,
        dim=chain.dim_of(size.hidden_size),
        vocab_size=tokenizer.vocab_size,
        parameters=size.parameters,
        mask_id=tokenizer.mask_id,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
    )


def encoder_vocabulary(config: EncoderConfig) -> TextTokenizer:
    """The vocabulary that the named encoder's tokenizer gives the decoder; its weights are not needed.

    Raises:
        EncoderError: If the encoder's configuration or tokenizer cannot be found or read.
    """
    chain = read_module_chain(find_files(config, weights=False).folder, config)
    return TextTokenizer.from_fast(load_tokenizer(chain.transformer))


def _of_reference(name: str, config: BertConfig, *, mask_id: int, bos_id: int, eos_id: int) -> EncoderSpec:
    size = NetworkSize.of(outline_bert(config))
    return EncoderSpec(
        name, size.hidden_size, size.pieces, size.parameters, mask_id=mask_id, bos_id=bos_id, eos_id=eos_id
    )
