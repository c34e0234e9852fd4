"""How the configuration dataclasses declare a field, and check one: said once."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import MISSING, field
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sgdd_engine.bounded_files import shortened
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


# JSON knows numbers of any size; none of ours is larger, and larger ones overflow in libraries.
_MOST_BITS = 63
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    NoneType: "null",
}


def from_plain(config: type[T], values: object, section: str) -> T:
    """A configuration dataclass from the object of a JSON file, whoever wrote it.

    Every key is a field, every field without a default is there, and every value is of its field's type: `true` is no
    number, and a number is finite.

    Args:
        config: A dataclass, whose fields are of plain types, dataclasses, or containers of these.
        values: The JSON value.
        section: What it is called in messages.

    Raises:
        ConfigError: a key is missing or unknown, or a value is of another type or (as the dataclass itself checks) out
            of range.
    """
    require(isinstance(values, Mapping), f"{section} is {_shown(values)}; it must be an object.")
    assert isinstance(values, Mapping)
    declared, hints = dataclasses.fields(config), get_type_hints(config)  # type: ignore[arg-type]
    unknown = sorted(map(str, values.keys() - {item.name for item in declared}))
    require(
        not unknown,
        f"{section} has the key {shortened(', '.join(unknown[:3]))!r}, which this version of sgdd does not know.",
        "Upgrade sgdd, if a newer version has written it.",
    )
    for item in declared:
        if item.default is MISSING and item.default_factory is MISSING:
            require(item.name in values, f"{section} lacks {item.name}.")
    checked = {name: _checked(value, hints[name], f"{section}.{name}") for name, value in values.items()}
    return config(**checked)


def _checked(value: Any, kind: Any, key: str) -> Any:  # noqa: ANN401 - a JSON value, and any type of a field
    """A JSON value as a field of this type holds it."""
    if dataclasses.is_dataclass(kind):
        return from_plain(kind, value, key)  # type: ignore[arg-type]
    if get_origin(kind) in (Union, UnionType) and isinstance(value, dict | list):
        # Of what may stand there, only one kind holds other values.
        kind = next((one for one in get_args(kind) if get_origin(one) or dataclasses.is_dataclass(one)), kind)
        if get_origin(kind) not in (Union, UnionType):
            return _checked(value, kind, key)
    inner = get_args(kind)
    if get_origin(kind) in (dict, Mapping) and isinstance(value, dict):
        return {name: _checked(item, inner[1], f"{key}.{shortened(name)}") for name, item in value.items()}
    if get_origin(kind) in (list, tuple) and isinstance(value, list):
        items = [_checked(item, inner[0], key) for item in value]
        return tuple(items) if get_origin(kind) is tuple else items
    kinds = inner if get_origin(kind) in (Union, UnionType) else (kind,)
    words = ", or ".join(map(_words, kinds))
    require(any(_is_of(value, one) for one in kinds), f"{key} is {_shown(value)}; it must be {words}.")
    return value


def _is_of(value: Any, kind: Any) -> bool:  # noqa: ANN401 - as above
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return any(type(word) is type(value) and word == value for word in get_args(kind))
    if kind is float and type(value) is int:
        kind = int
    if type(value) is not kind:
        return False
    return math.isfinite(value) if kind is float else kind is not int or value.bit_length() <= _MOST_BITS


def _words(kind: Any) -> str:  # noqa: ANN401 - as above
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    names = {dict: "an object", Mapping: "an object", list: "a list", tuple: "a list"}
    return _KINDS.get(kind) or names.get(get_origin(kind) or kind, "another value")


def _shown(value: object) -> str:
    """A JSON value for a message, without its inside."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length():,} bits"
    names: dict[object, str] = {True: "true", False: "false", None: "null"}
    return names[value] if value is None or isinstance(value, bool) else shortened(repr(value))
