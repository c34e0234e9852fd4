"""Settings: the options of `schema`, filled from flags, environment, files and defaults, with their origins."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sgdd_cli import setting_layers as layers
from sgdd_cli.schema import OPTIONS, Given, Option, Settings
from sgdd_engine.errors import ConfigError

DEFAULT = "default"


@dataclass(frozen=True)
class Resolved:
    """Validated settings, and where each value that is not a default came from.

    Attributes:
        settings: The sections.
        origins: Key → origin, in words, for all keys that were given.
        files: The files that were read.
    """

    settings: Settings
    origins: Mapping[str, str]
    files: tuple[Path, ...] = ()

    def value(self, key: str) -> Any:  # noqa: ANN401 - as the option declares
        """The value of `section.field`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self.settings, section), name)

    def origin(self, key: str) -> str:
        """Where the value of `section.field` came from."""
        return self.origins.get(key, DEFAULT)


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
    found = layers.files_to_read(files)
    given: dict[str, Given] = {}
    for file in found:
        given |= layers.read_file(file)
    given |= layers.read_environment()
    given |= layers.read_assignments(assignments)
    for flag, key, value in flags:
        if value is not None:
            given[key] = Given(value, flag)
    return Resolved(validate(given), {key: item.origin for key, item in given.items()}, tuple(found))


def validate(given: Mapping[str, Given]) -> Settings:
    """Build the sections from known keys.

    Raises:
        ConfigError: a value of the wrong kind or out of range; the sentence names the key and its origin.
    """
    nested: dict[str, dict[str, Any]] = {}
    for key, item in given.items():
        option = OPTIONS[key]
        if option.refuses(item.value):
            raise _wrong(option, item)
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = _none_by_name(option, item.value)
    try:
        return Settings(**nested)  # type: ignore[arg-type]
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"][:2])
        raise _wrong(OPTIONS[key], given[key]) from None
    except ConfigError as error:
        raise ConfigError(error.message, _with_origins(error, given)) from None


def _none_by_name(option: Option, value: object) -> object:
    """TOML and the environment have no empty value; the words `none` and `null` stand for it."""
    empty = isinstance(value, str) and value.strip().lower() in {"", "none", "null"}
    return None if empty and option.optional else value


def _wrong(option: Option, item: Given) -> ConfigError:
    shown = repr(item.value) if isinstance(item.value, str) else str(item.value)
    return ConfigError(
        f"{option.key} is {shown} (from {item.origin}); it must be {option.expected}.",
        f"{option.key}: {option.help}",
    )


def _with_origins(error: ConfigError, given: Mapping[str, Given]) -> str | None:
    """The hint of a dataclass's own check, and where the values that it names came from."""
    named = dict.fromkeys(re.findall(r"\b[a-z]+\.[a-z_0-9]+\b", error.message))
    lines = [f"{key} comes from {given[key].origin}." for key in named if key in given]
    if error.hint:
        lines.insert(0, error.hint)
    return "\n".join(lines) or None
