"""Choices by name that any package may add to: schedules, position rules, times, sources, poolings, metrics, ….

A name may carry parameters: `polynomial:exponent=3` builds the entry `polynomial` with `exponent=3`.
"""

import difflib
import inspect
import sys
from collections.abc import Callable, ItemsView, Mapping
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from sgdd_engine.errors import ConfigError
from sgdd_engine.plugins import BrokenPlugin, load_plugin

EXTENSIONS = "sgdd.extensions"
"""Entry-point group of modules that add entries; `load_extensions` imports them, if only since a name is not known."""

T = TypeVar("T")
Entry = TypeVar("Entry", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Entries of one kind by name.

    An entry holds no state: one object serves all who ask for the same name and parameters. It is a class, which is
    instantiated with the parameters, or a function or a class with arguments that its users give, whose other arguments
    are the parameters. Parameters have a default of type `int`, `float`, `bool` or `str`, which says how they are read.
    An entry that is never built, since all of a kind are used together, may be any object: see `add` and `items`.

    Args:
        kind: What an entry is, in the words of an error message, such as "masking schedule".
        entries: Those that are there from the start, by name.

    Example:
        >>> SCHEDULES: Registry[MaskingSchedule] = Registry("masking schedule")
        >>> @SCHEDULES.register("linear")
        ... class LinearSchedule: ...
        >>> SCHEDULES.build("linear")
    """

    def __init__(self, kind: str, entries: Mapping[str, T] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries or {})
        self._old_names: dict[str, str] = {}
        self._built: dict[str, T] = {}

    def register(self, name: str, *old_names: str) -> Callable[[Entry], Entry]:
        """Add the decorated class or function under a name; `old_names` are read and mean the same.

        Raises:
            ValueError: the name is taken by another entry.
        """

        def add(entry: Entry) -> Entry:
            self.add(name, entry)
            self._old_names |= dict.fromkeys(old_names, name)
            return entry

        return add

    def add(self, name: str, entry: object) -> None:
        """Add an entry under a name.

        Raises:
            ValueError: the name is taken by another entry.
        """
        if self._entries.setdefault(name, entry) is not entry:
            raise ValueError(f"The {self.kind} `{name}` is registered already.")

    def items(self) -> ItemsView[str, T]:
        """All names with what is registered under them, not built, in the order in which they were registered.

        Entries of other packages are among them after `load_extensions`.
        """
        return self._entries.items()

    def __getitem__(self, name: str) -> T:
        """What is registered under a known name, not built; a KeyError where there is nothing."""
        found: T = self._entries[name]
        return found

    def names(self) -> tuple[str, ...]:
        """The names, in the order in which they were registered."""
        return tuple(self._entries)

    def canonical(self, spec: str, key: str) -> str:
        """The name and parameters of `spec` with a present name in the place of an old one.

        Args:
            spec: `name` or `name:parameter=value,…`.
            key: The setting that holds it, for the error message.

        Raises:
            ConfigError: no such entry, no such parameter, or a value that the parameter cannot have.
        """
        name, separator, parameters = str(spec).partition(":")
        name = self._old_names.get(name, name)
        self._parameters(self._entry(name, key), parameters, key)
        return name + separator + parameters

    def build(self, spec: str, key: str | None = None) -> T:
        """The object that `spec` stands for.

        Raises:
            ConfigError: as for `canonical`.
        """
        if spec in self._built:
            return self._built[spec]
        key = key or self.kind
        name, _, parameters = self.canonical(spec, key).partition(":")
        entry = self._entries[name]
        given = self._parameters(entry, parameters, key)
        built: Any = entry(**given) if _is_complete(entry) else partial(entry, **given)
        self._built[spec] = built
        return self._built[spec]

    def entry(self, name: str) -> T:
        """The class or function that is registered under a name, not built.

        Raises:
            ConfigError: there is none.
        """
        found: T = self._entry(name, self.kind)
        return found

    def find(self, name: str) -> T | None:
        """What is registered under a name, not built; None where no package registers it."""
        if name not in self._entries:
            load_extensions()
        found: T | None = self._entries.get(name)
        return found

    def _entry(self, name: str, key: str) -> Any:  # noqa: ANN401 - a class, a function or an object
        failed = [] if name in self._entries else load_extensions()
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, n=1)
        hints = [f"Did you mean {near[0]}?"] if near else []
        raise ConfigError(
            f"{key} is {name!r}; it must be one of {', '.join(self.names())}.",
            "\n".join([*hints, *failed]) or None,
        )

    def _parameters(self, entry: Callable[..., Any], text: str, key: str) -> dict[str, Any]:
        known = {
            name: parameter
            for name, parameter in inspect.signature(entry).parameters.items()
            if parameter.default is not parameter.empty
        }
        given: dict[str, Any] = {}
        for item in filter(None, text.split(",")):
            name, _, value = (part.strip() for part in item.partition("="))
            if name not in known:
                accepted = f"it has {', '.join(known)}" if known else "it has none"
                raise ConfigError(f"{key} has a parameter {name!r} that does not exist ({accepted}).")
            given[name] = _read(value, known[name].default, f"{name} of {key}")
        try:
            if _is_complete(entry):
                entry(**given)  # a class checks its own ranges
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None
        return given


def _is_complete(entry: Callable[..., Any]) -> bool:
    """Whether an entry is a class that needs no more than its parameters."""
    required = (p for p in inspect.signature(entry).parameters.values() if p.default is p.empty)
    return isinstance(entry, type) and next(required, None) is None


def _read(value: str, default: object, what: str) -> object:
    """A parameter's value from its text, of the type of its default."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        return kind(value)  # type: ignore[call-arg]
    except (KeyError, ValueError):
        raise ConfigError(f"{what} is {value!r}; it must be of type {kind.__name__}.") from None


def load_extensions() -> list[str]:
    """Import the modules of `sgdd.extensions`, which add their entries; returns a sentence for each that fails."""
    failed = []
    for point in extension_points(tuple(sys.path)):
        try:
            load_plugin(point)
        except BrokenPlugin as error:  # a broken package must not break the others
            failed.append(f"The extension `{point.name}` ({point.value}) is broken: {error}")
    return failed


@lru_cache(maxsize=1)
def extension_points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001 - the key
    """The entry points of what is installed in `sys.path`: the search takes 13 ms, and each unknown name asks."""
    return tuple(entry_points(group=EXTENSIONS))
