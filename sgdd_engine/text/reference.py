"""What is written down of the encoder that made a set of vectors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sgdd_engine.errors import EncoderError


@dataclass(frozen=True)
class EncoderReference:
    """Which encoder made a set of vectors, so that it can be found again and checked.

    Attributes:
        name: `minilm`, a hub name, or the absolute path of a folder.
        revision: Hub commit; None for local files.
        pooling: `cls` or `mean`.
        normalize: Whether vectors have unit norm.
        dim: Size of a vector.
        parameters: Parameters of the Transformer without a pooler.
        max_tokens: Encoder tokens read per sentence.
        weights_sha256: Over the weight files in name order.
        dtype: Arithmetic that made the vectors, for example `float32`.
    """

    name: str
    revision: str | None
    pooling: str
    normalize: bool
    dim: int
    parameters: int
    max_tokens: int
    weights_sha256: str
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncoderReference":
        """Rebuild what `to_dict` gave.

        Raises:
            EncoderError: If a field is missing; unknown ones, from newer versions, are passed over.
        """
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        except TypeError as problem:
            raise EncoderError(f"The encoder's description is incomplete: {problem}") from problem
