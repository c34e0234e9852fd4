"""The sections of the settings and their options: the engine's configuration dataclasses, nothing more.

An option exists once, as a field of its dataclass; `section.field` is its key everywhere.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sgdd_engine.data.config import DataConfig
from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.training.config import FeedbackConfig, TrainConfig


class Settings(BaseSettings):
    """Every section of the settings, validated."""

    model_config = SettingsConfigDict(
        env_prefix="SGDD_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    encoder: EncoderConfig = EncoderConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    bottleneck: BottleneckConfig = BottleneckConfig()
    decoder: DecoderConfig = DecoderConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    train: TrainConfig = TrainConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    sample: SamplingConfig = SamplingConfig()
    eval: EvalConfig = EvalConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `resolve` merged: left to themselves the sources pass over unknown names in silence."""
        return (init_settings,)


@dataclass(frozen=True)
class Option:
    """One option, as its dataclass declares it."""

    key: str
    annotation: Any
    default: Any
    help: str

    @property
    def optional(self) -> bool:
        """Whether it may be empty."""
        return NoneType in get_args(self.annotation)

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        kinds = [self.annotation, *get_args(self.annotation)]
        if get_origin(self.annotation) is Literal:
            words = "one of " + ", ".join(get_args(self.annotation))
        else:
            names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
            words = next(name for kind, name in names.items() if kind in kinds)
        return f"{words}, or none" if self.optional else words

    def refuses(self, value: object) -> bool:
        """Whether pydantic would let pass what surely is a mistake: `true` for a number, infinity, NaN."""
        if isinstance(value, bool):
            return bool not in (self.annotation, *get_args(self.annotation))
        try:
            return not math.isfinite(float(value)) if self._is_number else False  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return False  # pydantic will say so

    @property
    def _is_number(self) -> bool:
        return bool({int, float} & {self.annotation, *get_args(self.annotation)})


def _options() -> dict[str, Option]:
    found = {}
    for section, info in Settings.model_fields.items():
        for field in dataclasses.fields(info.default):
            key = f"{section}.{field.name}"
            found[key] = Option(key, field.type, field.default, field.metadata.get("help", ""))
    return found


OPTIONS: Mapping[str, Option] = _options()


@dataclass(frozen=True)
class Given:
    """A value as it was given, and where."""

    value: Any
    origin: str
