"""An encoder that is known at once and loaded when the first vector is needed, which may be never."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from sgdd_engine.errors import EncoderError
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import SentenceEncoder, Transformer, open_encoder
from sgdd_engine.text.hub import weight_files
from sgdd_engine.text.loading import load_config, load_model, without_pooler
from sgdd_engine.text.reference import EncoderReference

_PRECISIONS: dict[str, Literal["fp32", "bf16", "fp16"]] = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
}


def load_encoder_lazily(config: EncoderConfig, device: str | torch.device = "cpu") -> SentenceEncoder:
    """What `load_encoder` gives, without its weights: they are hashed now, and loaded with the first batch.

    Raises:
        EncoderError: If it cannot be found or honoured; damaged weights are only noticed when they are loaded.
    """

    def defer(folder: Path, dtype: torch.dtype, place: torch.device) -> Transformer:
        if not weight_files(folder):
            raise EncoderError(f"The encoder folder {folder} holds no weights (model.safetensors).")
        return Transformer(_Deferred(lambda: load_model(folder, dtype, place)), _outline(load_config(folder)))

    return open_encoder(config, device, defer)


def config_like(reference: EncoderReference) -> EncoderConfig:
    """The settings that name an encoder which made vectors, and have it compute as it did then."""
    return EncoderConfig(
        name=reference.name,
        revision=reference.revision,
        pooling="cls" if reference.pooling == "cls" else "mean",
        max_tokens=max(reference.max_tokens, 8),
        precision=_PRECISIONS.get(reference.dtype, "auto"),
    )


class _Deferred(torch.nn.Module):
    """Stands in for a Transformer until it is called."""

    def __init__(self, load: Callable[[], torch.nn.Module]) -> None:
        super().__init__()
        self._load = load
        self._model: Any = None

    def forward(self, **inputs: Any) -> Any:  # noqa: ANN401 - what transformers' models take and give
        """What the Transformer gives."""
        return self._loaded()(**inputs)

    def get_input_embeddings(self) -> Any:  # noqa: ANN401
        """Those of the Transformer."""
        return self._loaded().get_input_embeddings()

    def _loaded(self) -> Any:  # noqa: ANN401
        if self._model is None:
            self._model = self._load()
        return self._model


def _outline(config: Any) -> Any:  # noqa: ANN401 - transformers' own classes
    """The Transformer of a configuration on the meta device: shapes and no numbers."""
    from transformers import AutoModel  # noqa: PLC0415 - transformers takes seconds to import

    with torch.device("meta"):
        build: Any = AutoModel.from_config  # untyped in transformers
        return build(config, trust_remote_code=False, **without_pooler(config))
