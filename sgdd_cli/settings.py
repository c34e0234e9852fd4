"""Settings: the fields of the engine's configuration dataclasses, filled from flags, environment, files and defaults.

An option exists once, as a field of its dataclass, and `section.field` is its key everywhere. pydantic converts and
checks the values; what stands here is what it has no answer to: where each value came from, and unknown names.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import tomli_w
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sgdd_engine.bounded_files import UnreadableError, read_toml, shortened
from sgdd_engine.data.config import DataConfig
from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.errors import ConfigError
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.generation.config import GenerationConfig
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.registry import Registry
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.training.config import FeedbackConfig, TrainConfig

DEFAULT = "default"
DEFAULT_FILE = Path("sgdd.toml")
# Keys of older versions, which files, variables and scripts may still hold.
RENAMED = {
    "eval.candidates": "sample.candidates",
    "eval.refine": "sample.refine",
    "eval.shortlist": "sample.shortlist",
    "bottleneck.beta": "train.beta",
    "bottleneck.free_bits": "train.free_bits",
    "bottleneck.anneal_steps": "train.anneal_steps",
    "sample.order": "sample.position_rule",
    "sample.order_noise": "sample.position_noise",
}
# No setting is larger, and Python neither writes a number of more than 4,300 digits nor makes a float of it.
_MOST_BITS = 64
_PREFIX = "SGDD_"
_ENVIRONMENT = "environment "
# Variables that are no settings: a default checkpoint, a default settings file, tracebacks, the token of the page.
_OTHER_VARIABLES = ("SGDD_CHECKPOINT", "SGDD_CONFIG", "SGDD_DEBUG", "SGDD_TOKEN")

FoundValue = tuple[str, Any, str]
"""A value as a source gives it: (key, value, where it was found)."""


class Settings(BaseSettings):
    """Every dataclass of the settings, validated."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    encoder: EncoderConfig = EncoderConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    bottleneck: BottleneckConfig = BottleneckConfig()
    decoder: DecoderConfig = DecoderConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    train: TrainConfig = TrainConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    sample: SamplingConfig = SamplingConfig()
    generation: GenerationConfig = GenerationConfig()
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
        """Only what `load_settings` merged: left to themselves the sources pass over unknown names in silence."""
        return (init_settings,)


# Two dataclasses, one section: a user need not know that the sampler and the choice among its texts are two layers.
_SECTION_OF = {"generation": "sample"}


@dataclass(frozen=True)
class Option:
    """One option, as its dataclass declares it.

    Attributes:
        key: `section.field`.
        part: The field of `Settings` that holds its dataclass.
        name: The field of that dataclass.
        annotation: The type of the field.
        default: The default of the field.
        help: A sentence for users.
        registry: Where its names are registered; None where any value of the type may stand.
    """

    key: str
    part: str
    name: str
    annotation: Any
    default: Any
    help: str
    registry: Registry[Any] | None = None

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
        elif self.registry is not None:
            words = "one of " + ", ".join(self.registry.names())
        else:
            names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
            words = " or ".join(name for kind, name in names.items() if kind in kinds)
            if get_origin(self.annotation) is tuple:
                words = "a list of whole numbers, such as 0,1" if int in kinds else "a list"
        return f"{words}, or none" if self.optional else words

    def of(self, settings: Settings) -> Any:  # noqa: ANN401 - as the option declares
        """Its value."""
        return getattr(getattr(settings, self.part), self.name)


def _options() -> Iterator[Option]:
    for part, info in Settings.model_fields.items():
        for field in dataclasses.fields(info.default):
            # A field without a help text is for callers from Python; it is no setting.
            if text := field.metadata.get("help"):
                key = f"{_SECTION_OF.get(part, part)}.{field.name}"
                registry = field.metadata.get("registry")
                yield Option(key, part, field.name, field.type, field.default, text, registry)


OPTIONS: Mapping[str, Option] = {option.key: option for option in _options()}
SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in OPTIONS))


