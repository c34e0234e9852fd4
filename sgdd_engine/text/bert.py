"""BERT and RoBERTa as a network of our own, so that a short text does not wait for `transformers`.

`sgdd sample` with a six-layer encoder spent most of its processor time on importing what `transformers` needs for
*every* architecture (its BERT imports torch.distributed, torch._dynamo, sympy, scipy …). Most sentence encoders are
of this one architecture, which is some 100 lines: word, position and token-type embeddings, then layers of
self-attention and a feed-forward network, each added to its input and normalised afterwards (Vaswani et al. 2017,
arXiv 1706.03762; Devlin et al. 2018, arXiv 1810.04805; Liu et al. 2019, arXiv 1907.11692).

What is read here: `model_type` bert, roberta or xlm-roberta (BGE-M3's) with exact GELU and absolute positions, from
one `model.safetensors` whose tensors all have the expected names and shapes. Whatever else a configuration asks for
is left to `transformers`. The operations are those of its classes in the same order, so the vectors are equal to
the last bit where the kernels are (tests/test_bert.py).
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.encoder_files import NEUTRAL_KEYS, read_json_object
from sgdd_engine.text.hub import weight_files

# Whether positions are counted from the padding id on, as fairseq does.
_AFTER_PADDING = {"bert": False, "roberta": True, "xlm-roberta": True}
# Keys that must have these values where they are given.
_FIXED = {
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "hidden_act": "gelu",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "position_embedding_type": "absolute",
    "pruned_heads": {},
}
# Modules of this network → modules in the file, below the prefix of a layer.
_IN_FILE = {
    "embeddings.words": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.token_types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
# Tensors of the file that no vector depends on.
_UNUSED = ("pooler.", "cls.", "lm_head.", "embeddings.position_ids", "embeddings.token_type_ids")


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The sizes in `config.json`, under its names.

    Attributes:
        model_type: bert, roberta or xlm-roberta.
        vocab_size: Pieces, V.
        hidden_size: Width of a token's state, D.
        num_hidden_layers: Layers.
        num_attention_heads: Heads, of D / heads dimensions each.
        intermediate_size: Width inside the feed-forward network.
        max_position_embeddings: Rows of the position table.
        type_vocab_size: Rows of the token-type table, of which the first is used.
        layer_norm_eps: Epsilon of the normalisations.
        pad_token_id: The padding piece; in the RoBERTa family also where positions begin.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    pad_token_id: int


def read_bert_config(folder: Path) -> BertConfig | None:
    """The configuration in a folder; None where it asks for anything that `BertEncoder` does not do.

    Raises:
        EncoderError: If `config.json` is missing or damaged.
    """
    values = read_json_object(folder / "config.json")
    sizes: dict[str, Any] = {field.name: values.pop(field.name, None) for field in fields(BertConfig)}
    # A key that is not known here may change anything.
    rest = {key: value for key, value in values.items() if key not in NEUTRAL_KEYS and value is not None}
    if any(key not in _FIXED or _FIXED[key] != value for key, value in rest.items()):
        return None
    kinds = {"model_type": str, "layer_norm_eps": float}
    if any(type(size) is not kinds.get(name, int) for name, size in sizes.items()):
        return None
    config = BertConfig(**sizes)
    return config if config.model_type in _AFTER_PADDING and _is_sound(config) else None


def _is_sound(config: BertConfig) -> bool:
    """Whether a network can have these sizes."""
    counts = (
        config.num_hidden_layers,
        config.num_attention_heads,
        config.intermediate_size,
        config.max_position_embeddings,
        config.type_vocab_size,
    )
    return (
        min(counts) > 0
        and math.isfinite(config.layer_norm_eps)
        and config.hidden_size >= config.num_attention_heads
        and config.hidden_size % config.num_attention_heads == 0
        and 0 <= config.pad_token_id < config.vocab_size
    )


class BertEncoder(nn.Module):
    """Token ids to the last hidden states; takes and gives what `transformers`' models do.

    Attributes:
        config: Its sizes.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor]:
        """The states `[B, n, D]` of ids `[B, n]`; the mask `[B, n]` is 0 for padding, None where there is none."""
        states = self.embeddings(input_ids)
        # Every query sees every token that is no padding: [B, 1, n, n], as transformers gives it to the kernel.
        mask = None
        if attention_mask is not None:
            rows, n = attention_mask.shape
            mask = attention_mask.bool()[:, None, None, :].expand(rows, 1, n, n)
        for layer in self.layers:
            states = layer(states, mask)
        return (states,)

    def get_input_embeddings(self) -> nn.Embedding:
        """The word table `[V, D]`."""
        return self.embeddings.words


