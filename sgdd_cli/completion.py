"""What a shell completes: the models on this machine, prepared corpora, and settings with their values.

Nothing is verified and no torch is loaded: a shell waits for the answer. A failure completes nothing.
"""

import shlex
from collections.abc import MutableMapping
from typing import Literal, get_args, get_origin

from sgdd_cli.default_paths import RUNS, prepared_corpora
from sgdd_engine.visible_text import visible


def complete_checkpoint(incomplete: str) -> list[str]:
    """Runs, `mini`, and models in the hub's cache."""
    from sgdd_engine.checkpoint import model_names  # noqa: PLC0415 - `sgdd --help` need not load it

    return [name for name in model_names(RUNS) if _completes(name, incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Runs."""
    from sgdd_engine.checkpoint import model_names  # noqa: PLC0415 - as above

    return [name for name in model_names(RUNS, only_runs=True) if _completes(name, incomplete)]


def complete_corpus(incomplete: str) -> list[str]:
    """Prepared corpora, the newest first."""
    return [name for name in map(str, prepared_corpora()) if _completes(name, incomplete)]


def complete_assignment(incomplete: str) -> list[tuple[str, str]]:
    """`section.key=` with what it means; after the `=`, the values of a setting that has names for them.

    A key that is found alone comes with its values, or its default, so that no shell ends the word after the `=`.
    """
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - loads pydantic

    if _before_the_word:
        key = _before_the_word[-1]
        return [(name, "") for name in _values(key) if name.startswith(incomplete)]
    key, equals, value = incomplete.partition("=")
    if equals:
        return [(f"{key}={name}", "") for name in _values(key) if name.startswith(value)]
    found = [(f"{known}=", option.help) for known, option in OPTIONS.items() if known.startswith(key)]
    if len(found) > 1 or not found:
        return found
    (assigned, _), key = found[0], found[0][0].removesuffix("=")
    return [*found, *((assigned + name, "") for name in _values(key) or [str(OPTIONS[key].default).lower()])]


def _values(key: str) -> list[str]:
    """The values of a setting that has names for them."""
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - loads pydantic

    if (option := OPTIONS.get(key)) is None:
        return []
    kinds = [option.annotation, *get_args(option.annotation)]
    names = [str(name) for kind in kinds if get_origin(kind) is Literal for name in get_args(kind)]
    if option.registry is not None:
        names += option.registry.names()
    if bool in kinds:
        names += ["true", "false"]
    return list(dict.fromkeys(names))


# The key before the `=` where bash asks for the value as a word of its own.
_before_the_word: list[str] = []


def join_words_of_bash(environment: MutableMapping[str, str]) -> None:
    """Join the words that bash has split at `=` and `:`, in the variables by which it asks for completions.

    Of `--set sample.position_rule=mar` bash makes four words, and it replaces the last one alone. So the value is then
    the word that is completed, and its key is kept aside.

    Args:
        environment: Of this process; it is changed where bash asks.
    """
    if environment.get("_SGDD_COMPLETE") != "complete_bash":
        return
    try:
        words, at = shlex.split(environment["COMP_WORDS"]), int(environment["COMP_CWORD"])
    except (KeyError, ValueError):  # as with a quote that is open
        return
    words = [*words[:at], words[at] if at < len(words) else ""]
    joined: list[str] = []
    for index, word in enumerate(words):
        splits = word in ("=", ":") or (index > 0 and words[index - 1] in ("=", ":"))
        if splits and len(joined) > 1:
            joined[-1] += word
        else:
            joined.append(word)
    option, equals, assigned = joined[-1].partition("=")
    if equals and option.startswith("-"):
        joined[-1:] = [option, assigned]
    key, equals, value = joined[-1].partition("=")
    if equals:
        _before_the_word.append(key)
        joined[-1] = value
    environment["COMP_WORDS"] = shlex.join(joined)
    environment["COMP_CWORD"] = str(len(joined) - 1)


def _completes(name: str, incomplete: str) -> bool:
    """Whether a name of a folder is offered; none that would drive the terminal of the shell."""
    return name.startswith(incomplete) and name == visible(name)
