"""What a shell completes: the models on this machine, prepared corpora, and settings with their values.

Nothing is verified and no torch is loaded: a shell waits for the answer. A failure completes nothing.
"""

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
    """`section.key=` with what it means; behind the `=`, the values of a setting that has names for them."""
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - loads pydantic

    key, equals, value = incomplete.partition("=")
    if not equals:
        return [(f"{known}=", option.help) for known, option in OPTIONS.items() if known.startswith(key)]
    if (option := OPTIONS.get(key)) is None:
        return []
    kinds = [option.annotation, *get_args(option.annotation)]
    names = [str(name) for kind in kinds if get_origin(kind) is Literal for name in get_args(kind)]
    if option.registry is not None:
        names += option.registry.names()
    if bool in kinds:
        names += ["true", "false"]
    return [(f"{key}={name}", "") for name in dict.fromkeys(names) if name.startswith(value)]


def _completes(name: str, incomplete: str) -> bool:
    """Whether a name of a folder is offered; none that would drive the terminal of the shell."""
    return name.startswith(incomplete) and name == visible(name)