def sampler_settings() -> str:
    """The keys of the sampler, which are those of `sample` that a checkpoint can record, for a message."""
    return ", ".join(key for key, option in OPTIONS.items() if option.part == "sample")


@dataclass(frozen=True)
class Resolved:
    """Validated settings, and where each value that is not a default came from.

    Attributes:
        settings: The dataclasses.
        origins: Key → origin, in words, for all keys that were given.
        files: The files that were read.
    """

    settings: Settings
    origins: Mapping[str, str]
    files: tuple[Path, ...] = ()

    def origin(self, key: str) -> str:
        """Where the value of `section.field` came from."""
        return self.origins.get(key, DEFAULT)

    def require(self, check: Callable[[], None]) -> None:
        """Make a check that a command needs beside those of all settings; its error says where the values came from.

        Raises:
            ConfigError: it fails.
        """
        try:
            check()
        except ConfigError as error:
            raise _with_origins(error, self.origins) from None

    def given(self, part: str) -> dict[str, Any]:
        """The fields of one dataclass that were given, by name."""
        options = [OPTIONS[key] for key in self.origins]
        return {option.name: option.of(self.settings) for option in options if option.part == part}


def load_settings(
    files: Sequence[Path] = (),
    assignments: Sequence[str] = (),
    flags: Sequence[tuple[str, str, Any]] = (),
) -> Resolved:
    """Flags > `--set` > environment > files > defaults, merged value by value.

    Args:
        files: Settings files, the last one strongest; without any, $SGDD_CONFIG or `sgdd.toml` in this folder.
        assignments: `section.key=value` texts of `--set`.
        flags: (flag, key, value); those whose value is None were not given.

    Raises:
        ConfigError: an unknown key, a value that cannot be, or a file that cannot be read.
    """
    found = list(files)
    if not found and (named := os.environ.get("SGDD_CONFIG")):
        found = [Path(named)]
    elif not found and DEFAULT_FILE.is_file():
        found = [DEFAULT_FILE]
    given = merge(
        chain(
            *map(values_of_file, found),
            _values_of_environment(),
            values_of_assignments(assignments),
            ((key, value, flag) for flag, key, value in flags if value is not None),
        )
    )
    origins = {key: origin for key, (_, origin) in given.items()}
    return Resolved(_validate(given), origins, tuple(found))


