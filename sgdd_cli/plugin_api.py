"""What a plugin may use of sgdd's command line, kept stable: everything that this module exports, and nothing else.

The names below, their arguments and what they write stay as they are while `API` has the same value; arguments with
defaults may be added. From the engine these are stable in the same way: what `sgdd_engine`, `sgdd_engine.generation`,
`sgdd_engine.vectors`, `sgdd_engine.errors` and `sgdd_engine.events` export, and the registries of
`.github/CONTRIBUTING.md`. A package states the version it was written for as `SGDD_API = 1` in its `__init__.py`; sgdd
refuses one that does not fit, with a sentence.

- Data goes to standard output: `emit` (one line), `emit_lines`, `emit_json`, `emit_table`, `new_table`; `AsJson` is the
  option `--json`.
- Everything else goes to standard error: `say` (not with `--quiet`), `say_next` (commands that may follow, made by
  `command_line`), `warn`, `ProgressDisplay` (bars on a terminal and in a notebook, lines elsewhere).
- `DecodingOptions` with `with_decoding_options` are the options of a command that writes text: `--checkpoint`,
  `--steps`, `--cfg`, `--candidates`, …, `--config` and `--set`; `resolve()` checks them and gives what loads the model.
- A command that needs a model and no decoding takes `Checkpoint` and `Device`, and calls `load_model`.
- `ConfigFiles` and `Assignments` are `--config` and `--set`; `load_settings` reads them. sgdd's own settings have
  sections of their own, and unknown ones are errors: a plugin's options are flags.
- `read_texts` gives texts that are arguments, and with `-` the lines of standard input; `batches` makes lists of them.
- A failure that a user can correct is an `SgddError` with a sentence and a hint; `sgdd` shows both and ends with 1.

Importing this module loads neither torch nor the models, so that `sgdd --help` stays quick; import the engine inside
the command. `examples/plugin` is a complete package.
"""

from typing import TYPE_CHECKING

from sgdd_cli.console import (
    command_line,
    emit,
    emit_json,
    emit_lines,
    emit_table,
    new_table,
    say,
    say_next,
    warn,
)
from sgdd_cli.decoding_options import DecodingOptions, Writing, with_decoding_options
from sgdd_cli.flags import AsJson, Assignments, Checkpoint, ConfigFiles, Device, Encoder, setting
from sgdd_cli.input_texts import batches, read_texts
from sgdd_cli.models import load_model
from sgdd_cli.progress import ProgressDisplay
from sgdd_engine.errors import ConfigError, DataError, SgddError
from sgdd_engine.plugins import API

if TYPE_CHECKING:
    from sgdd_cli.settings import load_settings

__all__ = [
    "API",
    "AsJson",
    "Assignments",
    "Checkpoint",
    "ConfigError",
    "ConfigFiles",
    "DataError",
    "DecodingOptions",
    "Device",
    "Encoder",
    "ProgressDisplay",
    "SgddError",
    "Writing",
    "batches",
    "command_line",
    "emit",
    "emit_json",
    "emit_lines",
    "emit_table",
    "load_model",
    "load_settings",
    "new_table",
    "read_texts",
    "say",
    "say_next",
    "setting",
    "warn",
    "with_decoding_options",
]


def __getattr__(name: str) -> object:
    """`load_settings` is imported when it is asked for: pydantic takes longer to load than all else here."""
    if name == "load_settings":
        from sgdd_cli.settings import load_settings  # noqa: PLC0415

        return load_settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