# The numbers come from a file, so none are drawn: on the meta device torch would load its compiler for that.
class _Linear(nn.Linear):
    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.padding = config.pad_token_id if _AFTER_PADDING[config.model_type] else None
        self.words = _Embedding(config.vocab_size, config.hidden_size)
        self.positions = _Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=self.padding
        )
        self.token_types = _Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        if self.padding is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        else:
            inside = ids.ne(self.padding).long()
            positions = torch.cumsum(inside, dim=1) * inside + self.padding
        states: Tensor = self.norm(self.words(ids) + self.token_types.weight[0] + self.positions(positions))
        return states


class _Layer(nn.Module):
    """Self-attention, then a feed-forward network; each is added to its input, and the sum normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.head_size = width // config.num_attention_heads
        self.query, self.key, self.value, self.attention_output = (_Linear(width, width) for _ in range(4))
        self.up = _Linear(width, config.intermediate_size)
        self.down = _Linear(config.intermediate_size, width)
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        heads = (*x.shape[:2], -1, self.head_size)
        query, key, value = (
            project(x).view(heads).transpose(1, 2) for project in (self.query, self.key, self.value)
        )
        scale = self.head_size**-0.5
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        read = read.transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(self.attention_output(read) + x)
        x = self.norm(self.down(F.gelu(self.up(x))) + x)
        return x


def outline_bert(config: BertConfig) -> BertEncoder:
    """The network on the meta device: shapes and no numbers.

    Raises:
        EncoderError: no network can have these sizes.
    """
    try:
        with torch.device("meta"):
            return BertEncoder(config)
    except (RuntimeError, OverflowError, TypeError) as error:
        raise EncoderError(
            "No network can have the sizes in the encoder's config.json.", "Fetch the encoder's files again."
        ) from error


def load_bert(
    folder: Path, config: BertConfig, dtype: torch.dtype, device: torch.device
) -> BertEncoder | None:
    """The frozen network in evaluation mode; None where the weights are not one safetensors file that fits exactly.

    `transformers` reads older names of tensors and files in parts, and says what is wrong with damaged ones.
    """
    path = folder / "model.safetensors"
    if weight_files(folder) != [path]:
        return None
    network = outline_bert(config)
    wanted = network.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            left = set(file.keys())
            prefix = _prefix(config, left)
            tensors = {name: file.get_tensor(prefix + _name_in_file(name)) for name in wanted}
    except (SafetensorError, OSError):
        return None
    left -= {prefix + _name_in_file(name) for name in wanted}
    if any(
        tensors[name].shape != wanted[name].shape or not tensors[name].is_floating_point() for name in wanted
    ):
        return None
    if not all(name.removeprefix(prefix).startswith(_UNUSED) for name in left):
        return None
    network.load_state_dict({name: tensor.to(device, dtype) for name, tensor in tensors.items()}, assign=True)
    return network.requires_grad_(False).eval()


def _prefix(config: BertConfig, names: set[str]) -> str:
    """`bert.` or `roberta.` in the file of a model that had a head, nothing otherwise."""
    prefix = "bert." if config.model_type == "bert" else "roberta."
    return prefix if any(name.startswith(prefix) for name in names) else ""


def _name_in_file(name: str) -> str:
    """`layers.3.query.weight` → `encoder.layer.3.attention.self.query.weight`."""
    module, _, kind = name.rpartition(".")
    if module in _IN_FILE:
        return f"{_IN_FILE[module]}.{kind}"
    _, number, module = module.split(".")
    return f"encoder.layer.{number}.{_IN_FILE[module]}.{kind}"
