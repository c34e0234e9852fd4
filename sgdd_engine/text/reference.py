"""What is written down of the encoder that made a set of vectors, and whether two encoders agree."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from sgdd_engine.errors import ConfigError, EncoderError
from sgdd_engine.text.config import MINILM, EncoderConfig
from sgdd_engine.text.pooling import POOLINGS

_PRECISIONS: dict[str, Literal["fp32", "bf16", "fp16"]] = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
}
# Fields that references of earlier versions lack; None stands for "not recorded".
LATER_FIELDS = ("prompt", "config_sha256", "tokenizer_sha256")


@dataclass(frozen=True)
class EncoderReference:
    """Which encoder made a set of vectors, so that it can be found again and checked.

    Attributes:
        name: `minilm`, a hub name, or the path of a folder.
        revision: Hub commit; None for local files.
        pooling: A name in `POOLINGS`.
        normalize: Whether vectors are divided by their L2 norm.
        dim: Size of a vector.
        parameters: Parameters of the Transformer without a pooler.
        max_tokens: Encoder tokens read per sentence.
        weights_sha256: Over the weight files in name order.
        dtype: Arithmetic that made the vectors, for example `float32`.
        prompt: Text put before every sentence; None in references of earlier versions.
        config_sha256: Over what `config.json` says of the network (`hash_config`); None likewise.
        tokenizer_sha256: Over the vocabulary and the ids of sample texts (`hash_tokenizer`); None likewise.
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
    prompt: str | None = None
    config_sha256: str | None = None
    tokenizer_sha256: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it was read from a local folder: what comes from the hub has a commit."""
        return self.revision is None and self.name != MINILM

    def at(self, place: str | Path) -> "EncoderReference":
        """The same encoder under another name or in another folder; nothing is read."""
        folder = Path(place).expanduser()
        if str(place) == MINILM or not folder.is_dir():
            return replace(self, name=str(place), revision=None)
        return replace(self, name=str(folder.resolve()), revision=None)

    def differences(self, other: "EncoderReference") -> list[str]:
        """What makes vectors of this encoder differ from those of another, as clauses; empty where they agree.

        Where the files lie is no difference, and neither is the arithmetic (`dtype`), which only rounds. What one of
        the two does not record is taken to be equal.

        Args:
            other: The encoder that is expected; the clauses read "its pooling is cls, not mean".
        """
        clauses = {
            "weights_sha256": f"its weights are others{_hashes(self.weights_sha256, other.weights_sha256)}",
            "config_sha256": f"its config.json is another{_hashes(self.config_sha256, other.config_sha256)}",
            "tokenizer_sha256": f"its tokenizer is another{_hashes(self.tokenizer_sha256, other.tokenizer_sha256)}",
            "pooling": f"its pooling is {self.pooling}, not {other.pooling}",
            "normalize": f"its vectors are {'' if self.normalize else 'not '}normalised",
            "prompt": f"its prompt is {self.prompt!r}, not {other.prompt!r}",
            "max_tokens": f"it reads {self.max_tokens} tokens of a text, not {other.max_tokens}",
            "dim": f"its vectors have {self.dim} dimensions, not {other.dim}",
        }
        both = ((getattr(self, name), getattr(other, name), clause) for name, clause in clauses.items())
        return [clause for mine, theirs, clause in both if None not in (mine, theirs) and mine != theirs]

    def config(self) -> EncoderConfig:
        """The settings that load this encoder, and have it compute as it did.

        Raises:
            EncoderError: If it pools in a way that is not registered here.
        """
        try:
            POOLINGS.canonical(self.pooling, "encoder.pooling")
        except ConfigError as error:
            raise EncoderError(
                f"The vectors of {self.name} were made with the pooling `{self.pooling}`, which is not known here.",
                "\n".join(filter(None, ["Upgrade sgdd, or install the package that has it.", error.hint])),
            ) from error
        return EncoderConfig(
            name=self.name,
            revision=self.revision,
            pooling=self.pooling,
            # The smallest that a setting may be; the encoder's own limit holds below it.
            max_tokens=max(self.max_tokens, 8),
            precision=_PRECISIONS.get(self.dtype, "auto"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values, without those that are not recorded."""
        values = asdict(self)
        return {
            name: value for name, value in values.items() if value is not None or name not in LATER_FIELDS
        }

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


def _hashes(mine: str | None, theirs: str | None) -> str:
    return f" (sha256 {(mine or '')[:12]}…, not {(theirs or '')[:12]}…)"
