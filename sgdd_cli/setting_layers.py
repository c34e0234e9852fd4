"""Where settings come from: files, the environment and `--set`, each checked for unknown names."""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource, YamlConfigSettingsSource

from sgdd_cli.schema import OPTIONS, Given, Settings
from sgdd_engine.errors import ConfigError

DEFAULT_FILE = Path("sgdd.toml")
_PREFIX = "SGDD_"
# Variables that are no settings: a default checkpoint, a default settings file, tracebacks.
_OTHER_VARIABLES = ("SGDD_CHECKPOINT", "SGDD_CONFIG", "SGDD_DEBUG")
_SHOW = "All keys: sgdd config show"


def files_to_read(named: Sequence[Path]) -> list[Path]:
    """The files named with --config, else $SGDD_CONFIG, else `sgdd.toml` where there is one."""
    if named:
        return list(named)
    if from_environment := os.environ.get("SGDD_CONFIG"):
        return [Path(from_environment)]
    return [DEFAULT_FILE] if DEFAULT_FILE.is_file() else []


def read_file(path: Path) -> dict[str, Given]:
    """The values of a TOML or YAML file, by key.

    Raises:
        ConfigError: it is missing, cannot be parsed, or holds an unknown key.
    """
    if not path.is_file():
        raise ConfigError(
            f"There is no settings file `{path}`.", "Make one: sgdd config show --toml > sgdd.toml"
        )
    try:
        values = _parse(path)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"The settings file `{path}` cannot be read: {reason}.") from None
    except OSError as error:
        raise ConfigError(f"The settings file `{path}` cannot be read: {error.strerror}.") from None
    except (AttributeError, TypeError, ValueError):
        # What pydantic-settings makes of a file that is a list or a bare word.
        raise ConfigError(
            f"The settings file `{path}` holds no sections.", "Write for example:\n[train]\nmax_steps = 10000"
        ) from None
    return {key: Given(value, str(path)) for key, value in _flat(values, str(path))}


def _parse(path: Path) -> dict[str, Any]:
    if path.suffix.lower() in {".yaml", ".yml"}:
        return YamlConfigSettingsSource(Settings, yaml_file=path)()
    if path.suffix.lower() == ".toml":
        return TomlConfigSettingsSource(Settings, toml_file=path)()
    raise ConfigError(f"The settings file `{path}` must end in .toml, .yaml or .yml.")


def _flat(values: Mapping[Any, Any], origin: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key in Settings.model_fields and not isinstance(value, Mapping):
            if value is None:  # an empty YAML section
                continue
            raise ConfigError(
                f"`{key}` in {origin} is a section, not a value.",
                f"Name a key in it, such as {_first_key(key)}.",
            )
        if isinstance(value, Mapping) and key not in OPTIONS:
            if not value and key not in Settings.model_fields:
                raise unknown_key(key, origin)
            yield from _flat(value, origin, f"{key}.")
        elif key in OPTIONS:
            yield key, value
        else:
            raise unknown_key(key, origin)


def read_environment() -> dict[str, Given]:
    """The values of `SGDD_SECTION__KEY` variables, by key.

    Raises:
        ConfigError: a variable that begins with SGDD_ names no key.
    """
    names: dict[str, str] = {}
    for variable in os.environ:
        if not variable.upper().startswith(_PREFIX) or variable.upper() in _OTHER_VARIABLES:
            continue
        key = variable[len(_PREFIX) :].lower().replace("__", ".", 1)
        if key not in OPTIONS:
            raise unknown_key(key, f"the environment variable {variable}", _variable)
        names[key] = variable
    values = EnvSettingsSource(Settings)() if names else {}
    return {
        key: Given(values[key.partition(".")[0]][key.partition(".")[2]], f"environment {variable}")
        for key, variable in names.items()
    }


def read_assignments(assignments: Sequence[str]) -> dict[str, Given]:
    """The values of `--set section.key=value`, by key.

    Raises:
        ConfigError: one has no `=` or names no key.
    """
    given = {}
    for text in assignments:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"--set {text} has no `=`.", "Write --set section.key=value.")
        if key not in OPTIONS:
            raise unknown_key(key, "--set")
        given[key] = Given(value, "--set")
    return given


def unknown_key(key: str, origin: str, spell: Any = str) -> ConfigError:  # noqa: ANN401 - how to write a key there
    """The error for a key that does not exist; its hint names the nearest one that does."""
    shown = key if spell is str else origin.rpartition(" ")[2]
    near = _nearest(key)
    meant = f"Did you mean {' or '.join(spell(name) for name in near)}?\n" if near else ""
    if key in Settings.model_fields:
        return ConfigError(
            f"`{shown}` ({origin}) is a section, not a value.",
            f"Name a key in it, such as {spell(_first_key(key))}.",
        )
    return ConfigError(f"`{shown}` is not a setting (from {origin}).", f"{meant}{_SHOW}")


def _nearest(key: str) -> list[str]:
    section, _, name = key.rpartition(".")
    # The right name in the wrong section is a likelier slip than a misspelt one in another section.
    if same := [known for known in OPTIONS if known.partition(".")[2] == name]:
        return same[:2]
    inside = [known for known in OPTIONS if known.startswith(f"{section}.")]
    if short := [known for known in inside if _initials(known) == name]:
        return short[:1]
    if close := difflib.get_close_matches(key, inside, n=1, cutoff=0.5):
        return close
    return difflib.get_close_matches(key, OPTIONS, n=1, cutoff=0.6)


def _initials(key: str) -> str:
    """`lr` for train.learning_rate."""
    return "".join(word[:1] for word in key.partition(".")[2].split("_"))


def _variable(key: str) -> str:
    return _PREFIX + key.upper().replace(".", "__")


def _first_key(section: str) -> str:
    return next(key for key in OPTIONS if key.startswith(f"{section}."))
