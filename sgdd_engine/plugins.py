"""How sgdd imports what another package adds by an entry point, and the version of the interface between the two."""

import contextlib
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

API = 1
"""Version of the interface for plugins: `sgdd_cli.plugin_api`, the registries, and what an entry of each kind must be.

A package states the version it was written for as `SGDD_API = 1` in its top-level `__init__.py`, or in its only module.
It rises when something that plugins use is removed or changes its meaning; what is added does not raise it. A package
that states none is taken for one of version 1.
"""
STATEMENT = "SGDD_API"


class BrokenPlugin(Exception):  # noqa: N818 - it is caught, and told as a part of a sentence
    """Why a plugin cannot be used, as the end of a sentence.

    Args:
        reason: What is wrong with it.
        hint: What to do about it; None where only its author can do something.
    """

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


def load_plugin(point: EntryPoint) -> Any:  # noqa: ANN401 - whatever the entry point names
    """Import what an entry point names.

    What its modules print meanwhile is no data of the command that is running, and goes to standard error.

    Raises:
        BrokenPlugin: it cannot be imported, or was written for another version of the interface.
    """
    with contextlib.redirect_stdout(sys.stderr):
        try:
            _check_version(import_module(point.module.partition(".")[0]))
            return point.load()
        except BrokenPlugin:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # A plugin that calls sys.exit, or raises what only the interpreter should, is broken like any other. A
            # subclass of SystemExit is how a signal handler of this program ends it.
            if isinstance(error, SystemExit) and type(error) is not SystemExit:
                raise
            raise BrokenPlugin(reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    """An exception in one line: its type and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"


def _check_version(package: Any) -> None:  # noqa: ANN401 - a module with attributes of its own
    stated = getattr(package, STATEMENT, API if package.__name__ == "sgdd_engine" else 1)
    if type(stated) is not int:
        raise BrokenPlugin(f"its {STATEMENT} is {stated!r}, and must be a whole number such as {API}")
    if stated != API:
        older, newer = ("this sgdd", "sgdd") if stated > API else ("it", "this package")
        raise BrokenPlugin(
            f"it was written for version {stated} of sgdd's plugin interface, and this sgdd has version {API}",
            f"{older.capitalize()} is the older of the two; install a newer version of {newer}.",
        )
