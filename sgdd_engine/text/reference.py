"""What is written down of the encoder that made a set of vectors, and whether two encoders agree."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from sgdd_engine.config_fields import from_plain
from sgdd_engine.errors import ConfigError, EncoderError
from sgdd_engine.paths_and_shells import expanded
from sgdd_engine.text.config import MINILM, EncoderConfig
from sgdd_engine.text.pooling import POOLINGS

_PRECISIONS: dict[str, Literal["fp32", "bf16", "fp16"]] = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
}
# Fields that references of earlier versions lack; None stands for "not recorded".
LATER_FIELDS = ("prompt", "config_sha256", "tokenizer_sha256", "segmentation_sha256", "probes")
# Folders are recorded by their whole paths, or, where a model is shared, by their last part.
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Characters of a probe sentence that a message shows.
_SHOWN = 40


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
        segmentation_sha256: Over what chooses among pieces (`hash_segmentation`); None also where nothing does.
        probes: A few sentences and the vectors that it gave them (`text.probes`); None likewise, and in references
            that were made for no corpus.
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
    segmentation_sha256: str | None = None
    # Of the same encoder on another machine they may differ in the last digit.
    probes: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    @property
    def is_folder(self) -> bool:
        """Whether it was read from a local folder, not from the hub, where a name of two parts is asked for."""
        return self.revision is None and self.name != MINILM and not _ON_HUB.fullmatch(self.name)

    def at(self, place: str | Path) -> "EncoderReference":
        """The same encoder under another name or in another folder; nothing is read.

        A name on the hub (`owner/name`) keeps the commit that was recorded under it; of another one the newest is
        taken, which has to be the same encoder.
        """
        name, folder = str(place), expanded(place)
        if name != MINILM and folder.is_dir():
            return replace(self, name=str(folder.resolve()), revision=None)
        return self if name == self.name else replace(self, name=name, revision=None)

    def differences(self, other: "EncoderReference") -> list[str]:
        """What makes vectors of this encoder differ from those of another, as clauses; empty where they agree.

        Where the files lie is no difference, and neither is the arithmetic (`dtype`), which only rounds. What one of
        the two does not record is taken to be equal.

        Args:
            other: The encoder that is expected; the clauses read "its pooling is cls, not mean".
        """
        clauses = {
            "weights_sha256": f"its weights differ{_hashes(self.weights_sha256, other.weights_sha256)}",
            "config_sha256": f"its config.json differs{_hashes(self.config_sha256, other.config_sha256)}",
            "tokenizer_sha256": f"its tokenizer differs{_hashes(self.tokenizer_sha256, other.tokenizer_sha256)}",
            "segmentation_sha256": "its tokenizer has other scores or merges"
            + _hashes(self.segmentation_sha256, other.segmentation_sha256),
            "pooling": f"its pooling is {self.pooling}, not {other.pooling}",
            "normalize": f"its vectors are {'' if self.normalize else 'not '}normalised",
            "prompt": f"its prompt is {self.prompt!r}, not {other.prompt!r}",
            "max_tokens": f"it reads {self.max_tokens} tokens of a text, not {other.max_tokens}",
            "dim": f"its vectors have {self.dim} dimensions, not {other.dim}",
        }
        both = ((getattr(self, name), getattr(other, name), clause) for name, clause in clauses.items())
        found = [clause for mine, theirs, clause in both if None not in (mine, theirs) and mine != theirs]
        return found or self._moved_probe(other)

    def _moved_probe(self, other: "EncoderReference") -> list[str]:
        """A clause about a probe sentence that both recorded, each with another vector."""
        if self.probes is None or other.probes is None or self.probes.keys() != other.probes.keys():
            return []
        from sgdd_engine.text.probes import most_different, vectors_of  # noqa: PLC0415 - loads numpy

        mine = {text: self.probes[text] for text in other.probes}
        found = most_different(other.probes, vectors_of(mine, self.dim), self.dtype, other.dtype)
        return [] if found is None else [probe_clause(*found)]

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

    def described(self) -> dict[str, Any]:
        """`to_dict` for people to read: without the probes."""
        return {name: value for name, value in self.to_dict().items() if name != "probes"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncoderReference":
        """Rebuild what `to_dict` gave.

        Raises:
            EncoderError: If a field is missing; unknown ones, from newer versions, are passed over.
        """
        try:
            known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
            return from_plain(cls, known, "The encoder's description")
        except (ConfigError, TypeError) as problem:
            raise EncoderError(f"The encoder's description is incomplete or damaged: {problem}") from problem


def probe_clause(text: str, cosine: float) -> str:
    """What is said of an encoder whose vector of a probe sentence moved."""
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    quoted = json.dumps(shown, ensure_ascii=False)
    return f"its vector of the probe sentence {quoted} differs (cosine {cosine:.4f})"


def _hashes(mine: str | None, theirs: str | None) -> str:
    return f" (sha256 {(mine or '')[:12]}…, not {(theirs or '')[:12]}…)"
