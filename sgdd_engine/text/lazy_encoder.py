"""An encoder that is identified at once, and loaded when the first vector is needed, which may be never."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import SentenceEncoder, open_encoder
from sgdd_engine.text.encoder_network import NetworkSize, load_network, outline_network


def load_encoder_lazily(config: EncoderConfig, device: str | torch.device = "cpu") -> SentenceEncoder:
    """What `load_encoder` gives, without its weights: they are hashed now, and loaded with the first batch.

    Raises:
        EncoderError: If it cannot be found or honoured; damaged weights are only noticed when they are loaded.
    """

    def defer(folder: Path, dtype: torch.dtype, place: torch.device) -> tuple[torch.nn.Module, NetworkSize]:
        return _LazyNetwork(lambda: load_network(folder, dtype, place)), NetworkSize.of(
            outline_network(folder)
        )

    return open_encoder(config, device, defer)


class _LazyNetwork(torch.nn.Module):
    """Loads the network when it is called."""

    def __init__(self, load: Callable[[], torch.nn.Module]) -> None:
        super().__init__()
        self._load = load
        self._network: Any = None

    def forward(self, **inputs: Any) -> Any:  # noqa: ANN401 - what the network takes and gives
        """What the network gives."""
        return self._loaded()(**inputs)

    def get_input_embeddings(self) -> Any:  # noqa: ANN401
        """Those of the network."""
        return self._loaded().get_input_embeddings()

    def _loaded(self) -> Any:  # noqa: ANN401
        if self._network is None:
            self._network = self._load()
        return self._network
