"""How the configuration dataclasses declare a field, and check one: said once."""

import dataclasses
from dataclasses import field
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from sgdd_engine.errors import require
from sgdd_engine.registry import Registry

T = TypeVar("T")


def option(default: T, help: str) -> T:
    """A dataclass field with a default and a sentence of help (with its unit) for users.

    The help is read from `dataclasses.fields(...)[i].metadata["help"]`.
    """
    declared: Any = field(default=default, metadata={"help": help})
    return declared  # type: ignore[no-any-return]


def choice(default: str, registry: Registry[Any], help: str) -> str:
    """A field that holds a name of a registry, with parameters where the entry has some; see `Registry`."""
    text = f"{help}; one of {', '.join(registry.names())}"
    declared: Any = field(default=default, metadata={"help": text, "registry": registry})
    return declared  # type: ignore[no-any-return]


def check_seed(seed: int, key: str) -> None:
    """Check that every generator takes the seed: numpy's take none below 0, torch's none above 64 bits.

    Raises:
        ConfigError: it is out of range.
    """
    require(0 <= seed < 1 << 63, f"{key} is {seed}; it must lie between 0 and 2^63 - 1.")


def check_choices(config: Any, section: str) -> None:  # noqa: ANN401 - any configuration dataclass
    """Check the fields that hold one of a few words, or a name of a registry; an old name becomes the present one.

    Raises:
        ConfigError: a field holds another word; the sentence names the key and the words it may hold.
    """
    hints = get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value, key = getattr(config, item.name), f"{section}.{item.name}"
        if (registry := item.metadata.get("registry")) is not None:
            object.__setattr__(config, item.name, registry.canonical(value, key))
        elif get_origin(hints[item.name]) is Literal:
            words = get_args(hints[item.name])
            require(value in words, f"{key} is {value!r}; it must be one of {', '.join(map(str, words))}.")