def to_toml(settings: Settings) -> str:
    """All options with their values as a settings file; an empty value is the word `none`, since TOML has none."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, option in OPTIONS.items():
        value = option.of(settings)
        sections[key.partition(".")[0]][option.name] = "none" if value is None else value
    return tomli_w.dumps(sections)


def to_template(resolved: Resolved, explain: bool = False) -> str:
    """A settings file of what was given; every other option stands in it as a comment, with its default.

    A default that stands in a file counts as given, and would overrule what a checkpoint records and what a command
    chooses for itself, such as the end of a training on a CPU.

    Args:
        resolved: The settings, and which of them were given.
        explain: Whether the meaning of each stands above it.
    """
    lines: list[str] = []
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        for key, option in OPTIONS.items():
            if not key.startswith(f"{section}."):
                continue
            value = option.of(resolved.settings)
            written = tomli_w.dumps({option.name: "none" if value is None else value}).splitlines()
            mark = "" if key in resolved.origins else "# "
            lines += [f"# {option.help}"] * explain + [mark + line for line in written]
    return "\n".join(lines[1:]) + "\n"


# --- sources --------------------------------------------------------------------------------------------


def values_of_file(path: Path) -> Iterator[FoundValue]:
    """The values of a TOML or YAML file.

    Raises:
        ConfigError: it is missing, cannot be parsed, or holds no sections.
    """
    if not path.is_file():
        raise ConfigError(
            f"There is no settings file `{path}`.", "Make one: sgdd config show --toml > sgdd.toml"
        )
    try:
        values = _parse(path)
    except UnreadableError as error:
        raise ConfigError(f"The settings file {error.message}") from None
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"The settings file `{path}` holds no sections.", "Write for example:\n[train]\nmax_steps = 10000"
        )
    for section, fields in values.items():
        if isinstance(fields, Mapping) and fields:
            yield from ((f"{section}.{name}", value, str(path)) for name, value in fields.items())
        elif fields or section not in SECTIONS:  # an empty section holds nothing
            yield str(section), fields, str(path)


def _parse(path: Path) -> Any:  # noqa: ANN401 - any TOML or YAML value
    if path.suffix.lower() == ".toml":
        return read_toml(path)
    if path.suffix.lower() not in {".yaml", ".yml"}:
        raise ConfigError(f"The settings file `{path}` must end in .toml, .yaml or .yml.")
    from sgdd_cli.yaml_files import read_yaml  # noqa: PLC0415 - most have no such file

    return read_yaml(path) or {}


def _values_of_environment() -> Iterator[FoundValue]:
    """The values of `SGDD_SECTION__KEY` variables, in upper or lower case."""
    for variable, value in os.environ.items():
        if variable.upper().startswith(_PREFIX) and variable.upper() not in _OTHER_VARIABLES:
            key = variable[len(_PREFIX) :].lower().replace("__", ".", 1)
            yield key, value, f"{_ENVIRONMENT}{variable}"


def values_of_assignments(assignments: Sequence[str]) -> Iterator[FoundValue]:
    """The values of `--set section.key=value`.

    Raises:
        ConfigError: one has no `=`.
    """
    for text in assignments:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"--set {text} has no `=`.", "Write --set section.key=value.")
        yield key, value, "--set"


def merge(found: Iterable[FoundValue]) -> dict[str, tuple[Any, str]]:
    """Values with their origins by their present keys; of several for one key the last holds.

    Raises:
        ConfigError: a key does not exist (the hint names the nearest one that does), or one file, or the environment,
            gives it two values.
    """
    given: dict[str, tuple[Any, str]] = {}
    names: dict[str, str] = {}
    for found_key, value, origin in found:
        key = RENAMED.get(found_key, found_key)
        if key not in OPTIONS:
            raise _unknown(key, origin)
        if key in given and origin != "--set":
            before, its_origin = given[key]
            if before != value and _kind_of(its_origin) == _kind_of(origin):
                raise _twice(key, (names[key], its_origin), (found_key, origin))
        given[key], names[key] = (value, origin), found_key
    return given


def _kind_of(origin: str) -> str:
    """What holds a value: a file, a flag, or the whole environment."""
    return _ENVIRONMENT if origin.startswith(_ENVIRONMENT) else origin


# --- errors ---------------------------------------------------------------------------------------------


def _twice(key: str, *found: tuple[str, str]) -> ConfigError:
    """The error for a key that one file, or the environment, gives two values: by an old name, or written twice."""
    variables = [origin.removeprefix(_ENVIRONMENT) for _, origin in found if origin.startswith(_ENVIRONMENT)]
    if variables:
        return ConfigError(
            f"The environment gives {key} two values: {' and '.join(variables)}.", "Remove one of them."
        )
    origin = found[0][1]
    if old := [name for name, _ in found if name != key]:
        return ConfigError(
            f"`{origin}` holds {key} and its old name {old[0]}, with two values.", f"Remove {old[0]}."
        )
    return ConfigError(f"`{origin}` holds {key} twice, with two values.", "Remove one of them.")


def _unknown(key: str, origin: str) -> ConfigError:
    """The error for a key that does not exist, in the words of the place where it was found."""
    variable = origin.removeprefix(_ENVIRONMENT) if origin.startswith(_ENVIRONMENT) else None

    def spell(known: str) -> str:
        return known if variable is None else _PREFIX + known.upper().replace(".", "__")

    if key in SECTIONS:
        first = next(known for known in OPTIONS if known.startswith(f"{key}."))
        return ConfigError(
            f"`{variable or key}` ({origin}) is a section, not a value.",
            f"Name a key in it, such as {spell(first)}.",
        )
    near = " or ".join(map(spell, _nearest(key)))
    return ConfigError(
        f"`{variable or key}` is not a setting (from {origin}).",
        f"{f'Did you mean {near}?' if near else ''}\nAll keys: sgdd config show".lstrip(),
    )


def _nearest(key: str) -> list[str]:
    section, _, name = key.rpartition(".")
    # The right name in the wrong section is a likelier slip than a misspelt one in another section.
    if same := [known for known, option in OPTIONS.items() if option.name == name]:
        return same[:2]
    inside = {known: option.name for known, option in OPTIONS.items() if known.startswith(f"{section}.")}
    # `lr` for train.learning_rate.
    if short := [k for k, field in inside.items() if "".join(w[:1] for w in field.split("_")) == name]:
        return short[:1]
    near = difflib.get_close_matches
    return near(key, inside, n=1, cutoff=0.5) or near(key, OPTIONS, n=1, cutoff=0.6)


def _validate(given: Mapping[str, tuple[Any, str]]) -> Settings:
    """Build the dataclasses from values of known keys.

    Raises:
        ConfigError: a value of the wrong kind or out of range; the sentence names the key and its origin.
    """
    parts: dict[str, dict[str, Any]] = {}
    for key, (value, origin) in given.items():
        option = OPTIONS[key]
        # pydantic would take `true` for the number 1.
        if isinstance(value, bool) and bool not in (option.annotation, *get_args(option.annotation)):
            raise _wrong(option, value, origin)
        if _is_too_large(option, value):
            raise _wrong(option, value, origin)
        if isinstance(value, list) and any(isinstance(part, bool) for part in value):
            raise _wrong(option, value, origin)
        # TOML and the environment have no empty value; the words `none` and `null` stand for it.
        empty = isinstance(value, str) and value.strip().lower() in {"", "none", "null"}
        parts.setdefault(option.part, {})[option.name] = (
            None if empty and option.optional else _as_list(option, value)
        )
    try:
        return Settings(**parts)  # type: ignore[arg-type]
    except ValidationError as error:
        part, name = map(str, error.errors()[0]["loc"][:2])
        key = f"{_SECTION_OF.get(part, part)}.{name}"
        raise _wrong(OPTIONS[key], *given[key]) from None
    except ConfigError as error:
        raise _with_origins(error, {key: origin for key, (_, origin) in given.items()}) from None


def _with_origins(error: ConfigError, origins: Mapping[str, str]) -> ConfigError:
    """The error of a dataclass's own check; its hint also says where the values that it names came from."""
    named = dict.fromkeys(re.findall(r"\b[a-z]+\.[a-z_0-9]+\b", error.message))
    lines = [f"{key} comes from {origins[key]}." for key in named if key in origins]
    return ConfigError(error.message, "\n".join(filter(None, [error.hint, *lines])) or None)


def _as_list(option: Option, value: object) -> object:
    """The parts of `[0, 1]` or `0,1` where a list is wanted, which a file gives as one; else the value."""
    if get_origin(option.annotation) is not tuple or not isinstance(value, str):
        return value
    return [part.strip() for part in value.strip().removeprefix("[").removesuffix("]").split(",")]


def _is_too_large(option: Option, value: object) -> bool:
    """Whether a whole number, or the text of one where a number is wanted, has too many bits."""
    if isinstance(value, str) and not {int, float}.isdisjoint(
        (option.annotation, *get_args(option.annotation))
    ):
        # As many digits as 64 bits have, whatever stands before them.
        return re.fullmatch(r"[+-]?0*[1-9][\d_]{20,}", value.strip()) is not None
    return isinstance(value, int) and value.bit_length() > _MOST_BITS


def _wrong(option: Option, value: object, origin: str) -> ConfigError:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        shown = f"a number of {value.bit_length():,} bits"
    else:
        shown = shortened(repr(value) if isinstance(value, str) else str(value))
    return ConfigError(
        f"{option.key} is {shown} (from {origin}); it must be {option.expected}.",
        f"{option.key}: {option.help}",
    )
