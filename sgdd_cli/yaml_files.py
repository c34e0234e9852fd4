"""A YAML file of settings, read within the bounds of `sgdd_engine.bounded_files`."""

from pathlib import Path
from typing import Any

import yaml

from sgdd_engine.bounded_files import MOST_DEPTH, MOST_SETTINGS_BYTES, UnreadableError, read_text, shortened

# With aliases, a few lines may stand for any number of values. There are some hundred settings.
_MOST_VALUES = 10_000


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - any YAML value
    """The value of a YAML file.

    Raises:
        UnreadableError: as for `read_text`; it is no YAML, nested too deep, contains itself, stands for too many
            values once its aliases are written out, or has a key twice.
    """
    text = read_text(path, MOST_SETTINGS_BYTES)
    try:
        loader = yaml.SafeLoader(text)
        loader.name = path.name  # in the library's messages
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root, path)
        return loader.construct_document(root)
    except RecursionError as error:
        raise UnreadableError(path, f"it is nested more than {MOST_DEPTH} deep") from error
    except UnreadableError:
        raise
    # An impossible date is a ValueError, `!!int ""` an IndexError, `!!bool x` a KeyError ...
    except Exception as error:
        raise UnreadableError(path, " ".join(str(error).split()).rstrip(".")) from error


def _check(root: yaml.Node, path: Path) -> None:
    """Walk through a document with its aliases written out, as far as the bounds."""
    left, count = [(root, 1)], 1
    while left:
        node, depth = left.pop()
        inside = _inside(node, path)
        count += len(inside)
        if depth > MOST_DEPTH:
            raise UnreadableError(path, f"it is nested more than {MOST_DEPTH} deep, or contains itself")
        if count > _MOST_VALUES:
            raise UnreadableError(path, f"it stands for more than {_MOST_VALUES:,} values")
        left.extend((part, depth + 1) for part in inside)


def _inside(node: yaml.Node, path: Path) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UnreadableError(path, f"line {line:,} has the key {shortened(key.value)!r} once more")
            seen.add(key.value)
    return [part for pair in node.value for part in pair]
