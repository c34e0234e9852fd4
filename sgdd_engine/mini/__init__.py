"""The small trained model that comes with sgdd, by the name `mini`: English sentences from MiniLM vectors.

`checkpoint/` is a checkpoint folder like any other, with its model card; `sentences.txt` holds sentences that were
written for sgdd and stand in no book, so that the model can be tried and scored without any other text. How it was
made stands in `examples/mini/`.
"""

from importlib.resources import files
from pathlib import Path

from sgdd_engine.errors import CheckpointError

MINI = "mini"
# Resources of an installed package are files; torch cannot be imported from an archive anyway.
_HERE = Path(str(files(__name__)))
CHECKPOINT = _HERE / "checkpoint"
SENTENCES = _HERE / "sentences.txt"


def mini_is_here() -> bool:
    """Whether this installation carries the model."""
    return (CHECKPOINT / "config.json").is_file()


def mini_folder() -> Path:
    """The checkpoint folder of `mini`; nothing ever writes there.

    Raises:
        CheckpointError: this installation does not carry it.
    """
    if not mini_is_here():
        raise CheckpointError(
            f"This installation of sgdd does not carry the model `{MINI}`.",
            "Install sgdd again, or train a model of your own: sgdd train",
        )
    return CHECKPOINT


def is_mini(folder: Path) -> bool:
    """Whether a folder is the one of `mini`, whichever way its path is written."""
    return folder.resolve() == CHECKPOINT.resolve()
