"""An encoder's network: read by `bert` where that can be, by `transformers` otherwise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.bert import load_bert, outline_bert, read_bert_config
from sgdd_engine.text.hub import weight_files
from sgdd_engine.text.transformers_loading import load_auto_model, outline_auto_model


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


def check_files(folder: Path) -> None:
    """See that weights and their configuration are there; they are not read.

    Raises:
        EncoderError: If one is missing.
    """
    _check_config(folder)
    if not weight_files(folder):
        raise EncoderError(f"The encoder folder {folder} holds no weights (model.safetensors).")


def _check_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise EncoderError(f"{folder} is not an encoder folder: it has no config.json.")


def _positions(network: Any) -> int:  # noqa: ANN401 - as above
    """Positions that a text can fill: the RoBERTa family begins to count after its padding id."""
    for name, module in network.named_modules():
        if name.endswith(("position_embeddings", "embeddings.positions")):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings - offset)
    limit = getattr(network.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else 1 << 30
